"""The YuNet detector from its ONNX file, as OpenCV's model collection has it, in plain torch.

Small, quick, of an open license, with five points. Nothing here downloads anything.
Source: Wu, Peng and Yu, YuNet: A Tiny Millisecond-level Face Detector, 2023.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .cascade import shrink
from .crop import warp_affine
from .faces import ALTERNATIVES, DetectedFace, Detector, face_nearest_box, make_face, to_photo
from .insight import with_margin
from .onnx_graph import Network
from .points import points_of
from .scrfd import Array, suppress

NAME = "YuNet"
BETTER = (
    'the file "YuNet face detector" of FantasyID Download Models (0.2 MB, MIT license, no package '
    "needed) finds them."
)
STRIDES = (8, 16, 32)
LONG_SIDE_PX = 640
_LEAST_SCORE, _MOST_OVERLAP = 0.5, 0.3
# A close look: the cut, and the face in it (square root of its box's area). From 50 pixels YuNet
# says every face to be upright, from 180 it says the roll to within 5 degrees.
_CLOSE_SIDE_PX, _CLOSE_FACE_PX = 320, 180
_MIDDLE = (75.0, 65.0, 245.0, 255.0)
_LEAST_OVERLAP = 0.3
_MIRRORED = [1, 0, 2, 4, 3]  # which point is where in a mirrored face
_LEVEL_DEG, _MOST_ROUNDS = 3.0, 3


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
        FileNotFoundError: There is no such file, or it is another network.
    """
    files = sorted(p for folder in folders for p in folder.rglob("*.onnx") if "yunet" in p.name)
    if not files:
        raise FileNotFoundError(
            f"no YuNet file (*yunet*.onnx) in {', '.join(map(str, folders)) or 'any folder'}. "
            f'Get the "YuNet face detector" with FantasyID Download Models. {ALTERNATIVES}'
        )
    try:
        network = read_yunet(files[0])
    except ValueError as error:
        raise FileNotFoundError(str(error)) from error
    return with_margin(partial(_look, network))


def read_yunet(path: Path) -> Network:
    """The network in a file.

    Raises:
        ValueError: It is another file.
    """
    network = Network(path)
    missing = sorted({"cls_8", "obj_8", "bbox_8", "kps_8"} - set(network.outputs))
    if missing:
        raise ValueError(f"{path} is no YuNet: no output {', '.join(missing)}")
    return network


def look_closely(detect: Detector, photo: Tensor, face: DetectedFace) -> DetectedFace:
    """The same face with better points, from an upright cut in which it is large.

    YuNet draws the points of small and of tilted faces towards upright ones, and more so to one
    side: the face is looked at as it is and mirrored, and again where it was not yet upright.

    Args:
        detect: YuNet.
        photo: `(H, W, 3)` RGB in [0, 1].
        face: One with points, in pixels of it.
    """
    for _ in range(_MOST_ROUNDS):
        x0, y0, x1, y1 = face.box
        scale = _CLOSE_FACE_PX / ((x1 - x0) * (y1 - y0)) ** 0.5
        small, shrunk = shrink(photo, math.ceil(max(photo.shape[:2]) * min(1.0, scale)))
        roll = _roll(face)
        cosine, sine = math.cos(math.radians(roll)), math.sin(math.radians(roll))
        linear = np.array([[cosine, sine], [-sine, cosine]]) * scale
        center = np.array([x0 + x1, y0 + y1]) / 2
        matrix = np.column_stack([linear, _CLOSE_SIDE_PX / 2 - linear @ center])
        cut = warp_affine(small, matrix / [[shrunk, shrunk, 1.0]], _CLOSE_SIDE_PX)
        found = [_in_the_middle(detect(side)) for side in (cut, cut.flip(1))]
        if None in found:
            return face
        straight, mirrored = (np.array(f.points) for f in found if f is not None)
        mirrored = [_CLOSE_SIDE_PX - 1, 0] + mirrored[_MIRRORED] * [-1, 1]
        points = (straight + mirrored) / 2
        back = to_photo(make_face(_MIDDLE, points, face.score, face.detector), matrix)
        face = replace(face, points=back.points)
        if abs((_roll(face) - roll + 180) % 360 - 180) < _LEVEL_DEG:
            return face
    return face


def _in_the_middle(faces: list[DetectedFace]) -> DetectedFace | None:
    return face_nearest_box(faces, _MIDDLE, _LEAST_OVERLAP)


def _roll(face: DetectedFace) -> float:
    """The tilt of the eyes, clockwise, in degrees."""
    left, right = points_of(face)[:2]
    return math.degrees(math.atan2(right[1] - left[1], right[0] - left[0]))


def _look(network: Network, pixels: NDArray[np.uint8]) -> list[DetectedFace]:
    """Faces of `(H, W, 3)` bytes, of which the network sees a copy of at most `LONG_SIDE_PX`."""
    height, width = pixels.shape[:2]
    scale = min(1.0, LONG_SIDE_PX / max(height, width))
    small = max(1, round(width * scale)), max(1, round(height * scale))
    if scale < 1:
        image = Image.fromarray(pixels).resize(small, Image.Resampling.BILINEAR)
        pixels = np.asarray(image)
    columns, rows = (-(-side // 32) * 32 for side in small)
    whole = torch.zeros(1, 3, rows, columns)
    whole[0, :, : small[1], : small[0]] = torch.tensor(pixels[..., ::-1].transpose(2, 0, 1).copy())
    outputs = {name: rows.numpy() for name, rows in network(whole).items()}
    boxes, points, scores = decode(outputs, rows, columns)
    return [
        make_face(box / scale, places / scale, score, NAME)
        for box, places, score in zip(boxes, points, scores, strict=True)
    ]
