"""Which model files are there, and what the missing ones cost; without network."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..header import Form, read_header, sniff
from ..progress import in_words
from ..read import model_files
from .files import FILES, ModelFile

# Folder name of the host to the folders behind it; files go into the first.
Places = Mapping[str, Sequence[Path]]


# Other names under which the host has files of a folder.
ALSO = {"text_encoders": ("text_encoders", "clip")}


def folders_below(models: Path) -> dict[str, list[Path]]:
    """Where a host that is not running keeps which files, by its folder `models`."""
    names = sorted({item.folder for item in FILES})
    return {name: [models / folder for folder in ALSO.get(name, (name,))] for name in names}


def comfyui_around() -> Path | None:
    """The ComfyUI that this extension is installed in."""
    here = Path(__file__).absolute().parents
    return here[5] if len(here) > 5 and here[4].name == "custom_nodes" else None


def target_of(item: ModelFile, places: Places) -> Path:
    """Where a file goes."""
    return places[item.folder][0] / item.target


def find(item: ModelFile, places: Places, *, substitutes: bool = False) -> Path | None:
    """Where a model file is, in any folder that is searched, or None.

    Args:
        item: The file; a transformer counts only if all its pieces are there.
        substitutes: Whether a file that does the same work will do.
    """
    if item.kind == "transformer":
        for root in places[item.folder]:
            try:
                model_files(root / item.target)[0].stat()
            except (FileNotFoundError, ValueError):
                continue
            return root / item.target
        return _named(item.instead, places[item.folder]) if substitutes else None
    names = (item.target.rpartition("/")[2], *(item.instead if substitutes else ()))
    return _named(names, places[item.folder])


def _named(names: Sequence[str], roots: Iterable[Path]) -> Path | None:
    for root in roots:
        for folder, _, files in os.walk(root, followlinks=True):
            for name in names:
                if name in files:
                    return Path(folder, name)
    return None


def defect_of(path: Path) -> str | None:
    """What is saved under a file's name instead of it, or that it is cut short, or None."""
    try:
        for file in model_files(path):
            if sniff(file) is Form.SAFETENSORS:
                read_header(file)
    except (ValueError, OSError) as error:
        return str(error)
    return None


def missing(
    items: Iterable[ModelFile], places: Places, *, substitutes: bool = False
) -> list[ModelFile]:
    """The files that are not there."""
    return [item for item in items if find(item, places, substitutes=substitutes) is None]


def offer(items: Iterable[ModelFile], places: Places) -> str:
    """What files cost and whose license they have, before anything is fetched."""
    return "\n".join(
        f"{item.name}: {explain(item, places)}"
        if item.registration
        else f"{item.name}: about {in_words(item.size)} into {target_of(item, places)}. "
        f"License: {item.license}, see {item.page}"
        for item in items
    )


def explain(item: ModelFile, places: Places) -> str:
    """What to do for a file that needs a registration."""
    return (
        f"cannot be fetched for you: {item.registration}; put it into "
        f"{target_of(item, places).parent}. About {in_words(item.size)}. License: {item.license}"
    )
