"""The model files: where each was found or looked for, what it really is, and its license."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from ..weights.content import Content, inspect_file, is_real
from ..weights.download.files import FILES, ModelFile, how_to_get
from ..weights.download.present import Places, find
from ..weights.fingerprint import sha256_of_file
from ..weights.header import read_json
from ..weights.progress import in_words
from ..weights.read import TRANSFORMER_FOLDERS, model_files
from .findings import ERROR, NOTE, OK, WARNING, Finding

SUFFIXES = (".safetensors", ".sft", ".pt", ".pth", ".bin", ".tar", ".pkl")
SHARD = re.compile(r"-\d+-of-\d+\.")
PICKLES_BELOW = 1_000_000_000  # bytes; a larger pickle is not opened only to see what it is
# Hashes of generated stand-ins, beside which they lie.
TINY_MANIFEST = "fantasyid_tiny.json"
HASHED_AT_ONCE = 2_000_000  # bytes; a small file is compared without being asked
# An adapter alone does the work of the whole folder, with a base from another loader.
ALSO_FITS = {"transformer": "adapter"}

# What an exported adapter says of its training, in words.
TOLD = {
    "step": "step",
    "weights": "weights",
    "config_fingerprint": "configuration",
    "data_fingerprint": "data",
}


class Hash(str, Enum):
    """How the SHA-256 of a file compares with those that are known."""

    RELEASED = "released"
    TINY = "tiny"
    OTHER = "other"
    UNKNOWN = "unknown"  # there is none to compare with
    NOT_ASKED = "not asked"


@dataclass(frozen=True, slots=True)
class Place:
    """A file that was found for an entry of the table."""

    path: Path  # the file or model folder
    content: Content | None  # what it is; None where it cannot be used
    problem: str = ""  # why not
    renamed: bool = False  # whether it has another name than the release


@dataclass(frozen=True, slots=True)
class _Search:
    """The folders, and what the files in them are, each looked at once."""

    places: Places
    known: dict[Path, Content | Exception] = field(default_factory=dict)

    def content_of(self, path: Path) -> Content | Exception:
        if path not in self.known:
            try:
                self.known[path] = inspect_file(path)
            except (ValueError, OSError) as error:
                self.known[path] = error
        return self.known[path]

    def locate(self, item: ModelFile) -> Place | None:
        """The file of an entry, usable or not, or None."""
        if not self.places.get(item.folder):
            return None
        named = find(item, self.places, substitutes=True)
        if named is not None:
            content = self.content_of(named)
            if isinstance(content, Exception):
                return Place(named, None, str(content))
            if not _fits(item, content):
                return Place(named, None, f"{named} is another file: {content.words}")
            return Place(named, content)
        broken = self._folder_without_pieces(item)
        if broken is not None or not item.needed:
            return broken
        for path in self._candidates(item):
            content = self.content_of(path)
            if isinstance(content, Content) and _fits(item, content):
                return Place(path, content, renamed=True)
        return None

    def _folder_without_pieces(self, item: ModelFile) -> Place | None:
        for root in self.places[item.folder] if item.kind == "transformer" else ():
            folder = root / item.target
            if any((folder / name).is_dir() for name in TRANSFORMER_FOLDERS):
                problem = self.content_of(folder)
                return Place(folder, None, str(problem)) if isinstance(problem, Exception) else None
        return None

    def _candidates(self, item: ModelFile) -> Iterator[Path]:
        """Files and model folders under other names."""
        for root in self.places[item.folder]:
            for folder, inner, names in os.walk(root, followlinks=True):
                if item.kind == "transformer" and set(TRANSFORMER_FOLDERS) & set(inner):
                    yield Path(folder)
                paths = (Path(folder, name) for name in sorted(names) if not SHARD.search(name))
                yield from (path for path in paths if _quick_to_read(path))

    def elsewhere(self, item: ModelFile) -> Path | None:
        """A file of the right name in a folder of another kind, below the same `models` folder."""
        if item.kind == "transformer":
            return None
        name = item.target.rpartition("/")[2]
        roots = {folder.parent for folders in self.places.values() for folder in folders}
        found = (path for root in sorted(roots) for path in sorted(root.glob(f"*/{name}")))
        return next(found, None)

    def halves(self, item: ModelFile) -> list[str]:
        """Downloads that were stopped half way."""
        targets = [root / item.target for root in self.places.get(item.folder, ())]
        beside = (p for target in targets for p in target.parent.glob(f"{target.name}.*.part"))
        return [str(p) for p in (*beside, *(p for t in targets for p in t.rglob("*.part")))]

    def tiny_hashes(self) -> set[str]:
        """What the generator of tiny files wrote down about them."""
        found: set[str] = set()
        for root in {folder.parent for folders in self.places.values() for folder in folders}:
            try:
                content = read_json(root / TINY_MANIFEST)
            except (OSError, ValueError):
                continue
            hashes = content.get("sha256") if isinstance(content, Mapping) else None
            found |= set(map(str, hashes.values())) if isinstance(hashes, Mapping) else set()
        return found


def _fits(item: ModelFile, content: Content) -> bool:
    return content.kind in (item.kind, ALSO_FITS.get(item.kind))


def _quick_to_read(path: Path) -> bool:
    if path.suffix in (".safetensors", ".sft"):
        return True
    return path.suffix in SUFFIXES and path.is_file() and path.stat().st_size < PICKLES_BELOW


def check_files(
    places: Places,
    *,
    deep: bool = False,
    items: Sequence[ModelFile] = FILES,
    report: Callable[[int], None] = lambda _: None,
) -> list[Finding]:
    """A finding for each model file.

    Args:
        places: Folder name of the host to the folders behind it.
        deep: Compare SHA-256 too, which reads every byte.
        report: Called with the bytes of each piece that is hashed; may raise to stop.
    """
    search = _Search(places)
    tiny = search.tiny_hashes()
    found = []
    for item in items:
        place = search.locate(item)
        facts: dict[str, Any] = {
            "name": item.name,
            "kind": item.kind,
            "licence": item.license,
            "searched": [str(folder) for folder in places.get(item.folder, ())],
            "path": str(place.path) if place else "",
        }
        if place is None:
            found.append(_missing(item, search, facts))
        elif place.content is None:
            level = ERROR if item.needed else WARNING
            text = f"{item.name}: {place.problem}."
            found.append(Finding(level, "file", text, facts | {"state": "damaged"}))
        else:
            state, hashes = _hash(item, place.path, deep, tiny, report)
            facts |= {"hash": state, "sha256": hashes}
            found.append(_there(item, place, place.content, state, deep, facts))
    return found


def found_file(kind: str, places: Places) -> Content | None:
    """The content of the file of a kind that is there and whole, or None."""
    search = _Search(places)
    found = (search.locate(item) for item in FILES if item.kind == kind)
    return next((place.content for place in found if place and place.content), None)


def _missing(item: ModelFile, search: _Search, facts: dict[str, Any]) -> Finding:
    folders = ", ".join(facts["searched"]) or f"no folder {item.folder} is known"
    text = f"{item.name} ({item.words}) is not there. Searched: {folders}."
    elsewhere, half = search.elsewhere(item), search.halves(item)
    facts |= {"state": "missing", "half": half}
    if elsewhere is not None:
        facts |= {"state": "wrong folder", "path": str(elsewhere)}
        text += f" A file of its name is in {elsewhere.parent}: move it."
    else:
        text += f" To get it: {how_to_get(item.name)}."
    text += " A download of it was stopped; the same download goes on from there." * bool(half)
    if item.kind == "deca":
        text += " Without it a head from a file (FantasyID Load Vertices) still works."
    return Finding(ERROR if item.needed else NOTE, "file", text, facts)


def _there(
    item: ModelFile,
    place: Place,
    content: Content,
    state: Hash,
    deep: bool,
    facts: dict[str, Any],
) -> Finding:
    known = {Hash.TINY: False, Hash.RELEASED: True}
    real = known[state] if state in known else is_real(content, item.size)
    size = {True: "real size", False: "a tiny stand-in", None: "tiny or real: cannot be told"}
    facts |= {
        "state": "there",
        "size": content.size,
        "tensors": content.tensors,
        "content": content.kind,
        "real": real,
    }
    text = (
        f"{item.name}: {place.path}, {in_words(content.size)}, {content.tensors} tensors, "
        f"{size[real]}, license: {item.license}."
    )
    if state is Hash.OTHER:
        text += " Its SHA-256 is not that of the release: another version, or changed bytes."
        return Finding(WARNING, "file", text, facts)
    if state is Hash.UNKNOWN and deep:
        text += " Its SHA-256 is in the JSON; none is known here to compare it with."
    if place.renamed:
        text += " It has another name than the release: choose it in the loader."
    if content.kind == "adapter":
        text += " It is the adapter alone: load a CogVideoX-5B-I2V with Load Diffusion Model too."
    if content.trained:
        facts["trained"] = dict(content.trained)
        told = [f"{words} {str(content.trained.get(k, '?'))[:64]}" for k, words in TOLD.items()]
        text += f" Trained by `python -m fantasyid.training`: {', '.join(told)}."
    if real is False:
        text += " Videos made with it show nothing."
    return Finding(NOTE if real is False else OK, "file", text, facts)


def _hash(
    item: ModelFile, path: Path, deep: bool, tiny: set[str], report: Callable[[int], None]
) -> tuple[Hash, dict[str, str]]:
    """SHA-256 of the files behind a path, and how they compare with those that are known."""
    files = model_files(path)
    total = sum(file.stat().st_size for file in files)
    if not deep and (len(files) > 1 or total > HASHED_AT_ONCE):
        return Hash.NOT_ASKED, {}
    hashes = {file.name: sha256_of_file(file, report) for file in files}
    if tiny and set(hashes.values()) <= tiny:
        return Hash.TINY, hashes
    if not item.sha256 or path.name != item.target:
        return Hash.UNKNOWN, hashes
    released = set(hashes.values()) == {item.sha256}
    return Hash.RELEASED if released else Hash.OTHER, hashes
