"""insightface's detector, for people who have it: five points, non-commercial models.

Nothing here downloads anything.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .faces import ALTERNATIVES, DetectedFace, as_bytes, left_to_right, make_face

_PACKS = ("antelopev2", "buffalo_l")


def find_insightface_pack(models_dir: Path) -> Path:
    """The folder with insightface's ONNX files: antelopev2, else buffalo_l, else any other.

    Args:
        models_dir: Looked through itself, its `models` folder, and one level deeper, because
            antelopev2.zip unpacks to `antelopev2/antelopev2`.

    Raises:
        FileNotFoundError: There is none; the message says where it was looked for.
    """
    places: list[Path] = []
    for root in (models_dir / "models", models_dir):
        others = sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
        for pack in (*(root / name for name in _PACKS), *others):
            places += [pack, pack / pack.name]
    places.append(models_dir)
    looked: list[str] = []
    for place in places:
        if any(place.glob("*.onnx")):
            return place.resolve()
        looked.append(str(place))
    raise FileNotFoundError(
        "no insightface model pack (*.onnx) in " + ", ".join(dict.fromkeys(looked)) + ". "
        f"{where_to_get_a_pack(models_dir)} {ALTERNATIVES}"
    )


def where_to_get_a_pack(models_dir: Path) -> str:
    """What a person does who has no detector file."""
    root = models_dir if models_dir.name == "models" else models_dir / "models"
    return (
        "Get antelopev2.zip from the releases page of deepinsight/insightface (non-commercial "
        f"research only) and unpack it to {root / 'antelopev2'}."
    )


def detect_with_insightface(photo: Tensor, models_dir: Path) -> list[DetectedFace]:
    """Faces of one photo `(H, W, 3)` with five points; see `open_insightface`."""
    return open_insightface(models_dir)(photo)


def open_insightface(models_dir: Path) -> Callable[[Tensor], list[DetectedFace]]:
    """insightface's SCRFD detector on the CPU, loaded once for many photos.

    Args:
        models_dir: See `find_insightface_pack`.

    Returns:
        A function from `(H, W, 3)` RGB in [0, 1] to faces from left to right.

    Raises:
        ImportError: insightface or its onnxruntime is not installed.
        FileNotFoundError: There is no model pack, or none with a detector; nothing is downloaded.
    """
    try:
        from insightface.app import FaceAnalysis
    except ImportError as error:
        raise ImportError(
            f"the insightface detector cannot be used ({error}); it needs insightface and "
            f"onnxruntime. {ALTERNATIVES}"
        ) from error
    pack = find_insightface_pack(models_dir)
    # An absolute path as the name: the folder exists, so insightface has nothing to download.
    try:
        app = FaceAnalysis(
            name=str(pack), allowed_modules=["detection"], providers=["CPUExecutionProvider"]
        )
    except AssertionError as error:  # what insightface raises for a pack without a detector
        raise FileNotFoundError(
            f"none of the *.onnx files in {pack} is a face detector (antelopev2 has "
            f"scrfd_10g_bnkps.onnx). {where_to_get_a_pack(models_dir)} {ALTERNATIVES}"
        ) from error
    app.prepare(ctx_id=-1, det_size=(640, 640))
    return lambda photo: _detect(app, photo, f"insightface {pack.name}")


def _detect(app: Any, photo: Tensor, detector: str) -> list[DetectedFace]:
    """Faces from left to right by a prepared `FaceAnalysis`."""
    pixels = np.ascontiguousarray(as_bytes(photo)[..., ::-1])  # BGR
    found, margin = look_with_margin(app.get, pixels, len)
    return left_to_right(
        [
            make_face(
                np.asarray(face.bbox) - margin,
                None if face.kps is None else np.asarray(face.kps) - margin,
                face.det_score,
                detector,
            )
            for face in found
        ]
    )


def look_with_margin(
    look: Callable[[NDArray[np.uint8]], Any], pixels: NDArray[np.uint8], count: Callable[[Any], int]
) -> tuple[Any, int]:
    """What a look at `(H, W, 3)` finds; where that is nothing, a second look with a margin.

    SCRFD overlooks a face that fills the picture; with a margin it is small enough.

    Returns:
        What `look` gave, and by how many pixels it is shifted to the right and down.
    """
    found = look(pixels)
    if count(found):
        return found, 0
    margin = max(pixels.shape[:2]) // 2
    return look(np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)))), margin
