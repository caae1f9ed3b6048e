"""What a frame of the little world shows, read back: pose, points, colors, shape, background.

The reader is a small network that is trained on drawn frames, where all of this is known, and is
part of the measuring alone. `explained` says how well it reads frames of people whom it has not
seen; nothing is measured with it that it does not read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from .studio import FaceNetwork, _rate
from .world.dataset import SIZE, Person
from .world.drawing import ZOOM, five_points
from .world.films import BACKGROUNDS, MOTIONS
from .world.people import JAW, WIDTH

# Name -> columns of what the reader puts out.
COLUMNS = {
    "points": slice(0, 10), "pose": slice(10, 15), "skin": slice(15, 18), "hair": slice(18, 21),
    "shape": slice(21, 23), "background": slice(23, 27),
}  # fmt: skip
WIDTH_OUT = 27
LOOKED_AT = (0, 4, 8, 12, 16)  # frames from which a motion is told


@dataclass(frozen=True, slots=True)
class Labels:
    """Frames and what they show.

    Attributes:
        frames: (N, 96, 96, 3) uint8.
        truth: (N, 27) scaled to a spread near 1; see `COLUMNS`.
        haired: (N,) bool: hair has a color.
    """

    frames: Tensor
    truth: Tensor
    haired: Tensor


def labels_of(person: Person) -> Labels:
    """Every second frame of a person's films with its labels."""
    frames, rows = [], []
    one = person.people
    for film, clip in zip(person.films, person.clips, strict=True):
        points = five_points(one, film, SIZE, ZOOM).flatten(1) / SIZE
        count = len(clip)
        still = torch.cat([
            one.skin[0], one.hair[0], one.betas[0, [WIDTH, JAW]] / 3.0,
            F.one_hot(torch.tensor(list(BACKGROUNDS).index(film.background)), 4).float(),
        ])  # fmt: skip
        scale = torch.tensor([1.0, 1.0, 1.0, 2.0, 0.25])
        rows.append(torch.cat([points * 4, film.pose * scale, still.expand(count, -1)], 1)[::2])
        frames.append(clip[::2])
    haired = torch.full((sum(map(len, frames)),), bool(one.style[0] > 0))
    return Labels(torch.cat(frames), torch.cat(rows), haired)


def all_labels(people: Iterable[Person]) -> Labels:
    """Those of all of them."""
    parts = [labels_of(person) for person in people]
    return Labels(*(torch.cat([getattr(p, n) for p in parts]) for n in Labels.__slots__))


class Reader(nn.Module):
    """Frames (B, 3, 96, 96) in [-1, 1] to (B, 27)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = FaceNetwork().features
        self.out = nn.Sequential(nn.Linear(96 * 3 * 3, 192), nn.ReLU(), nn.Linear(192, WIDTH_OUT))

    def forward(self, frames: Tensor) -> Tensor:
        return self.out(self.features(frames).flatten(1))


def _softened(frames: Tensor, source: Generator) -> Tensor:
    """Frames (B, 96, 96, 3) uint8 as a generated film may have them."""
    pictures = frames.permute(0, 3, 1, 2).float() / 127.5 - 1
    size = int(torch.randint(40, SIZE + 1, (), generator=source))
    pictures = F.interpolate(pictures, size, mode="bilinear", antialias=True, align_corners=False)
    pictures = F.interpolate(pictures, SIZE, mode="bilinear", align_corners=False)
    return pictures + 0.03 * torch.randn(pictures.shape, generator=source)


def train_reader(labels: Labels, steps: int, seed: int = 0) -> Reader:
    """Teach the reader all columns at once."""
    torch.manual_seed(seed)
    source, model = Generator().manual_seed(seed), Reader()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _rate(step, steps, 3e-3)
        which = torch.randint(len(labels.frames), (64,), generator=source)
        error = (model(_softened(labels.frames[which], source)) - labels.truth[which]).square()
        error[:, COLUMNS["hair"]] *= labels.haired[which, None]
        loss = error.mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if (step + 1) % 200 == 0:
            print(f"reader step {step + 1} loss {loss.item():.4f}", flush=True)
    return model.eval()


@torch.no_grad()
def read(model: Reader, frames: Tensor) -> Tensor:
    """(..., 96, 96, 3) uint8 to (..., 27)."""
    flat = frames.flatten(0, -4)
    found = [model(part.permute(0, 3, 1, 2).float() / 127.5 - 1) for part in flat.split(256)]
    return torch.cat(found).view(*frames.shape[:-3], WIDTH_OUT)


def explained(model: Reader, labels: Labels) -> dict[str, float]:
    """Share of the variance of each kind of label that is read from unseen frames."""
    found, told = read(model, labels.frames), {}
    for name, columns in COLUMNS.items():
        rows = labels.haired if name == "hair" else torch.ones_like(labels.haired)
        truth, error = labels.truth[rows, columns], found[rows, columns]
        told[name] = 1.0 - float((error - truth).square().mean() / truth.var(0).mean())
    return told


def points_of(reading: Tensor) -> Tensor:
    """(..., 27) to five points (..., 5, 2) in pixels of the frame."""
    return reading[..., COLUMNS["points"]].unflatten(-1, (5, 2)) * (SIZE / 4)


@dataclass(frozen=True, slots=True)
class MotionReader:
    """Tells one of the motions from the poses of a film, by the nearest mean of real ones.

    Attributes:
        means: (7, 16).
    """

    means: Tensor

    @staticmethod
    def _features(readings: Tensor) -> Tensor:
        pose = readings[:, LOOKED_AT, COLUMNS["pose"]][..., [0, 1, 3, 4]]  # (B, 5, 4)
        return torch.tanh((pose[:, 1:] - pose[:, :1]) / 0.3).flatten(1)

    @staticmethod
    def fit(readings: Tensor, motions: Sequence[str]) -> MotionReader:
        """From readings (B, 17, 27) of real films whose motions are known."""
        rows = MotionReader._features(readings)
        kinds = torch.tensor([list(MOTIONS).index(m) for m in motions])
        return MotionReader(torch.stack([rows[kinds == n].mean(0) for n in range(len(MOTIONS))]))

    def motions(self, readings: Tensor) -> list[str]:
        """The motion of each film."""
        nearest = torch.cdist(self._features(readings), self.means).argmin(1)
        return [list(MOTIONS)[n] for n in nearest.tolist()]


def interval(values: Tensor, draws: int = 2000) -> tuple[float, float]:
    """The 95 % interval of a mean by the bootstrap over people."""
    source = Generator().manual_seed(0)
    picks = torch.randint(len(values), (draws, len(values)), generator=source)
    means = values.float()[picks].mean(1).sort().values
    return float(means[math.floor(0.025 * draws)]), float(means[math.ceil(0.975 * draws) - 1])
