"""Who lives in the little world: everything that makes a person, as numbers."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ..motion import SHAPE_FIELDS

SHAPES = len(SHAPE_FIELDS)  # only the named directions of the stand-in head are used
SIZE, WIDTH, HEIGHT, JAW = range(4)
# Half the range of the uniform draw of the first four, in units of their direction: wide enough
# that the shape of a head can be seen at 96 pixels. The rest is normal.
SPREADS = {SIZE: 1.5, WIDTH: 5.0, HEIGHT: 3.5, JAW: 5.0}
OTHER_SPREAD = 1.4

HAIR_STYLES = ("bald", "short", "full", "long")
HAIR_COLORS = (
    (0.08, 0.06, 0.05), (0.28, 0.16, 0.09), (0.55, 0.34, 0.14), (0.88, 0.73, 0.40),
    (0.66, 0.22, 0.07), (0.72, 0.72, 0.72), (0.42, 0.14, 0.46), (0.14, 0.36, 0.58),
)  # fmt: skip
EYE_COLORS = ((0.25, 0.14, 0.06), (0.20, 0.42, 0.70), (0.22, 0.50, 0.28), (0.05, 0.04, 0.04))
SKINS = ((0.96, 0.80, 0.70), (0.78, 0.55, 0.40), (0.33, 0.20, 0.14))


@dataclass(frozen=True, slots=True)
class People:
    """`B` people, one row each.

    Attributes:
        betas: (B, 18) coefficients of the named shape directions of the stand-in head.
        skin: (B, 3) color in [0, 1]; `hair`, `eyes`, `lips`, `shirt` and `frame` likewise.
        style: (B,) index into `HAIR_STYLES`.
        hairline: (B,) metres by which it recedes.
        volume: (B,) metres that hair stands off.
        brow: (B,) metres, half the thickness of the brows.
        beard: (B,) 1 or 0; `glasses` likewise.
    """

    betas: Tensor
    skin: Tensor
    hair: Tensor
    eyes: Tensor
    lips: Tensor
    shirt: Tensor
    frame: Tensor
    style: Tensor
    hairline: Tensor
    volume: Tensor
    brow: Tensor
    beard: Tensor
    glasses: Tensor

    def __len__(self) -> int:
        return len(self.betas)

    def __getitem__(self, rows: Tensor | slice | list[int]) -> People:
        return People(*(getattr(self, f.name)[rows] for f in dataclasses.fields(self)))


def draw_people(count: int, seed: int) -> People:
    """Draw people; the same seed gives the same ones."""
    source = Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=source)

    def choice(table: tuple[tuple[float, ...], ...]) -> Tensor:
        return torch.tensor(table)[torch.randint(len(table), (count,), generator=source)]

    betas = OTHER_SPREAD * torch.randn(count, SHAPES, generator=source)
    for number, half in SPREADS.items():
        betas[:, number] = half * (2.0 * uniform() - 1.0)
    light, middle, dark = torch.tensor(SKINS)
    tone = uniform(1)
    lighter, darker = light + (middle - light) * 2 * tone, middle + (dark - middle) * (2 * tone - 1)
    skin = torch.where(tone < 0.5, lighter, darker)
    skin = (skin + (uniform(3) - 0.5) * torch.tensor([0.06, 0.06, 0.08])).clamp(0.05, 0.98)
    hair = (choice(HAIR_COLORS) + (uniform(3) - 0.5) * 0.06).clamp(0.02, 1.0)
    red = torch.tensor([0.85, 0.52, 0.52])
    return People(
        betas=betas,
        skin=skin,
        hair=hair,
        eyes=choice(EYE_COLORS),
        lips=(skin * red + torch.tensor([0.14, 0.0, 0.02]) * uniform(1)).clamp(0.0, 1.0),
        shirt=uniform(3) * 0.7 + 0.15,
        frame=uniform(3) * 0.35,
        style=torch.randint(len(HAIR_STYLES), (count,), generator=source),
        hairline=uniform() * 0.03,
        volume=0.005 + uniform() * 0.012,
        brow=0.0024 + uniform() * 0.0032,
        beard=(uniform() < 0.25).float(),
        glasses=(uniform() < 0.25).float(),
    )
