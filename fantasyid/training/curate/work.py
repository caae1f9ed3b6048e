"""All stages of a file, each one once: what every worker of every engine does."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..config import Curate
from ..manifest import DataError, decode_frames
from .stages import (
    VERSIONS,
    MissingPackage,
    Stretch,
    collect_views,
    find_shots,
    look_for_faces,
    look_for_text,
    open_faces,
    stretches,
)
from .store import Store, key_of


@dataclass(frozen=True, slots=True)
class Work:
    """What every worker does with a file: all stages, each one once.

    Attributes:
        rules: The configuration.
        store: Where results are kept.
        detector: Hash of what finds faces, see `detector_hash`.
    """

    rules: Curate
    store: Store
    detector: str

    def __call__(self, path: str) -> str | None:
        """Do what has not been done for a file.

        Returns:
            Why it must be tried again, for what is no fault of the file's content; else None.
        """
        try:
            content = self.store.content_hash(Path(path))
        except OSError as error:
            return str(error.strerror)
        try:
            found = self._once("shots", self.shots_key(content), lambda: find_shots(Path(path)))
            for shot in found.get("shots", ()):
                for stretch in stretches(found, shot, self.rules):
                    if stretch.size is not None:
                        self._look(Path(path), content, stretch)
        except (MissingPackage, OSError):  # no fault of this file's: nothing can go on
            raise
        except Exception as error:  # noqa: BLE001 (whatever a hostile file sets off in a library)
            return f"{type(error).__name__}: {error}"
        return None

    def is_done(self, path: str) -> bool:
        """Whether all is known of a file; looks at no pixel, and reads no clip."""
        read = self.store.read
        try:
            _, content = self.store.known_hash(Path(path))
        except OSError:
            return False
        found = content and read("shots", self.shots_key(content))
        if not content or not found:
            return False
        for shot in found.get("shots", ()):
            for stretch in stretches(found, shot, self.rules):
                if stretch.size is None:
                    continue
                faces = read("faces", self.key("faces", content, stretch))
                rest = ("text", "views") if faces and any(faces.get("looks", ())) else ()
                if faces is None or any(
                    read(stage, self.key(stage, content, stretch)) is None for stage in rest
                ):
                    return False
        return True

    def shots_key(self, content: str) -> str:
        """Of the stage `shots`."""
        return key_of(content, VERSIONS["shots"])

    def key(self, stage: str, content: str, stretch: Stretch) -> str:
        """Of a stage about a stretch."""
        rules, parts = self.rules, [content, VERSIONS[stage], stretch.start_s]
        parts += [rules.frames, rules.fps, stretch.size if stage != "views" else None]
        return key_of(*parts, self.detector if stage != "text" else None)

    def _look(self, path: Path, content: str, stretch: Stretch) -> None:
        rules = self.rules

        @functools.cache
        def frames() -> list[Tensor]:
            return list(decode_frames(path, stretch.start_s, rules.fps, rules.frames, stretch.size))

        detect = open_faces(rules.detector, rules.face_models)
        faces = self._once(
            "faces", self.key("faces", content, stretch), lambda: look_for_faces(frames(), detect)
        )
        if not any(faces.get("looks", ())):  # whatever the thresholds are
            return
        self._once("text", self.key("text", content, stretch), lambda: look_for_text(frames()))
        views = self.key("views", content, stretch)

        def collect() -> dict[str, Any]:
            seconds = rules.frames / rules.fps
            found, pictures = collect_views(path, stretch.start_s, seconds, detect)
            self.store.write_pictures("views", views, pictures)
            return found

        self._once("views", views, collect)

    def _once(self, stage: str, key: str, find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        known = self.store.read(stage, key)
        if known is None:
            try:
                known = find()
            except MissingPackage:
                raise
            except (DataError, ValueError, ArithmeticError) as error:
                known = {"error": str(error)}
            self.store.write(stage, key, known)
        return known


def detector_hash(rules: Curate, store: Store) -> str:
    """What decides which faces are found: the name, the model files, and whether it is there."""
    files = sorted(p for folder in rules.face_models for p in folder.rglob("*.onnx"))
    packs = importlib.util.find_spec("insightface") is not None
    return key_of(rules.detector, packs, [store.content_hash(path) for path in files])
