"""What DECA reads of a photo: the whole of it, stretched, or the square around a face."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from .deca import IMAGE_SIZE

BOX_SCALE = 1.25
# DECA has two rules. For a face detector's box: the middle is moved down by 12 % of the size. For
# the box around the 68 facial landmarks (its "kpt68"; brows to chin): no move, but the size times
# 1.1. Only the first is here: no box that reaches this module is of the 68 landmarks.
BOX_DROP = 0.12
LARGEST_SQUARE = 16384


def preprocess(photo: Tensor) -> Tensor:
    """Stretch a photo to the encoder's size by Pillow's bilinear resize.

    Args:
        photo: `(B, H, W, 3)` RGB in [0, 1].

    Returns:
        `(B, 3, 224, 224)` float32 in [0, 1], in steps of 1 / 255, on the photo's device.

    Raises:
        ValueError: The shape is not that of a photo.

    Released behavior: the whole photo is stretched, whatever its proportions, although DECA was
    trained on squares around a face.

    Source: docs/released-model.md, section 8.
    """
    if photo.ndim != 4 or photo.shape[-1] != 3 or 0 in photo.shape:
        raise ValueError(f"preprocess: expected the shape (B, H, W, 3), got {tuple(photo.shape)}")
    levels = (photo.detach().cpu().double().clamp(0, 1) * 255).round().to(torch.uint8)
    resized = []
    for picture in levels.numpy():
        # Width first, then height, as every Pillow before 13 has it; newer ones take the height of
        # tall photos first, which differs by one level here and there.
        wide = Image.fromarray(picture).resize(
            (IMAGE_SIZE, picture.shape[0]), Image.Resampling.BILINEAR
        )
        square = wide.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR)
        resized.append(torch.from_numpy(np.array(square)))
    # In rows of one channel each: another layout takes other kernels, with other last bits.
    pixels = torch.stack(resized).permute(0, 3, 1, 2).contiguous()
    return (pixels.double() / 255).float().to(photo.device)


def face_square(photo: Tensor, box: tuple[float, float, float, float]) -> Tensor:
    """Cut the square around a face that DECA was trained on; black beyond the photo.

    Args:
        photo: `(1, H, W, 3)` RGB in [0, 1].
        box: `(x0, y0, x1, y1)` pixels, as a face detector gives it.

    Returns:
        `(1, S, S, 3)` in [0, 1]; S is 1.25 times the mean of the box's width and height, less
        the fraction of a pixel. Its middle lies 0.12 times that mean below the box's.

    Raises:
        ValueError: The box has no area, is not finite, or lies outside the photo.

    Source: DECA's public data preparation for test images (`decalib/datasets/datasets.py`), for a
    box of the type "bbox". Here the corner, too, lies on a whole pixel: half a pixel at most.
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
    _, height, width, _ = photo.shape
    rows, columns = slice(max(top, 0), top + edge), slice(max(left, 0), left + edge)
    if top + edge <= 0 or left + edge <= 0 or top >= height or left >= width:
        raise ValueError(
            f"face_square: the face's box {box} lies outside the photo of {width}x{height} pixels"
        )
    part = photo[:, rows, columns].permute(0, 3, 1, 2)
    before = rows.start - top, columns.start - left
    after = edge - before[0] - part.shape[2], edge - before[1] - part.shape[3]
    padded = pad(part, (before[1], after[1], before[0], after[0]))
    return padded.permute(0, 2, 3, 1)
