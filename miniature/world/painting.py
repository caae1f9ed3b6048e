"""What a person looks like: a color for every point of the surface, and where hair stands off."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .people import People

if TYPE_CHECKING:
    from .drawing import Surface

INSIDE = 5000  # points of the curtain between the lips, the last ones
# Landmarks of the template (metres), the subject's left side; see `sculpture`.
_LIPS_Y, _BROWS_Y = -0.0535, 0.0415


def painted(people: People, here: Surface) -> tuple[Tensor, Tensor]:
    """Colors (B, K, 3) of the points and (B, K) metres that hair stands off."""
    x, y, z = here.places.unbind(1)
    side = x.abs()
    color = people.skin[:, None].expand(-1, len(x), -1).clone()

    def paint(where: Tensor, paints: Tensor) -> None:
        color[:] = torch.where(where[..., None], paints[:, None], color)

    def both(where: Tensor) -> Tensor:
        return where.expand(len(people), -1)

    def fixed(*values: float) -> Tensor:
        return torch.tensor(values).expand(len(people), 3)

    style, line = people.style[:, None], people.hairline[:, None]
    ear = (side > 0.068) & ((z + 0.015).abs() < 0.022) & (y.abs() < 0.04)
    top = (y > 0.012 + line + 1.05 * z) & ~ear & ~here.eye & (y > -0.10)
    flank = (z < 0.014) & (y > -0.085) & (y < 0.06)
    hair = ((style > 0) & top) | ((style == 3) & flank)
    cheek = (y < -0.062) & (y > -0.115) & (z > 0.012)
    lip = (y < -0.036) & (y > -0.046) & (side < 0.026) & (z > 0.07)
    paint((cheek | lip) & (people.beard[:, None] > 0), people.hair * 0.9 + people.skin * 0.1)
    bow = 0.0095 * (1 - (side / 0.029) ** 2).clamp(min=0).sqrt()
    paint(both((side < 0.0265) & ((y - _LIPS_Y).abs() < bow) & (z > 0.06)), people.lips)
    arch = _BROWS_Y + 0.003 * torch.sin((side - 0.012) / 0.034 * math.pi)
    paint(
        (side > 0.011) & (side < 0.047) & ((y - arch).abs() < people.brow[:, None]) & (z > 0.04),
        people.hair * 0.8,
    )
    inside = torch.arange(len(x)) >= len(x) - INSIDE
    paint(
        both(((here.mouth.abs() < 1.4) & (side < 0.026) & (z < 0.088)) | inside),
        fixed(0.22, 0.05, 0.06),
    )
    # Eyes as a painter would: larger than the lids leave them, so that 96 pixels show them.
    across, up = side - 0.0315, y - 0.0185
    white = (torch.hypot(across, up * 1.5) < 0.0135) & (z > 0.03)
    paint(both(here.eye | white), fixed(0.95, 0.95, 0.93))
    for radius, paints in ((0.0066, people.eyes), (0.0032, fixed(0.02, 0.02, 0.02))):
        paint(both(torch.hypot(across, up) < radius) & (z > 0.03), paints)
    ring = torch.hypot((side - 0.0325) / 1.15, up)
    bridge = (side < 0.012) & ((y - 0.024).abs() < 0.0028)
    temple = (side > 0.058) & ((y - 0.022).abs() < 0.0026) & (z > -0.01)
    rim = ((ring - 0.0225).abs() < 0.0026) | bridge
    paint(((rim & (z > 0.035)) | temple) & (people.glasses[:, None] > 0), people.frame)
    paint(hair, people.hair)
    paint(both(y < -0.150), people.shirt)
    puff = people.volume[:, None] * (1 + (style >= 2) * 0.8) * (hair & ~ear).float()
    edge = ((y - (0.012 + line + 1.05 * z)) / 0.030).clamp(0, 1)
    return color, puff * torch.where((style == 3) & flank & (y < 0.0), 0.1, edge)
