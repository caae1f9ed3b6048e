"""The square around a face that DECA was trained on."""

from __future__ import annotations

import torch
from torch import Tensor

BOX_SCALE = 1.25
# DECA has two rules. For a face detector's box: the middle is moved down by 12 % of the size. For
# the box around the 68 facial landmarks (its "kpt68"; brows to chin): no move, but the size times
# 1.1. Only the first is here: no box that reaches this module is of the 68 landmarks.
BOX_DROP = 0.12
LARGEST_SQUARE = 16384


def face_square(photo: Tensor, box: tuple[float, float, float, float]) -> Tensor:
    """Cut the square around a face; black where it reaches beyond the photo.

    Args:
        photo: `(1, H, W, 3)` RGB in [0, 1].
        box: `(x0, y0, x1, y1)` pixels, as a face detector gives it.

    Returns:
        `(1, S, S, 3)` in [0, 1]; S is 1.25 times the mean of the box's width and height, less
        the fraction of a pixel. Its middle lies 0.12 times that mean below the box's.

    Raises:
        ValueError: The box has no area, or is not finite.

    Source: DECA's public data preparation for test images (`decalib/datasets/datasets.py`), for a
    box of the type "bbox": size (width + height) / 2, centre moved down by 0.12 of it, scale 1.25,
    whole pixels by cutting off. The method is that of Feng et al., "Learning an animatable
    detailed 3D face model from in-the-wild images" (2021). Here the corner, too, lies on a whole
    pixel: half a pixel at most.
    """
    if photo.ndim != 4 or photo.shape[0] != 1 or photo.shape[-1] != 3:
        raise ValueError(f"face_square: expected a photo (1, H, W, 3), got {tuple(photo.shape)}")
    x0, y0, x1, y1 = box
    size = (x1 - x0 + y1 - y0) / 2
    if not (x1 > x0 and y1 > y0 and size * BOX_SCALE < LARGEST_SQUARE):
        raise ValueError(f"face_square: the face's box {box} is not x0 < x1, y0 < y1 in pixels")
    edge = max(int(size * BOX_SCALE), 1)
    left = round((x0 + x1) / 2 - edge / 2)
    top = round((y0 + y1) / 2 + size * BOX_DROP - edge / 2)
    square = torch.zeros(1, edge, edge, 3, dtype=photo.dtype, device=photo.device)
    rows = slice(max(top, 0), max(min(top + edge, photo.shape[1]), 0))
    columns = slice(max(left, 0), max(min(left + edge, photo.shape[2]), 0))
    part = photo[:, rows, columns]
    if 0 in part.shape:
        raise ValueError(
            f"face_square: the face's box {box} lies outside the photo of "
            f"{photo.shape[2]}x{photo.shape[1]} pixels"
        )
    at_row, at_column = rows.start - top, columns.start - left
    square[:, at_row : at_row + part.shape[1], at_column : at_column + part.shape[2]] = part
    return square
