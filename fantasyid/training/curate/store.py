"""What stages have found, on disk: one small file per (content, stage, version, settings).

A file is there whole or not at all, and nobody writes one twice with other content, so that a
rerun does nothing, a kill loses one unfinished result, and many machines may share the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

HASHED_AT_ONCE = 1 << 20


def key_of(*words: object) -> str:
    """One key from what a result depends on."""
    text = json.dumps(words, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass(frozen=True, slots=True)
class Store:
    """Results of stages below one folder."""

    root: Path

    def known_hash(self, path: Path) -> tuple[str, str | None]:
        """Key of a file's name, size and time of change, and its `content_hash` if that is kept."""
        state = path.stat()
        key = key_of(str(path), state.st_size, state.st_mtime_ns)
        return key, self.read("hash", key)

    def content_hash(self, path: Path) -> str:
        """Of a file's bytes, which are read once per name, size and time of change."""
        key, known = self.known_hash(path)
        if known is None:
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while block := file.read(HASHED_AT_ONCE):
                    digest.update(block)
            known = digest.hexdigest()[:24]
            self.write("hash", key, known)
        return known

    def read(self, stage: str, key: str) -> Any | None:
        """What a stage found, or None where it has not run (or was cut short by a crash)."""
        try:
            return json.loads(self._place(stage, key, ".json").read_text("utf-8"))
        except (OSError, ValueError):
            return None

    def write(self, stage: str, key: str, result: Any) -> None:
        """Keep what a stage found."""
        text = json.dumps(result, sort_keys=True)
        put(self._place(stage, key, ".json"), lambda p: p.write_text(text, "utf-8"))

    def read_pictures(self, stage: str, key: str) -> dict[str, Tensor] | None:
        """Pictures that a stage kept, or None."""
        try:
            return load_file(self._place(stage, key, ".safetensors"))
        except (OSError, SafetensorError):
            return None

    def write_pictures(self, stage: str, key: str, pictures: dict[str, Tensor]) -> None:
        """Keep pictures beside a result; before it, since a result says that they are there."""
        try:
            put(self._place(stage, key, ".safetensors"), lambda p: save_file(pictures, str(p)))
        except SafetensorError as error:  # the disk, and no fault of the clip
            raise OSError(f"views cannot be written: {error}") from error

    def _place(self, stage: str, key: str, suffix: str) -> Path:
        return self.root / stage / key[:2] / f"{key}{suffix}"


def put(target: Path, write: Callable[[Path], object]) -> None:
    """Put a file in its place whole, or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        write(partial)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
