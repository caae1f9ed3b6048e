"""The five facial points: typed by a person, or estimated from a box.

Points are `(5, 2)` pixels, x right, y down: left eye, right eye, nose, left mouth corner, right
mouth corner, where *left* is the left of the picture when the face is upright.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .crop import FACE_TEMPLATE_PX
from .faces import DetectedFace

POINT_NAMES = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")

# Where the template sits in a box of the cascade, of width and height 1: medians of the similarity
# without roll that takes the template to five true points, over four upright faces of real photos.
_BOX_EYE_DISTANCE, _BOX_EYE_LINE, _BOX_CENTER = 0.378, 0.386, 0.509


def points_from_box(
    box: Sequence[float] | NDArray[np.floating], roll_deg: float = 0.0
) -> NDArray[np.float64]:
    """Five points for a detector that gives only a box: approximate.

    Assumes a face that looks into the camera and fills the box from brow to chin; a
    head that is turned or tilted needs real points. Within about a tenth of the box for the
    frontal cascade.

    Args:
        box: `(x0, y0, x1, y1)` pixels, with an area.
        roll_deg: How far the head is tilted in the picture, clockwise, about the box's center.

    Returns:
        `(5, 2)` pixels: the template, moved and scaled into the box.
    """
    x0, y0, x1, y1 = (float(v) for v in box)
    width, height = x1 - x0, y1 - y0
    left_eye, right_eye = FACE_TEMPLATE_PX[:2]
    scale = _BOX_EYE_DISTANCE * width / (right_eye[0] - left_eye[0])
    target = np.array([x0 + _BOX_CENTER * width, y0 + _BOX_EYE_LINE * height])
    upright = (FACE_TEMPLATE_PX - (left_eye + right_eye) / 2) * scale + target
    center = np.array([x0 + width / 2, y0 + height / 2])
    return (upright - center) @ _clockwise(math.radians(roll_deg)) + center


def _clockwise(turn: float) -> NDArray[np.float64]:
    """What turns rows `(N, 2)` of pixels by radians."""
    cosine, sine = math.cos(turn), math.sin(turn)
    return np.array([[cosine, sine], [-sine, cosine]])


def points_of(face: DetectedFace) -> NDArray[np.float64]:
    """The five points `(5, 2)` of a face, estimated where its detector gives a box alone."""
    return np.asarray(face.points or points_from_box(face.box, face.roll_deg), np.float64)


def box_from_points(points: ArrayLike) -> tuple[float, float, float, float]:
    """The box that a detector would draw around a face with these points: approximate.

    The inverse of `points_from_box` for a square box, at any roll. A face in profile has its eyes
    close together, so its size is taken from the line of eyes and mouth where that is longer.
    """
    given = np.asarray(points, np.float64)
    eyes, mouth = given[:2].mean(0), given[3:].mean(0)
    template_eyes, template_mouth = FACE_TEMPLATE_PX[:2].mean(0), FACE_TEMPLATE_PX[3:].mean(0)
    across, down = given[1] - given[0], mouth - eyes
    template_across = np.hypot(*(FACE_TEMPLATE_PX[1] - FACE_TEMPLATE_PX[0]))
    scale = max(
        np.hypot(*across) / template_across,
        np.hypot(*down) / np.hypot(*(template_mouth - template_eyes)),
    )
    side = scale * template_across / _BOX_EYE_DISTANCE
    offset = np.array([0.5 - _BOX_CENTER, 0.5 - _BOX_EYE_LINE]) * side
    x, y = eyes + offset @ _clockwise(math.atan2(across[1], across[0]))
    return (x - side / 2, y - side / 2, x + side / 2, y + side / 2)


def parse_points(text: str) -> NDArray[np.float64] | None:
    """Five points `(5, 2)` that a person typed: "x,y x,y x,y x,y x,y" in pixels; None for "".

    Raises:
        ValueError: The text says something else; the message says what.
    """
    pairs = re.sub(r"\s*,\s*", ",", text).replace(";", " ").split()
    if not pairs:
        return None
    wanted = f'"x,y x,y x,y x,y x,y" for {", ".join(POINT_NAMES)} (left = left in the picture)'
    if len(pairs) != len(POINT_NAMES):
        raise ValueError(f"found {len(pairs)} facial points, expected 5: {wanted}")
    points = np.zeros((len(POINT_NAMES), 2))
    for row, (name, pair) in enumerate(zip(POINT_NAMES, pairs, strict=True)):
        try:
            x, y = (float(v) for v in pair.split(","))
        except ValueError:
            raise ValueError(
                f'the {name} is "{pair[:40]}", expected two numbers "x,y": {wanted}'
            ) from None
        if not (math.isfinite(x) and math.isfinite(y)):
            raise ValueError(f'the {name} is "{pair[:40]}": a coordinate must be a finite number')
        points[row] = x, y
    for i, j in combinations(range(len(POINT_NAMES)), 2):
        if np.hypot(*(points[i] - points[j])) < 1e-3:
            raise ValueError(f"the {POINT_NAMES[i]} and the {POINT_NAMES[j]} are at the same place")
    eyes = points[1] - points[0]
    down = points[3:].mean(0) - points[:2].mean(0)
    if eyes[0] * down[1] - eyes[1] * down[0] <= 0:
        raise ValueError(
            "the points are mirrored: the first eye must be the one on the left of the picture "
            "when the face is upright"
        )
    return points
