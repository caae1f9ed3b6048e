"""insightface's SCRFD detector without insightface: its ONNX file through onnxruntime.

Nothing here downloads anything.
Source: Guo et al., Sample and Computation Redistribution for Efficient Face Detection, 2021.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from .faces import ALTERNATIVES, DetectedFace, Detector, make_face
from .insight import where_to_get_a_pack, with_margin

NAME = "SCRFD"
INPUT_SIDE_PX = 640
_LEAST_SCORE, _MOST_OVERLAP = 0.5, 0.4
_MEAN, _RANGE = 127.5, 128.0
# Name parts of the files that are detectors, in the order in which they are tried.
_LIKELY = ("scrfd", "det_", "detect")

Array = NDArray[np.float64]


# By the number of a file's outputs: pixels between the cells of each, and rows per cell. They stand
# in groups: scores, boxes and, where there are three groups, points.
_THREE, _FIVE = ((8, 16, 32), 2), ((8, 16, 32, 64, 128), 1)
LAYOUTS = {6: _THREE, 9: _THREE, 10: _FIVE, 15: _FIVE}


def decode(
    outputs: Sequence[NDArray], height: int, width: int
) -> tuple[Array, Array | None, Array]:
    """Faces from the network's outputs, the surest first, overlapping ones left out.

    Args:
        outputs: In the order of `LAYOUTS`; `(cells * anchors, 1 | 4 | 10)` each, row by row, or
            the same with a leading axis of one. Distances are in strides from the cell's corner.
        height: Of the network's input in pixels.
        width: Of the network's input in pixels.

    Returns:
        Boxes `(N, 4)`, points `(N, 5, 2)` or None where the file gives none, scores `(N,)`.

    Raises:
        ValueError: The number or the sizes of the outputs are not SCRFD's.
    """
    if len(outputs) not in LAYOUTS:
        raise ValueError(f"{len(outputs)} outputs, SCRFD has {', '.join(map(str, LAYOUTS))}")
    strides, anchors = LAYOUTS[len(outputs)]
    count = len(strides)
    widths = (1, 4, 10)[: len(outputs) // count]
    boxes, points, scores = [], [], []
    for i, stride in enumerate(strides):
        columns = width // stride
        cells = height // stride * columns * anchors
        parts = []
        for output, wanted in zip(outputs[i::count], widths, strict=True):
            if output.size != cells * wanted or output.shape[-1] != wanted:
                raise ValueError(f"an output of shape {output.shape}, SCRFD's is {(cells, wanted)}")
            parts.append(np.asarray(output, np.float64).reshape(cells, wanted))
        sure = np.flatnonzero(parts[0][:, 0] >= _LEAST_SCORE)
        cell = sure // anchors
        corner = np.stack([cell % columns, cell // columns], axis=1) * float(stride)
        reach = parts[1][sure] * stride
        boxes.append(np.concatenate([corner - reach[:, :2], corner + reach[:, 2:]], axis=1))
        scores.append(parts[0][sure, 0])
        if len(parts) == 3:
            points.append(corner[:, None] + parts[2][sure].reshape(-1, 5, 2) * stride)
    every, score = np.concatenate(boxes), np.concatenate(scores)
    sides = every[:, 2:] - every[:, :2]
    usable = np.flatnonzero(np.isfinite(every).all(1) & (sides > 0).all(1))
    kept = usable[suppress(every[usable], score[usable])]
    return every[kept], np.concatenate(points)[kept] if points else None, score[kept]


def suppress(boxes: Array, scores: Array, most_overlap: float = _MOST_OVERLAP) -> NDArray[np.intp]:
    """Which boxes `(N, 4)` stay, the surest first: none overlaps a surer one that stays by more.

    Overlap is intersection over union of whole pixels, ends included, as in insightface.
    """
    order = np.argsort(-scores, kind="stable")
    areas = (boxes[:, 2:] - boxes[:, :2] + 1).prod(1)
    kept = []
    while len(order):
        first, rest = order[0], order[1:]
        kept.append(first)
        low = np.maximum(boxes[first, :2], boxes[rest, :2])
        high = np.minimum(boxes[first, 2:], boxes[rest, 2:])
        common = np.clip(high - low + 1, 0, None).prod(1)
        overlap = common / (areas[first] + areas[rest] - common)
        order = rest[overlap <= most_overlap]
    return np.array(kept, np.intp)


def open_scrfd(folders: Sequence[Path]) -> Detector:
    """The first SCRFD file below insightface's folders, on the CPU, loaded once for many photos.

    Raises:
        ImportError: onnxruntime is not installed.
        FileNotFoundError: There is no ONNX file, or none is SCRFD; names what was looked at.
    """
    files = find_onnx_files(folders)
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            f"the SCRFD detector needs onnxruntime (pip install onnxruntime). {ALTERNATIVES}"
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    refused = []
    for path in files:
        try:
            session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            return with_margin(_open_session(session, f"{NAME} {path.name}"))
        except ValueError as error:
            refused.append(f"{path.name}: {error}")
        except Exception as error:  # noqa: BLE001 (its own classes, for whatever is in a file)
            refused.append(f"{path.name}: cannot be opened ({str(error).splitlines()[0][:120]})")
    raise FileNotFoundError(
        f"none of the *.onnx files in {', '.join(map(str, folders))} is an SCRFD face detector: "
        f"{'; '.join(refused)}. {where_to_get_a_pack(folders)} {ALTERNATIVES}"
    )


def find_onnx_files(folders: Sequence[Path]) -> list[Path]:
    """All ONNX files below some folders: likely detectors first, then small ones first.

    Raises:
        FileNotFoundError: There is none.
    """
    files = {path.resolve() for folder in folders for path in folder.rglob("*.onnx")}

    def rank(path: Path) -> tuple[int, int, str]:
        name = path.name.lower()
        likely = next((i for i, part in enumerate(_LIKELY) if part in name), len(_LIKELY))
        return likely, path.stat().st_size, str(path)

    if not files:
        raise FileNotFoundError(
            f"no SCRFD file (*.onnx) in {', '.join(map(str, folders))}. "
            f"{where_to_get_a_pack(folders)} {ALTERNATIVES}"
        )
    return sorted(files, key=rank)


def _open_session(session: Any, words: str) -> Callable[[NDArray[np.uint8]], list[DetectedFace]]:
    """What finds the faces of `(H, W, 3)` bytes, or a ValueError that says which network it is."""
    inputs, count = session.get_inputs(), len(session.get_outputs())
    shape = list(inputs[0].shape) if inputs else []
    sides = [side if isinstance(side, int) else INPUT_SIDE_PX for side in shape[2:]]
    square = len(shape) == 4 and shape[1] == 3 and all(s % 32 == 0 for s in sides)
    if len(inputs) != 1 or not square or count not in LAYOUTS:
        raise ValueError(
            f"takes {[i.shape for i in inputs]} and gives {count} outputs, SCRFD takes "
            "one picture and gives 6, 9, 10 or 15"
        )
    high, wide = sides

    def look(pixels: NDArray[np.uint8]) -> list[DetectedFace]:
        # The photo lies top left in the input, as large as fits.
        height, width = pixels.shape[:2]
        scale = min(high / height, wide / width)
        size = [max(1, round(height * scale)), max(1, round(width * scale))]
        planes = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
        whole = torch.zeros(1, 3, high, wide)
        small = interpolate(planes, size, mode="bilinear", antialias=True).round()
        whole[..., : size[0], : size[1]] = small
        outputs = session.run(None, {inputs[0].name: ((whole - _MEAN) / _RANGE).numpy()})
        boxes, points, scores = decode(outputs, high, wide)
        places = [None] * len(boxes) if points is None else points / scale
        return [
            make_face(box / scale, place, score, words)
            for box, place, score in zip(boxes, places, scores, strict=True)
        ]

    look(np.zeros((64, 64, 3), np.uint8))
    return look
