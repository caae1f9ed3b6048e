"""SHA-256 of whatever decides about a result, so that a second person has the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...weights.fingerprint import sha256_of_file
from .journal import Journal

# Folders of `models` in which the file of a loader's input may lie.
MODEL_FOLDERS = {
    ("FantasyIDModelLoader", "model"): ("fantasyid", "diffusion_models"),
    ("FantasyIDModelLoader", "mesh_transforms"): ("fantasyid",),
    ("FantasyIDAdapterLoader", "adapter"): ("fantasyid",),
    ("FantasyIDFaceEncoderLoader", "face_encoder"): ("fantasyid",),
    ("FantasyIDDecaLoader", "deca"): ("fantasyid",),
    ("FantasyIDDecaLoader", "flame"): ("fantasyid",),
    ("UNETLoader", "unet_name"): ("diffusion_models", "unet"),
    ("CLIPLoader", "clip_name"): ("text_encoders", "clip"),
    ("VAELoader", "vae_name"): ("vae",),
}
_WEIGHTS = (".safetensors", ".json", ".bin", ".pt", ".pth")
_PACKAGE = Path(__file__).resolve().parents[2]


def sha256_of_value(value: Any) -> str:
    """Of anything that is JSON; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of_code(*folders: str) -> str:
    """Of this package's own Python files, all of them or those of some folders.

    Line endings do not count.
    """
    roots = [_PACKAGE / folder for folder in folders] or [_PACKAGE]
    files = sorted({path for root in roots for path in root.rglob("*.py")})
    texts = {p.relative_to(_PACKAGE).as_posix(): p.read_text("utf-8") for p in files}
    return sha256_of_value(texts)


def remembered_sha256(path: Path, journal: Journal) -> str:
    """Of a large file, which is read again only when it has changed."""
    stat = path.stat()
    state = [stat.st_size, stat.st_mtime_ns]
    known = journal.last("file", str(path))
    if known is None or known["state"] != state:
        journal.add("file", str(path), state=state, sha256=sha256_of_file(path))
        known = journal.last("file", str(path))
    return "" if known is None else str(known["sha256"])


def model_files(graph: dict[str, dict[str, Any]], models: Path) -> dict[str, list[Path]]:
    """The files that the loaders of a workflow name.

    Args:
        graph: API format.
        models: The host's folder `models`.

    Returns:
        Name in the workflow -> its files; none where it is not in that folder.
    """
    found: dict[str, list[Path]] = {}
    for node in graph.values():
        for (class_type, name), folders in MODEL_FOLDERS.items():
            value = node["inputs"].get(name)
            if node["class_type"] == class_type and isinstance(value, str) and value:
                paths = (models / folder / value for folder in folders)
                found[value] = next((_files(p) for p in paths if p.exists()), [])
    return found


def _files(path: Path) -> list[Path]:
    """The file, or the transformer's files of a model folder."""
    if path.is_file():
        return [path]
    inside: Iterable[Path] = (
        path / "transformer" if (path / "transformer").is_dir() else path
    ).rglob("*")
    return sorted(p for p in inside if p.is_file() and p.suffix in _WEIGHTS)
