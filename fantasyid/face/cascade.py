"""The cascade that scikit-image brings along: frontal faces at any roll, without any model file.

It gives boxes and no points, and sees faces that are tilted by up to about 12 degrees; where it
finds nothing the photo is turned in steps, and what it sees then is turned back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from .crop import BORDER_RGB, warp_affine
from .faces import (
    ALTERNATIVES,
    DetectedFace,
    as_bytes,
    box_overlap,
    left_to_right,
    make_face,
    to_photo,
)

NAME = "scikit-image cascade"

# Long sides at which the cascade looks, each one as it is and mirrored: a face is where three
# quarters of the looks agree. The cascade compares gray levels by order alone and so sees faces
# in the noise of dark cloth too: a face has contrast as well (deviation of gray in [0, 1]).
_SIDES = (380, 450, 540, 640)
_QUICK_SIDES, _CHECK_SIDES, _QUICK_DIVISOR = (640,), (540, 640), 14
_CLIP_SIDES = (320,)
_GATE_SIDE = 260  # of the turned square: where nothing is seen there, no closer look is taken
_AGREEMENT = 0.75
# Nothing is searched at a longer side: a photo of 12 megapixels takes minutes otherwise.
SEARCHED_SIDE_PX = 1280
_WINDOW = 24
_LEAST_CONTRAST = 0.05
# In steps of 15 degrees, likely ones first.
_HALF_TURNS_DEG = (15.0, 30.0, 90.0, 45.0, 60.0, 75.0, 105.0, 120.0, 135.0, 150.0, 165.0)
_TURNS_DEG = (180.0, *(turn * sign for turn in _HALF_TURNS_DEG for sign in (1, -1)))


def detect_with_cascade(photo: Tensor) -> list[DetectedFace]:
    """Frontal faces by the LBP cascade in scikit-image: boxes without points, for want of better.

    Where no face is upright the photo is turned in steps of 15 degrees, and the turn at which most
    looks agree is taken: of several heads at different tilts not all are found.

    Args:
        photo: `(H, W, 3)` RGB in [0, 1]. Faces down to a twelfth of the short side are found.

    Returns:
        Faces from left to right; the score is the share of the looks that agree.

    Raises:
        ImportError: scikit-image is not installed.
    """
    if max(photo.shape[:2]) > SEARCHED_SIDE_PX:
        small, scale = shrink(photo, SEARCHED_SIDE_PX)
        matrix = np.array([[scale, 0.0, 0.0], [0.0, scale, 0.0]])
        return [to_photo(face, matrix) for face in detect_with_cascade(small)]
    cascade = load_cascade()
    gray = photo.float().mean(-1)
    if float(gray.max() - gray.min()) < _LEAST_CONTRAST:
        return []
    faces = _agreed(cascade, photo, _SIDES)
    sure = max((f.score for f in faces), default=0.0)
    if sure > _AGREEMENT:
        return faces
    # What only just passes upright may be a tilted head seen by chance.
    turned = _detect_turned(cascade, photo)
    return turned if max((f.score for f in turned), default=0.0) > sure else faces


def _detect_turned(cascade: Any, photo: Tensor) -> list[DetectedFace]:
    """Faces at the turn of the photo at which most looks agree; [] where none holds."""
    small, scale = shrink(photo, _SIDES[-1])
    tiny, _ = shrink(
        photo, math.floor(_GATE_SIDE * max(photo.shape[:2]) / math.hypot(*photo.shape[:2]))
    )
    best, best_turn = [], 0.0
    for turn in _TURNS_DEG:
        if not _look(cascade, turn_photo(tiny, turn)[0], _GATE_SIDE, False, _QUICK_DIVISOR):
            continue
        turned, _ = turn_photo(small, turn)
        if not _agreed(cascade, turned, _QUICK_SIDES, _QUICK_DIVISOR):
            continue
        faces = _agreed(cascade, turned, _SIDES, _QUICK_DIVISOR)
        if sum(f.score for f in faces) > sum(f.score for f in best):
            best, best_turn = faces, turn
        if best and best[0].score == 1.0:
            break
    middle = _middle_of_turns(cascade, small, best_turn) if best else None
    if middle is None:
        return []
    _, matrix = turn_photo(small, best_turn)
    matrix = matrix * [[scale, scale, 1.0]]  # from pixels of the photo
    return left_to_right([to_photo(f, matrix, -middle) for f in best])


def detect_quickly(photo: Tensor) -> list[DetectedFace]:
    """Upright faces in `(H, W, 3)` by two looks at a small copy: for clips, where a frame has
    neighbors. Faces down to an eighth of the short side are found.
    """
    return _agreed(load_cascade(), photo, _CLIP_SIDES, divisor=8)


def load_cascade() -> Any:
    """The cascade, or the ImportError of a missing scikit-image with what else there is."""
    try:
        from skimage.data import lbp_frontal_face_cascade_filename
        from skimage.feature import Cascade
    except ImportError as error:
        raise ImportError(
            "the cascade face detector needs scikit-image (pip install scikit-image). "
            + ALTERNATIVES
        ) from error
    return Cascade(lbp_frontal_face_cascade_filename())


def _agreed(
    cascade: Any, photo: Tensor, sides: tuple[int, ...], divisor: int = 12
) -> list[DetectedFace]:
    """What enough looks agree on; `divisor` bounds the smallest face."""
    looks = [(side, mirrored) for side in sides for mirrored in (False, True)]
    needed = _AGREEMENT * len(looks)
    found: list[list[NDArray]] = []  # one list of agreeing boxes per place
    for number, (side, mirrored) in enumerate(looks):
        if max(map(len, found), default=0) + len(looks) - number < needed:
            return []  # no place can get enough any more
        seen: set[int] = set()  # a look has one vote per place
        for box in _look(cascade, photo, side, mirrored, divisor):
            near = (i for i, b in enumerate(found) if box_overlap(np.mean(b, 0), box) > 0.4)
            place = next(near, -1)
            if place < 0:
                place = len(found)
                found.append([])
            if place not in seen:
                found[place].append(box)
                seen.add(place)
    faces = [
        make_face(np.mean(boxes, 0), None, len(boxes) / len(looks), NAME)
        for boxes in found
        if len(boxes) >= needed
    ]
    vivid = []
    for face in faces:
        x0, y0, x1, y1 = (max(0, round(v)) for v in face.box)
        if float(photo[y0:y1, x0:x1].float().mean(-1).std()) > _LEAST_CONTRAST:
            vivid.append(face)
    return left_to_right(vivid)


def shrink(photo: Tensor, side: int) -> tuple[Tensor, float]:
    """A copy `(h, w, 3)` with a long side of `side` pixels, and the factor it was scaled by."""
    height, width = photo.shape[:2]
    scale = side / max(height, width)
    new_size = (max(1, round(height * scale)), max(1, round(width * scale)))
    planes = photo.detach().float().permute(2, 0, 1)[None]
    small = interpolate(planes, new_size, mode="bilinear", antialias=True)
    return small[0].permute(1, 2, 0), scale


def _look(cascade: Any, photo: Tensor, side: int, mirrored: bool, divisor: int) -> list[NDArray]:
    """One look of the cascade: boxes `(x0, y0, x1, y1)` in pixels of the photo."""
    small, scale = shrink(photo, side)
    new_size = small.shape[:2]
    pixels = as_bytes(small.flip(1) if mirrored else small)
    least, most = max(_WINDOW, min(new_size) // divisor), min(new_size)
    if most < least:
        return []
    hits = cascade.detect_multi_scale(
        np.ascontiguousarray(pixels), 1.15, 1, (least, least), (most, most), min_neighbor_number=4
    )
    boxes = []
    for hit in hits:
        x0 = new_size[1] - hit["c"] - hit["width"] if mirrored else hit["c"]
        box = [x0, hit["r"], x0 + hit["width"], hit["r"] + hit["height"]]
        boxes.append(np.array(box, np.float64) / scale)
    return boxes


def turn_photo(
    photo: Tensor, turn_deg: float, border: Sequence[float] = BORDER_RGB
) -> tuple[Tensor, NDArray[np.float64]]:
    """A photo `(H, W, 3)` turned clockwise about its center, on a square that holds all of it.

    Returns:
        `(S, S, 3)` and the `(2, 3)` matrix from pixels of the photo to pixels of it.
    """
    height, width = photo.shape[:2]
    side = math.ceil(math.hypot(height, width))
    angle = math.radians(turn_deg)
    cosine, sine = math.cos(angle), math.sin(angle)
    linear = np.array([[cosine, -sine], [sine, cosine]])
    shift = np.array([side / 2, side / 2]) - linear @ np.array([width / 2, height / 2])
    matrix = np.concatenate([linear, shift[:, None]], axis=1)
    return warp_affine(photo, matrix, side, border), matrix


def _middle_of_turns(cascade: Any, photo: Tensor, turn_deg: float) -> float | None:
    """The middle of the turns at which the cascade sees a face, weighted by its votes.

    None where fewer than two of five neighbouring turns show one: a face bears being turned a
    little, a pattern that looks like one does not.
    """
    turns = [turn_deg + offset for offset in (-12.0, -6.0, 0.0, 6.0, 12.0)]
    votes = []
    for turn in turns:
        turned, _ = turn_photo(photo, turn)
        seen = _agreed(cascade, turned, _CHECK_SIDES, _QUICK_DIVISOR)
        votes.append(max((f.score for f in seen), default=0.0))
    if sum(v > 0 for v in votes) < 2:
        return None
    return sum(t * v for t, v in zip(turns, votes, strict=True)) / sum(votes)
