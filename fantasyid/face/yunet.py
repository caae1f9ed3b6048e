"""The YuNet detector from its ONNX file, as OpenCV's model collection has it, through onnxruntime.

Small, quick, of an open license, with five points. Nothing here downloads anything.
Source: Wu, Peng and Yu, YuNet: A Tiny Millisecond-level Face Detector, 2023.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .faces import ALTERNATIVES, DetectedFace, Detector, make_face
from .insight import with_margin
from .scrfd import Array, suppress

NAME = "YuNet"
STRIDES = (8, 16, 32)
LONG_SIDE_PX = 640
_LEAST_SCORE, _MOST_OVERLAP = 0.5, 0.3


def decode(outputs: Mapping[str, NDArray], height: int, width: int) -> tuple[Array, Array, Array]:
    """Faces from the network's outputs, the surest first, overlapping ones left out.

    Args:
        outputs: `cls_8`, `obj_8`, `bbox_8`, `kps_8` and the same for the other strides,
            `(1, cells, 1 | 1 | 4 | 10)`, row by row; places are in strides from the cell's corner,
            sides of boxes are logarithms.
        height: Of the network's input in pixels, a multiple of 32.

    Returns:
        Boxes `(N, 4)`, points `(N, 5, 2)`, scores `(N,)`: the geometric mean of the two that the
        network gives.
    """
    boxes, points, scores = [], [], []
    for stride in STRIDES:
        cls, obj, box, kps = (
            np.asarray(outputs[f"{part}_{stride}"][0], np.float64)
            for part in ("cls", "obj", "bbox", "kps")
        )
        score = np.sqrt(np.clip(cls, 0, 1) * np.clip(obj, 0, 1))[:, 0]
        columns = width // stride
        if len(score) != columns * (height // stride):
            raise ValueError(f"{len(score)} cells at stride {stride} for {width}x{height}")
        sure = np.flatnonzero(score >= _LEAST_SCORE)
        cell = np.stack([sure % columns, sure // columns], axis=1)
        center, half = (cell + box[sure, :2]) * stride, np.exp(box[sure, 2:]) * stride / 2
        boxes.append(np.concatenate([center - half, center + half], axis=1))
        points.append((kps[sure].reshape(-1, 5, 2) + cell[:, None]) * stride)
        scores.append(score[sure])
    every, score = np.concatenate(boxes), np.concatenate(scores)
    kept = suppress(every, score, _MOST_OVERLAP)
    return every[kept], np.concatenate(points)[kept], score[kept]


def open_yunet(folders: Sequence[Path]) -> Detector:
    """The first file of some folders with "yunet" in its name, on the CPU, loaded once.

    Args:
        folders: Where insightface's packs lie too; all their subfolders are looked through.

    Raises:
        ImportError: onnxruntime is not installed.
        FileNotFoundError: There is no such file, or it is another network.
    """
    files = sorted(p for folder in folders for p in folder.rglob("*.onnx") if "yunet" in p.name)
    if not files:
        raise FileNotFoundError(
            f"no YuNet file (*yunet*.onnx) in {', '.join(map(str, folders)) or 'any folder'}. "
            f"Get one from OpenCV's model collection (face_detection_yunet). {ALTERNATIVES}"
        )
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            f"the YuNet detector needs onnxruntime (pip install onnxruntime). {ALTERNATIVES}"
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    providers = ["CPUExecutionProvider"]
    try:
        session = onnxruntime.InferenceSession(str(files[0]), options, providers=providers)
    except Exception as error:
        raise FileNotFoundError(f"{files[0]} cannot be opened as an ONNX file: {error}") from error
    missing = {"cls_8", "obj_8", "bbox_8", "kps_8"} - {o.name for o in session.get_outputs()}
    if missing:
        raise FileNotFoundError(f"{files[0]} is no YuNet: no output {', '.join(sorted(missing))}")
    return with_margin(_YuNet(session).look)


class _YuNet:
    """An open file."""

    def __init__(self, session: Any) -> None:
        self._session = session
        given = session.get_inputs()[0]
        self._input = given.name
        # Older files take pictures of one size only.
        self._sides = [side if isinstance(side, int) else None for side in given.shape[2:]]

    def look(self, pixels: NDArray[np.uint8]) -> list[DetectedFace]:
        """Faces of `(H, W, 3)` bytes, which lie top left in the input, as large as fits."""
        high, wide = (side or LONG_SIDE_PX for side in self._sides)
        height, width = pixels.shape[:2]
        scale = min(high / height, wide / width)
        if None in self._sides:
            scale = min(1.0, scale)
        small = max(1, round(width * scale)), max(1, round(height * scale))
        if small != (width, height):
            image = Image.fromarray(pixels).resize(small, Image.Resampling.BILINEAR)
            pixels = np.asarray(image)
        rows, columns = (
            fixed or -(-side // 32) * 32
            for fixed, side in zip(self._sides, small[::-1], strict=True)
        )
        whole = np.zeros((1, 3, rows, columns), np.float32)
        whole[0, :, : small[1], : small[0]] = pixels[..., ::-1].transpose(2, 0, 1)
        names = [output.name for output in self._session.get_outputs()]
        outputs = dict(zip(names, self._session.run(None, {self._input: whole}), strict=True))
        boxes, points, scores = decode(outputs, rows, columns)
        return [
            make_face(box / scale, places / scale, score, NAME)
            for box, places, score in zip(boxes, points, scores, strict=True)
        ]
