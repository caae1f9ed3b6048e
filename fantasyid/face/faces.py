"""Faces that a detector found, and which one is meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import hypot, isfinite
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

ALTERNATIVES = (
    "Other ways: install insightface and its antelopev2 models, connect the landmarks of the "
    "host's MediaPipe Face Landmarker, connect a bounding box, or type the five points by hand."
)

RULES = ("nearest centre", "largest", "left to right", "by score")

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels


@dataclass(frozen=True, slots=True)
class DetectedFace:
    """One face of a photo."""

    box: Box
    # Pixels, see `points.POINT_NAMES`; None where the source has only a box.
    points: tuple[tuple[float, float], ...] | None
    score: float  # how sure the source is, 1 at best
    detector: str  # what found it, in words for people
    roll_deg: float = 0.0  # how far the head is tilted, clockwise; points say it better
    pose_deg: tuple[float, float, float] | None = None  # see `pose.Pose`, where measured


# What finds faces in a photo `(H, W, 3)` RGB in [0, 1], from left to right.
Detector = Callable[[Tensor], list[DetectedFace]]


def make_face(
    box: ArrayLike, points: ArrayLike | None, score: float, detector: str, *angles: Any
) -> DetectedFace:
    """A checked face from any array type; see `DetectedFace`.

    Raises:
        ValueError: The box has no area, or a point is not a finite number.
    """
    x0, y0, x1, y1 = (float(v) for v in np.asarray(box, np.float64).reshape(4))
    if not isfinite(x0 + y0 + x1 + y1) or x1 <= x0 or y1 <= y0:
        raise ValueError(f"{detector}: the face box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) has no area")
    pairs = None
    if points is not None:
        table = np.asarray(points, np.float64).reshape(5, 2)
        if not np.isfinite(table).all():
            raise ValueError(f"{detector}: a facial point is not a finite number")
        pairs = tuple((float(x), float(y)) for x, y in table)
    return DetectedFace((x0, y0, x1, y1), pairs, float(score), detector, *angles)


def to_photo(face: DetectedFace, matrix: NDArray, roll_deg: float = 0.0) -> DetectedFace:
    """A face found in a turned, scaled or shifted copy, in pixels of the photo.

    Args:
        face: In pixels of the copy; its box is moved and scaled, but stays upright.
        matrix: `(2, 3)` similarity from pixels of the photo to pixels of the copy.
        roll_deg: The tilt of the head in the photo that the copy took away, clockwise.
    """
    linear, shift = matrix[:, :2], matrix[:, 2]
    square = float((linear**2).sum() / 2)  # of the scale

    def back(places: ArrayLike) -> NDArray[np.float64]:
        return (np.asarray(places, np.float64) - shift) @ linear / square

    box = np.array(face.box).reshape(2, 2)
    center, half = back(box.mean(0)), (box[1] - box[0]) / 2 / square**0.5
    roll = (face.roll_deg + roll_deg + 180) % 360 - 180
    return make_face(
        (*(center - half), *(center + half)),
        None if face.points is None else back(face.points),
        face.score,
        face.detector,
        roll,
        None if face.pose_deg is None else (*face.pose_deg[:2], roll),
    )


def box_overlap(a: ArrayLike, b: ArrayLike) -> float:
    """Intersection over union of two boxes `(x0, y0, x1, y1)`."""
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    common = np.clip(high - low, 0, None).prod()
    areas = (first[2:] - first[:2]).prod() + (second[2:] - second[:2]).prod()
    return float(common / (areas - common))


def left_to_right(faces: Sequence[DetectedFace]) -> list[DetectedFace]:
    """The order in which faces are numbered."""
    return sorted(faces, key=lambda face: face.box)


def as_bytes(photo: Tensor) -> NDArray[np.uint8]:
    """`(H, W, 3)` RGB in [0, 1] as 8-bit numpy.

    Raises:
        ValueError: The photo has another shape.
    """
    if photo.ndim != 3 or photo.shape[-1] != 3:
        raise ValueError(f"the photo is {tuple(photo.shape)}, expected (H, W, 3)")
    return (photo.detach().float().clamp(0, 1) * 255).round().cpu().numpy().astype(np.uint8)


def choose_face(
    faces: Sequence[DetectedFace], width: int, height: int, rule: str, index: int = 0
) -> DetectedFace:
    """The face that is meant, in a photo of `width` x `height` pixels.

    Args:
        faces: In any order.
        rule: One of `RULES`; "nearest centre" is released behavior.
        index: 0 for the first face by that rule, 1 for the second, ...

    Raises:
        ValueError: There is no such face, or no such rule.
    """

    def rank(face: DetectedFace) -> float:
        x0, y0, x1, y1 = face.box
        return {
            "nearest centre": hypot((x0 + x1 - width) / 2, (y0 + y1 - height) / 2),
            "largest": -(x1 - x0) * (y1 - y0),
            "by score": -face.score,
        }.get(rule, 0.0)

    if rule not in RULES:
        raise ValueError(f'the rule is "{rule}", expected one of: {", ".join(RULES)}')
    if not 0 <= index < len(faces):
        raise ValueError(
            f"face {index} was asked for, but {len(faces)} were found (the first one is number 0)"
        )
    return sorted(left_to_right(faces), key=rank)[index]


def face_nearest_box(faces: Sequence[DetectedFace], box: Box, least: float) -> DetectedFace | None:
    """The face that overlaps a box most, or None where none does by more than `least`."""
    best = max(faces, key=lambda face: box_overlap(face.box, box), default=None)
    return best if best is not None and box_overlap(best.box, box) > least else None
