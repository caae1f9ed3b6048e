"""Who finds faces on this host: its folders, and its own MediaPipe model where the file is."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import folder_paths

from ..face.sources import FaceSources, advise
from .files import INSIGHTFACE, searched_folders

FOLDER, NAME = "detection", "mediapipe_face"


def face_sources(
    detector: str = "auto",
    landmarker: Any = None,
    points: str = "",
    landmarks: Any = None,
    boxes: Any = None,
) -> FaceSources:
    """The sources of a node, with what the host has; see `FaceSources`."""
    folders = searched_folders(INSIGHTFACE)
    host = _host_landmarker()
    return FaceSources(detector, folders, landmarker, points, landmarks, boxes, host)


def words_of_loader() -> str:
    """What the loader of everything says: all is there, but for what would find faces better."""
    return f"All files found. {advise(face_sources())}".strip()


def _host_landmarker() -> Callable[[], Any] | None:
    """What loads the model, as the host's own loader does; None where file or node is absent."""
    try:
        names = sorted(n for n in folder_paths.get_filename_list(FOLDER) if NAME in n)
        from comfy_extras.nodes_mediapipe import FaceLandmarkerModel
    except (KeyError, ImportError):  # a host from before it had them
        return None
    path = folder_paths.get_full_path(FOLDER, names[0]) if names else None
    if path is None:
        return None
    return lambda: _load(FaceLandmarkerModel, path, Path(path).stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _load(kind: Callable[[Any], Any], path: str, _changed: int) -> Any:
    import comfy.utils

    return kind(comfy.utils.load_torch_file(path, safe_load=True))
