"""The aligned crop of a photo, as released, and of a frame among many, in less time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from .crop import CROP_SIZE, FACE_TEMPLATE_PX, align_crop, reduce_long_side, similarity_lmeds
from .quality import TEMPLATE_EYE_DISTANCE_PX, eye_distance

# A bilinear warp by less than this would skip pixels.
_REDUCE_BELOW = 0.6


def cut_crop(photo: Tensor, points: Sequence[Sequence[float]], padding: float = 1.0) -> Tensor:
    """The released way from a photo `(H, W, 3)` and its five points to the crop `(512, 512, 3)`."""
    reduced, scale = reduce_long_side(photo)
    image, _ = align_crop(reduced, [[x * scale, y * scale] for x, y in points], padding=padding)
    return image


def cut_view(photo: Tensor, points: NDArray[np.float64]) -> Tensor:
    """The crop `(512, 512, 3)` of a frame `(H, W, 3)`.

    As `cut_crop`, but only the surroundings of the face are touched, and only a face that is
    much larger than in the crop is reduced first.

    Args:
        photo: RGB in [0, 1], or uint8.
        points: `(5, 2)` pixels.
    """
    matrix = similarity_lmeds(points, FACE_TEMPLATE_PX)
    ends = np.array([[0, 0], [CROP_SIZE, 0], [0, CROP_SIZE], [CROP_SIZE, CROP_SIZE]])
    corners = (ends - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    height, width = photo.shape[:2]
    x0, y0 = (int(v) for v in np.clip(corners.min(0) - 2, 0, [width - 2, height - 2]))
    x1, y1 = (int(v) for v in np.clip(corners.max(0) + 3, [x0 + 2, y0 + 2], [width, height]))
    window, points = photo[y0:y1, x0:x1], points - [x0, y0]
    if window.dtype == torch.uint8:
        window = window.float() / 255
    factor = TEMPLATE_EYE_DISTANCE_PX / eye_distance(points.tolist())
    if factor < _REDUCE_BELOW:
        size = [max(2, round(side * factor)) for side in window.shape[:2]]
        planes = window.permute(2, 0, 1)[None]
        window = interpolate(planes, size, mode="bilinear", antialias=True)[0].permute(1, 2, 0)
        points = (points + 0.5) * [size[1] / (x1 - x0), size[0] / (y1 - y0)] - 0.5
    return align_crop(window, points)[0]
