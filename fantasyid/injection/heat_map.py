"""The picture of an injection report: blocks down, steps across, color for how much was added."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .report import BRANCHES, InjectionReport

_WIDTH, _HEIGHT = 420, 420  # of one branch's field
_LEFT, _TOP, _BETWEEN, _BELOW, _BAR = 56, 44, 64, 48, 18
_GROUND, _INK, _NOT_RUN = (24, 24, 26), (235, 235, 235), (70, 70, 74)
# From nothing to the most: dark blue, blue, green, yellow; rising in lightness, so that it reads
# in gray and for the color-blind.
_COLORS = np.array(
    [(20, 18, 60), (38, 70, 140), (32, 140, 141), (120, 200, 90), (250, 230, 60)], np.float64
)


def draw_report(report: InjectionReport) -> Tensor:
    """Both branches side by side with a common scale.

    Returns:
        `(H, W, 3)` RGB in [0, 1].
    """
    fields = [report.conditional, report.unconditional]
    most = float(torch.stack(fields).nan_to_num().max()) or 1.0
    width = _LEFT + 2 * _WIDTH + _BETWEEN + 110
    canvas = Image.new("RGB", (width, _TOP + _HEIGHT + _BELOW), _GROUND)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    for number, (name, field) in enumerate(zip(BRANCHES, fields, strict=True)):
        left = _LEFT + number * (_WIDTH + _BETWEEN)
        picture = Image.fromarray(_colors(field.T.numpy() / most))
        canvas.paste(picture.resize((_WIDTH, _HEIGHT), Image.Resampling.NEAREST), (left, _TOP))
        draw.text((left, 14), f"{name}: residual / hidden states", fill=_INK, font=font)
        steps, blocks = field.shape
        for text, x in (("1", left), (f"step {steps}", left + _WIDTH - 50)):
            draw.text((x, _TOP + _HEIGHT + 8), text, fill=_INK, font=font)
        for text, y in (("0", _TOP), (f"{blocks - 1}", _TOP + _HEIGHT - 16)):
            draw.text((left - 26, y), text, fill=_INK, font=font)
        draw.text((left - 50, _TOP + _HEIGHT // 2), "block", fill=_INK, font=font)
    _draw_scale(canvas, draw, font, width - 90, most)
    return torch.from_numpy(np.array(canvas)).float() / 255


def _draw_scale(
    canvas: Image.Image, draw: ImageDraw.ImageDraw, font: Any, left: int, most: float
) -> None:
    ramp = _colors(np.linspace(1.0, 0.0, _HEIGHT)[:, None])
    canvas.paste(Image.fromarray(ramp).resize((_BAR, _HEIGHT)), (left, _TOP))
    for share in (0.0, 0.5, 1.0):
        y = _TOP + round((1.0 - share) * (_HEIGHT - 16))
        text = f"{100 * share * most:.2g} %"
        draw.text((left + _BAR + 6, y), text, fill=_INK, font=font)
    draw.rectangle((left, _TOP + _HEIGHT + 10, left + _BAR, _TOP + _HEIGHT + 24), fill=_NOT_RUN)
    draw.text((left + _BAR + 6, _TOP + _HEIGHT + 8), "not run", fill=_INK, font=font)


def _colors(values: np.ndarray) -> np.ndarray:
    """Shares `(H, W)` in [0, 1] or NaN to RGB `(H, W, 3)` uint8."""
    position = np.nan_to_num(values).clip(0, 1) * (len(_COLORS) - 1)
    anchors = np.arange(len(_COLORS))
    channels = [np.interp(position, anchors, _COLORS[:, c]) for c in range(3)]
    picture = np.stack(channels, -1).round().astype(np.uint8)
    picture[np.isnan(values)] = _NOT_RUN
    return picture
