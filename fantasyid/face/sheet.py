"""Pictures side by side with words under them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

_COLUMNS, _GAP, _LINE = 3, 6, 18
_GROUND, _INK, _MARK = (24, 24, 26), (235, 235, 235), (60, 220, 90)


def draw_sheet(
    pictures: Sequence[Tensor], words: Sequence[str], marked: int = -1, side: int = 256
) -> Tensor:
    """A contact sheet.

    Args:
        pictures: `(S, S, 3)` RGB, uint8 or in [0, 1].
        words: For each picture; lines are split at line breaks.
        marked: A picture with a frame around it, or -1.
        side: Of each picture on the sheet, in pixels.

    Returns:
        `(H, W, 3)` RGB in [0, 1].

    Raises:
        ValueError: There is no picture, or not one text for each.
    """
    if not pictures or len(words) != len(pictures):
        raise ValueError(f"a contact sheet of {len(pictures)} pictures and {len(words)} texts")
    lines = max(text.count("\n") + 1 for text in words)
    columns = min(_COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    cell = (side + _GAP, side + lines * _LINE + 2 * _GAP)
    canvas = Image.new("RGB", (columns * cell[0] + _GAP, rows * cell[1]), _GROUND)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(13)
    for number, (picture, text) in enumerate(zip(pictures, words, strict=True)):
        x = _GAP + number % columns * cell[0]
        y = _GAP + number // columns * cell[1]
        canvas.paste(_image(picture).resize((side, side), Image.Resampling.LANCZOS), (x, y))
        if number == marked:
            draw.rectangle((x - 2, y - 2, x + side + 1, y + side + 1), outline=_MARK, width=3)
        for line, part in enumerate(text.split("\n")):
            draw.text((x + 2, y + side + 2 + line * _LINE), part, fill=_INK, font=font)
    return torch.from_numpy(np.array(canvas)).float() / 255


def _image(picture: Tensor) -> Image.Image:
    if picture.dtype != torch.uint8:
        picture = (picture.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(picture.cpu().numpy())
