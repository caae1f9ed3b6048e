"""insightface's detector, for people who have it: five points, non-commercial models.

Nothing here downloads anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .cascade import SEARCHED_SIDE_PX, shrink
from .faces import (
    ALTERNATIVES,
    DetectedFace,
    Detector,
    as_bytes,
    left_to_right,
    make_face,
    to_photo,
)

_PACKS = ("antelopev2", "buffalo_l")


def find_insightface_pack(folders: Sequence[Path]) -> Path:
    """The folder with insightface's ONNX files: antelopev2, else buffalo_l, else any other.

    Args:
        folders: Each is looked through itself, its `models` folder, and one level deeper, because
            antelopev2.zip unpacks to `antelopev2/antelopev2`.

    Raises:
        FileNotFoundError: There is none; the message says where it was looked for.
    """
    places: list[Path] = []
    for root in (root for folder in folders for root in (folder / "models", folder)):
        others = sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
        for pack in (*(root / name for name in _PACKS), *others):
            places += [pack, pack / pack.name]
    places += folders
    for place in places:
        if any(place.glob("*.onnx")):
            return place.resolve()
    looked = ", ".join(str(place) for place in dict.fromkeys(places))
    raise FileNotFoundError(
        f"no insightface model pack (*.onnx) in {looked}. {where_to_get_a_pack(folders)} "
        f"{ALTERNATIVES}"
    )


def where_to_get_a_pack(folders: Sequence[Path]) -> str:
    """What a person does who has no detector file."""
    root = (folders[0] if folders else Path("insightface")) / "models"
    return (
        "Get antelopev2.zip from the releases page of deepinsight/insightface (non-commercial "
        f"research only) and unpack it to {root / 'antelopev2'}."
    )


def open_insightface(folders: Sequence[Path]) -> Detector:
    """insightface's SCRFD detector on the CPU, loaded once for many photos.

    Args:
        folders: See `find_insightface_pack`.

    Raises:
        ImportError: insightface or its onnxruntime is not installed.
        FileNotFoundError: There is no model pack, or none with a detector; nothing is downloaded.
    """
    try:
        from insightface.app import FaceAnalysis  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            f"the insightface detector cannot be used ({error}); it needs insightface and "
            f"onnxruntime. {ALTERNATIVES}"
        ) from error
    pack = find_insightface_pack(folders)
    # An absolute path as the name: the folder exists, so insightface has nothing to download.
    try:
        app = FaceAnalysis(
            name=str(pack), allowed_modules=["detection"], providers=["CPUExecutionProvider"]
        )
    except AssertionError as error:  # what insightface raises for a pack without a detector
        raise FileNotFoundError(
            f"none of the *.onnx files in {pack} is a face detector (antelopev2 has "
            f"scrfd_10g_bnkps.onnx). {where_to_get_a_pack(folders)} {ALTERNATIVES}"
        ) from error
    app.prepare(ctx_id=-1, det_size=(640, 640))

    def look(pixels: NDArray[np.uint8]) -> list[DetectedFace]:
        found = app.get(np.ascontiguousarray(pixels[..., ::-1]))  # BGR
        return [make_face(f.bbox, f.kps, f.det_score, f"insightface {pack.name}") for f in found]

    return with_margin(look)


def with_margin(look: Callable[[NDArray[np.uint8]], list[DetectedFace]]) -> Detector:
    """A detector that looks at `(H, W, 3)` bytes, and again with a margin where it finds nothing.

    SCRFD overlooks a face that fills the picture; with a margin it is small enough. A picture with
    four black corners, as a turned one, has a margin of its own.
    """

    def detect(photo: Tensor) -> list[DetectedFace]:
        faces = look(as_bytes(photo))
        if not faces and float(photo[[0, 0, -1, -1], [0, -1, 0, -1]].max()) > 0:
            small, scale = shrink(photo, min(SEARCHED_SIDE_PX, max(photo.shape[:2])))
            margin = max(small.shape[:2]) // 2
            matrix = np.array([[scale, 0.0, margin], [0.0, scale, margin]])
            padded = np.pad(as_bytes(small), ((margin, margin), (margin, margin), (0, 0)))
            faces = [to_photo(face, matrix) for face in look(padded)]
        return left_to_right(faces)

    return detect
