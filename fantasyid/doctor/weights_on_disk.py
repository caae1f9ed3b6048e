"""The model files: where each was found or looked for, what it really is, and its licence."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..weights.content import Content, inspect_file, is_real
from ..weights.download.files import FILES, ModelFile, in_words
from ..weights.download.present import Places, find
from ..weights.fingerprint import sha256_of_file
from ..weights.read import model_files
from .findings import ERROR, NOTE, OK, WARNING, Finding

SUFFIXES = (".safetensors", ".sft", ".pt", ".pth", ".bin", ".tar", ".pkl")
SHARD = re.compile(r"-\d+-of-\d+\.")
PICKLES_BELOW = 1_000_000_000  # bytes; a larger pickle is not opened only to see what it is
# Hashes of generated stand-ins, beside which they lie.
TINY_MANIFEST = "fantasyid_tiny.json"
HASHED_AT_ONCE = 2_000_000  # bytes; a small file is compared without being asked


@dataclass(frozen=True, slots=True)
class Place:
    """A file that was found for an entry of the table."""

    path: Path
    content: Content
    renamed: bool


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
        items: The table.
        report: Called with the bytes of each piece that is hashed; may raise to stop.
    """
    contents, hashing = _Contents(), _Hashing(deep, _tiny_hashes(places), report)
    return [_check(item, places, hashing, contents) for item in items]


def found_file(kind: str, places: Places) -> Content | None:
    """The content of the file of a kind that is there and whole, or None."""
    contents = _Contents()
    for item in FILES:
        if item.kind == kind and item.folder in places:
            place = _locate(item, places, contents)
            if isinstance(place, Place):
                return place.content
    return None


@dataclass(frozen=True, slots=True)
class _Hashing:
    """Whether large files are hashed, the hashes of tiny files, and who hears of progress."""

    deep: bool
    tiny: set[str]
    report: Callable[[int], None]


class _Contents:
    """What files are, each looked at once."""

    def __init__(self) -> None:
        self._known: dict[Path, Content | str] = {}

    def of(self, path: Path) -> Content | str:
        """The content, or what is wrong with the file."""
        if path not in self._known:
            try:
                self._known[path] = inspect_file(path)
            except (ValueError, OSError) as error:
                self._known[path] = str(error)
        return self._known[path]


def _check(item: ModelFile, places: Places, hashing: _Hashing, contents: _Contents) -> Finding:
    facts: dict[str, Any] = {
        "name": item.name,
        "kind": item.kind,
        "licence": item.license,
        "searched": [str(folder) for folder in places.get(item.folder, ())],
        "path": "",
        "state": "missing",
    }
    place = _locate(item, places, contents) if places.get(item.folder) else None
    if place is None:
        return _missing(item, places, facts)
    if isinstance(place, tuple):
        path, problem = place
        facts |= {"path": str(path), "state": "damaged"}
        level = ERROR if item.needed else WARNING
        return Finding(level, "file", f"{item.name}: {problem}.", facts)
    return _there(item, place, hashing, facts)


def _locate(
    item: ModelFile, places: Places, contents: _Contents
) -> Place | tuple[Path, str] | None:
    """The file of an entry, or a file of its name with what is wrong with it, or None."""
    named = find(item, places, substitutes=True)
    if named is not None:
        content = contents.of(named)
        if isinstance(content, Content) and _fits(item, content):
            return Place(named, content, renamed=False)
        words = content if isinstance(content, str) else f"{named} is another file: {content.words}"
        return named, words
    wrong = _unusable_folder(item, places, contents)
    if wrong is not None or not item.needed:
        return wrong
    for path in _candidates(item, places):
        content = contents.of(path)
        if isinstance(content, Content) and _fits(item, content):
            return Place(path, content, renamed=True)
    return None


def _fits(item: ModelFile, content: Content) -> bool:
    # An adapter alone does the work of the whole folder, with a base from another loader.
    kinds = ("transformer", "adapter") if item.kind == "transformer" else (item.kind,)
    return content.kind in kinds


def _unusable_folder(
    item: ModelFile, places: Places, contents: _Contents
) -> tuple[Path, str] | None:
    """The model folder that is there but lacks pieces."""
    if item.kind != "transformer":
        return None
    for root in places[item.folder]:
        folder = root / item.target
        if any((folder / name).is_dir() for name in ("transformer", "transformer_ema")):
            problem = contents.of(folder)
            return (folder, problem) if isinstance(problem, str) else None
    return None


def _candidates(item: ModelFile, places: Places) -> Iterator[Path]:
    """Files and model folders under other names, in the folders that are searched."""
    for root in places[item.folder]:
        for folder, inner, names in os.walk(root, followlinks=True):
            if item.kind == "transformer" and {"transformer", "transformer_ema"} & set(inner):
                yield Path(folder)
            for name in sorted(names):
                path = Path(folder, name)
                if path.suffix in SUFFIXES and not SHARD.search(name) and _quick_to_read(path):
                    yield path


def _quick_to_read(path: Path) -> bool:
    headers = path.suffix in (".safetensors", ".sft")
    return headers or (path.is_file() and path.stat().st_size < PICKLES_BELOW)


def _missing(item: ModelFile, places: Places, facts: dict[str, Any]) -> Finding:
    folders = ", ".join(facts["searched"]) or f"no folder {item.folder} is known"
    text = f"{item.name} ({item.words}) is not there. Searched: {folders}."
    elsewhere = _elsewhere(item, places)
    if elsewhere is not None:
        facts |= {"state": "wrong folder", "path": str(elsewhere)}
        text += f" A file of its name is in {elsewhere.parent}: move it."
    else:
        text += f" To get it: {item.how_to_get()}."
    facts["half"] = [str(p) for p in _halves(item, places)]
    if facts["half"]:
        text += " A download of it was stopped; the same download goes on from there."
    if item.kind == "deca":
        text += " Without it a head from a file (FantasyID Load Vertices) still works."
    return Finding(ERROR if item.needed else NOTE, "file", text, facts)


def _halves(item: ModelFile, places: Places) -> list[Path]:
    """Downloads that were stopped half way."""
    targets = [root / item.target for root in places.get(item.folder, ())]
    beside = (path for target in targets for path in target.parent.glob(f"{target.name}.*.part"))
    inside = (path for target in targets for path in target.rglob("*.part"))
    return [path for path in (*beside, *inside) if path.is_file()]


def _elsewhere(item: ModelFile, places: Places) -> Path | None:
    """A file of the right name in a folder of another kind, below the same `models` folder."""
    if item.kind == "transformer":
        return None
    name = item.target.rpartition("/")[2]
    roots = {folder.parent for folders in places.values() for folder in folders}
    for root in sorted(roots):
        for folder in sorted(p for p in root.glob("*") if p.is_dir()):
            if (folder / name).is_file():
                return folder / name
    return None


def _there(item: ModelFile, place: Place, hashing: _Hashing, facts: dict[str, Any]) -> Finding:
    content = replace(place.content, real=is_real(place.content, item.size))
    hashed = _compare_hashes(item, place.path, hashing)
    known_tiny = hashed["hash"] == "tiny"
    real = False if known_tiny else (True if hashed["hash"] == "released" else content.real)
    size = {True: "real size", False: "a tiny stand-in", None: "tiny or real: cannot be told"}
    facts |= {
        "path": str(place.path),
        "state": "there",
        "size": content.size,
        "tensors": content.tensors,
        "content": content.kind,
        "real": real,
        **hashed,
    }
    text = (
        f"{item.name}: {place.path}, {in_words(content.size)}, {content.tensors} tensors, "
        f"{size[real]}, license: {item.license}."
    )
    if hashed["hash"] == "other":
        text += " Its SHA-256 is not that of the release: another version, or changed bytes."
        return Finding(WARNING, "file", text, facts)
    if hashed["hash"] == "unknown" and hashing.deep:
        text += " Its SHA-256 is in the JSON; none is known here to compare it with."
    if place.renamed:
        text += " It has another name than the release: choose it in the loader."
    if content.kind == "adapter":
        text += " It is the adapter alone: load a CogVideoX-5B-I2V with Load Diffusion Model too."
    if real is False:
        text += " Videos made with it show nothing."
    return Finding(NOTE if real is False else OK, "file", text, facts)


def _compare_hashes(item: ModelFile, path: Path, hashing: _Hashing) -> dict[str, Any]:
    """SHA-256 of the files behind a path against those that are known.

    "hash" is "released", "tiny", "other", "unknown" (none to compare with) or "not asked".
    """
    files = model_files(path)
    total = sum(file.stat().st_size for file in files)
    if not hashing.deep and (len(files) > 1 or total > HASHED_AT_ONCE):
        return {"hash": "not asked", "sha256": {}}
    hashes = {file.name: sha256_of_file(file, hashing.report) for file in files}
    if hashing.tiny and set(hashes.values()) <= hashing.tiny:
        state = "tiny"
    elif not item.sha256 or path.name != item.target:
        state = "unknown"
    else:
        state = "released" if set(hashes.values()) == {item.sha256} else "other"
    return {"hash": state, "sha256": hashes}


def _tiny_hashes(places: Places) -> set[str]:
    """What the generator of tiny files wrote down about them."""
    found: set[str] = set()
    for root in {folder.parent for folders in places.values() for folder in folders}:
        try:
            content = json.loads((root / TINY_MANIFEST).read_text("utf-8"))
        except (OSError, ValueError):
            continue
        hashes = content.get("sha256") if isinstance(content, Mapping) else None
        found |= set(map(str, hashes.values())) if isinstance(hashes, Mapping) else set()
    return found
