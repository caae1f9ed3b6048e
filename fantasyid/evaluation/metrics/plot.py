"""Pictures of a measured clip: a curve per value, and the worst frames."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ...face.draw import draw_sheet
from .measurement import Measurement

Color = tuple[int, int, int]

WIDTH, PANEL_HEIGHT = 960, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 78, 24, 34, 40
_PAPER, _INK, _GRID, _MUTED = (255, 255, 255), (30, 30, 34), (226, 226, 230), (110, 110, 118)
_NO_FACE, _CUT = (244, 226, 222), (200, 60, 40)
_TICKS, _LABEL_PX = 5, 90
# Title, and what is drawn in each panel: value, its name, its color.
_PANELS: tuple[tuple[str, tuple[tuple[str, str, Color], ...]], ...] = (
    ("RS: cosine to the reference", (("rs", "RS", (34, 94, 168)),)),
    ("IFS: cosine to the frame before", (("ifs", "IFS", (24, 128, 90)),)),
    (
        "FM: % of the face's size per frame",
        (("fm_still", "without camera", (222, 150, 60)), ("fm", "FM", (176, 44, 80))),
    ),
)


def draw_plot(measured: Measurement) -> Tensor:
    """Curves over the frames, with their means; frames without a face are shaded.

    Values that nothing measured have no panel.

    Returns:
        `(H, 960, 3)` RGB in [0, 1].
    """
    panels = [p for p in _PANELS if any(measured.count(name) for name, _, _ in p[1])]
    canvas = Image.new("RGB", (WIDTH, PANEL_HEIGHT * max(1, len(panels))), _PAPER)
    draw = ImageDraw.Draw(canvas)
    if not panels:
        draw.text((_LEFT, _TOP), "nothing could be measured", fill=_INK, font=_font(18))
    for row, (title, curves) in enumerate(panels):
        shown = [c for c in curves if measured.count(c[0])]
        _Panel(draw, row * PANEL_HEIGHT, measured, shown).draw(title)
    return torch.from_numpy(np.array(canvas)).float() / 255


def draw_worst(measured: Measurement) -> Tensor:
    """The crops of the worst frames with their values, worst first; `(H, W, 3)` in [0, 1]."""
    if not measured.worst:
        return draw_sheet([torch.zeros(64, 64, 3)], ["no face found"])
    words = []
    for number, _ in measured.worst:
        frame = next(f for f in measured.frames if f.number == number)
        values = (("RS", frame.rs), ("IFS", frame.ifs), ("FM", frame.fm))
        known = [f"{name} {v:.3f}" for name, v in values if v is not None]
        words.append(f"frame {number}\n{', '.join(known)}")
    return draw_sheet([crop for _, crop in measured.worst], words)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


class _Panel:
    """One set of axes."""

    def __init__(
        self,
        draw: ImageDraw.ImageDraw,
        top: int,
        measured: Measurement,
        curves: list[tuple[str, str, Color]],
    ) -> None:
        self._pen, self._measured, self._curves = draw, measured, curves
        self._x = (_LEFT, WIDTH - _RIGHT)
        self._y = (top + _TOP, top + PANEL_HEIGHT - _BOTTOM)
        values = [v for name, _, _ in curves for f in measured.frames if (v := getattr(f, name))]
        low, high = min(values, default=0.0), max(values, default=0.0)
        if curves[0][0].startswith("fm"):
            low = 0.0
        self._ticks = round_ticks(low, high)
        self._last = max(1, measured.frames[-1].number)

    def draw(self, title: str) -> None:
        """Axes, then curves."""
        self._shade()
        self._axes()
        self._pen.text((_LEFT, self._y[0] - 24), title, fill=_INK, font=_font(15))
        x = self._x[1]
        for name, words, color in reversed(self._curves):
            mean = self._measured.mean(name)
            if mean is None:
                continue
            label = f"{words} mean {mean:.3f}"
            x -= int(self._pen.textlength(label, font=_font(14))) + 14
            self._pen.text((x, self._y[0] - 23), label, fill=color, font=_font(14))
        for name, _, color in self._curves:
            self._curve(name, color)

    def _across(self, number: float) -> float:
        return self._x[0] + (self._x[1] - self._x[0]) * number / self._last

    def _up(self, value: float) -> float:
        low, high = self._ticks[0], self._ticks[-1]
        return self._y[1] - (self._y[1] - self._y[0]) * (value - low) / (high - low)

    def _shade(self) -> None:
        for frame in self._measured.frames:
            if frame.box is None:
                sides = (self._across(frame.number - 0.5), self._across(frame.number + 0.5))
                x0, x1 = (min(max(side, self._x[0]), self._x[1]) for side in sides)
                self._pen.rectangle((x0, self._y[0], x1, self._y[1]), fill=_NO_FACE)

    def _axes(self) -> None:
        small, decimals = _font(12), tick_decimals(self._ticks)
        for value in self._ticks:
            y = self._up(value)
            self._pen.line((self._x[0], y, self._x[1], y), fill=_GRID)
            label = f"{value:.{decimals}f}"
            width = self._pen.textlength(label, font=small)
            self._pen.text((self._x[0] - width - 8, y - 8), label, fill=_MUTED, font=small)
        for number in self._frame_ticks():
            x, label = self._across(number), str(number)
            self._pen.line((x, self._y[1], x, self._y[1] + 4), fill=_MUTED)
            width = self._pen.textlength(label, font=small)
            self._pen.text((x - width / 2, self._y[1] + 6), label, fill=_MUTED, font=small)
        self._pen.text((self._x[0] - 66, self._y[1] + 20), "frame", fill=_MUTED, font=small)
        self._pen.rectangle((self._x[0], self._y[0], self._x[1], self._y[1]), outline=_MUTED)
        for frame in self._measured.frames:
            if frame.cut:
                x = self._across(frame.number - 0.5)
                self._pen.line((x, self._y[0], x, self._y[1]), fill=_CUT)

    def _frame_ticks(self) -> list[int]:
        most = (self._x[1] - self._x[0]) // _LABEL_PX
        step = max(1, int(_round_step(self._last / most)))
        return list(range(0, self._last + 1, step))

    def _curve(self, name: str, color: Color) -> None:
        run: list[tuple[float, float]] = []
        for frame in (*self._measured.frames, None):
            value = None if frame is None else getattr(frame, name)
            if frame is not None and value is not None:
                run.append((self._across(frame.number), self._up(value)))
                continue
            if len(run) == 1:  # a line of one point is not seen
                (x, y), r = run[0], 2
                self._pen.ellipse((x - r, y - r, x + r, y + r), fill=color)
            elif run:
                self._pen.line(run, fill=color, width=2)
            run = []


def round_ticks(low: float, high: float) -> list[float]:
    """Some round numbers, the first not above `low` and the last not below `high`."""
    if high - low < 1e-6:
        # A flat curve lies in the middle of its panel, above zero where it is zero.
        low, high = (0.0, 1.0) if abs(low) < 1e-6 else (low - 0.05, high + 0.05)
    step = _round_step((high - low) / _TICKS)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def tick_decimals(ticks: list[float]) -> int:
    """How many decimals tell the ticks apart."""
    return max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 5, 10, 20, ... (and tenths, ...) that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))
