"""Faces marked on a photo, and pictures side by side with words under them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .faces import DetectedFace, as_bytes, left_to_right

_CHOSEN, _OTHER = (60, 220, 90), (250, 170, 40)
_COLUMNS, _GAP, _LINE = 3, 6, 18
_GROUND, _INK = (24, 24, 26), (235, 235, 235)


def draw_faces(
    photo: Tensor, faces: Sequence[DetectedFace], chosen: DetectedFace | None = None
) -> Tensor:
    """The photo with all faces marked: numbered from left to right, with source and score.

    Args:
        photo: `(H, W, 3)` RGB in [0, 1].
        faces: In pixels of the photo.
        chosen: One of them, drawn in another color and with a stronger line.

    Returns:
        `(H, W, 3)` RGB in [0, 1].
    """
    canvas = Image.fromarray(as_bytes(photo))
    draw = ImageDraw.Draw(canvas)
    unit = max(1, round(min(canvas.size) / 256))
    font = ImageFont.load_default(10 * unit)
    for number, face in enumerate(left_to_right(faces)):
        picked = face == chosen
        color = _CHOSEN if picked else _OTHER
        draw.rectangle(face.box, outline=color, width=2 * unit if picked else unit)
        for x, y in face.points or ():
            draw.ellipse((x - 2 * unit, y - 2 * unit, x + 2 * unit, y + 2 * unit), fill=color)
        # The words stand on a plate above the corner, moved into the picture.
        words = f"{number}: {face.detector} {face.score:.2f}{' (chosen)' if picked else ''}"
        left, top, right, bottom = draw.textbbox((0, 0), words, font=font)
        x = max(0.0, min(face.box[0], canvas.size[0] - right))
        y = max(0.0, min(face.box[1] - bottom, canvas.size[1] - bottom))
        draw.rectangle((x + left, y + top, x + right, y + bottom), fill=(0, 0, 0))
        draw.text((x, y), words, fill=color, font=font)
    return torch.from_numpy(np.array(canvas)).to(photo) / 255


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
        pixels = picture.cpu().numpy() if picture.dtype == torch.uint8 else as_bytes(picture)
        small = Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS)
        canvas.paste(small, (x, y))
        if number == marked:
            draw.rectangle((x - 2, y - 2, x + side + 1, y + side + 1), outline=_CHOSEN, width=3)
        for line, part in enumerate(text.split("\n")):
            draw.text((x + 2, y + side + 2 + line * _LINE), part, fill=_INK, font=font)
    return torch.from_numpy(np.array(canvas)).float() / 255


def draw_beside(reference: Tensor, frame: Tensor, words: str, height: int) -> Tensor:
    """A reference to the left of a frame, words in a bar below them.

    Args:
        reference: `(h, w, 3)` RGB in [0, 1].
        frame: `(H, W, 3)` RGB in [0, 1].
        words: One line.
        height: Of both pictures, in pixels.

    Returns:
        `(height + bar, W', 3)` RGB in [0, 1]; both sides even, as video codecs want them.
    """
    images = [Image.fromarray(as_bytes(picture)) for picture in (reference, frame)]
    sizes = [(max(2, round(i.width * height / i.height / 2) * 2), height) for i in images]
    bar = 2 * round(max(_LINE + 2 * _GAP, height / 12) / 2)
    canvas = Image.new("RGB", (sizes[0][0] + _GAP + sizes[1][0], height + bar), _GROUND)
    for image, size, x in zip(images, sizes, (0, sizes[0][0] + _GAP), strict=True):
        canvas.paste(image.resize(size, Image.Resampling.LANCZOS), (x, 0))
    font = ImageFont.load_default(bar * 0.6)
    ImageDraw.Draw(canvas).text((_GAP, height + bar * 0.12), words, fill=_INK, font=font)
    return torch.from_numpy(np.array(canvas)).float() / 255
