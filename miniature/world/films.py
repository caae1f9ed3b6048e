"""What happens in the little world: known motions, and the words for them.

Left and right are those of the picture, as a viewer sees them.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

MOTIONS: dict[str, tuple[str, ...]] = {
    "turns left": ("turns left", "turns the head to the left", "looks left", "rotates to the left"),
    "turns right": (
        "turns right", "turns the head to the right", "looks right", "rotates to the right",
    ),
    "nods": ("nods", "is nodding", "nods the head", "says yes with a nod"),
    "looks up": ("looks up", "raises the head", "looks upward", "gazes at the sky"),
    "opens the mouth": (
        "opens the mouth", "opens the mouth wide", "yawns", "drops the jaw",
    ),
    "smiles": ("smiles", "is smiling", "gives a big smile", "grins happily"),
    "stands still": ("stands still", "stays still", "does not move", "keeps perfectly still"),
}  # fmt: skip
# Muted, so that what moves counts beside what does not.
BACKGROUNDS: dict[str, tuple[tuple[float, float, float], tuple[str, ...]]] = {
    "red": ((0.55, 0.33, 0.33), ("red", "crimson")),
    "green": ((0.34, 0.50, 0.36), ("green", "emerald")),
    "blue": ((0.33, 0.40, 0.58), ("blue", "azure")),
    "gray": ((0.46, 0.46, 0.47), ("gray", "grey")),
}
# No word of a motion: CogVideoX gives text no order, only words.
LIGHTS: dict[str, tuple[float, tuple[str, ...]]] = {
    "left": (-0.8, (", morning light", ", in the morning")),
    "front": (0.0, ("", ", front light")),
    "right": (0.8, (", evening light", ", in the evening")),
}
SUBJECTS = ("a person", "someone", "a portrait of a person who", "a face that")
PLACES = ("{} background", "in front of a {} wall", "on a {} backdrop")


@dataclass(frozen=True, slots=True)
class Film:
    """What one clip shows, `F` frames; angles in radians.

    Attributes:
        motion: A key of `MOTIONS`; `background` of `BACKGROUNDS`, `light` of `LIGHTS`.
        prompt: The sentence that says so.
        pose: (F, 5) yaw (positive: to the picture's right), pitch (positive: up), roll, opening of
            the jaw, and smile (coefficient of the expression).
        color: (3,) of the background.
        beam: (3,) direction of the light.
        shift: (2,) of the head, as a share of the picture.
    """

    motion: str
    background: str
    light: str
    prompt: str
    pose: Tensor
    color: Tensor
    beam: Tensor
    shift: Tensor


def prompt_of(motion: str, background: str, light: str, pick: Sequence[int]) -> str:
    """The sentence for a film: `pick` chooses among the synonyms of its four parts."""
    words = (
        SUBJECTS[pick[0] % len(SUBJECTS)],
        MOTIONS[motion][pick[1] % len(MOTIONS[motion])],
        PLACES[pick[2] % len(PLACES)].format(BACKGROUNDS[background][1][pick[3] % 2]),
        LIGHTS[light][1][pick[3] // 2 % 2],
    )
    return f"{words[0]} {words[1]}, {words[2]}{words[3]}"


def _pose(motion: str, frames: int, start: list[float], size: float) -> Tensor:
    """A motion that begins at yaw, pitch and roll `start`, (F, 5); `size` is its extent."""
    time = torch.linspace(0.0, 1.0, frames)
    ease = time * time * (3.0 - 2.0 * time)
    there_and_back = -torch.sin(2.0 * math.pi * time).clamp(min=-0.35)
    column, course = {
        "turns left": (0, -0.95 * ease),
        "turns right": (0, 0.95 * ease),
        "nods": (1, 0.50 * there_and_back),
        "looks up": (1, 0.60 * ease),
        "opens the mouth": (3, 0.50 * ease),
        "smiles": (4, 4.5 * ease),
        "stands still": (0, 0.0 * ease),
    }[motion]
    pose = torch.tensor([*start, 0.0, 0.0]).repeat(frames, 1)
    pose[:, column] += size * course
    return pose


def draw_film(
    motion: str,
    background: str,
    light: str,
    frames: int,
    source: Generator,
    taken: Container[str] = (),
) -> Film:
    """Draw a film of a kind.

    Args:
        motion: A key of `MOTIONS`; `background` and `light` likewise.
        frames: How many.
        source: Of everything that is not given.
        taken: Sentences that are not to be used.
    """

    def between(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=source))

    while True:
        pick = torch.randint(24, (4,), generator=source).tolist()
        prompt = prompt_of(motion, background, light, pick)
        # The first condition is part of the drawing that the shipped weights were trained on.
        if sum(pick[:3]) % 6 != 5 and prompt not in taken:
            break
    start = [between(-most, most) for most in (0.15, 0.10, 0.06)]
    base = torch.tensor(BACKGROUNDS[background][0])
    return Film(
        motion=motion,
        background=background,
        light=light,
        prompt=prompt,
        pose=_pose(motion, frames, start, between(0.75, 1.25)),
        color=base + (torch.rand(3, generator=source) - 0.5) * 0.03,
        beam=torch.tensor([LIGHTS[light][0] + between(-0.15, 0.15), 0.45, 0.8]),
        shift=torch.tensor([between(-0.02, 0.02), between(-0.02, 0.02)]),
    )


def draw_photo(source: Generator) -> Film:
    """The pose, ground and light of a photo: a film of one frame, without words."""

    def between(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=source))

    pose = (between(-0.6, 0.6), between(-0.2, 0.2), between(-0.08, 0.08), between(0, 0.12),
            between(0.0, 1.0))  # fmt: skip
    return Film(
        motion="", background="", light="", prompt="",
        pose=torch.tensor([pose]),
        color=torch.full((3,), between(0.35, 0.8)),
        beam=torch.tensor([between(-0.6, 0.6), between(0.2, 0.6), between(0.7, 0.9)]),
        shift=torch.zeros(2),
    )  # fmt: skip
