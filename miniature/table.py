"""The table of docs/miniature.md: `python -m miniature evaluate`.

The row "real films" says what the networks that read videos back reach where nothing was made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fantasyid.training.network import TrainedNetwork

from .autoencoder import as_input
from .evaluation import CONDITIONS, Found, Given, make_videos, measure
from .reading import MotionReader, Reader, interval
from .studio import FaceNetwork
from .world.films import MOTIONS


def row(name: str, found: Found) -> str:
    """A row of the table in Markdown, with 95 % intervals over people."""

    def share(values: Tensor) -> str:
        low, high = interval(values)
        return f"{100 * float(values.mean()):.0f} % ({100 * low:.0f} to {100 * high:.0f})"

    ratio = float(found.color_own.mean() / found.color_other.mean())
    low, high = interval(found.likeness)
    cells = (
        share(found.found), f"{float(found.likeness.mean()):.2f} ({low:.2f} to {high:.2f})",
        f"{ratio:.2f}", ", ".join(f"{float(one):.2f}" for one in found.shape),
        share(found.motion), share(found.background), f"{found.pose_copied:.2f}",
    )  # fmt: skip
    return f"| {name} | " + " | ".join(cells) + " |"


HEAD = (
    "| videos | person found among all | RS | color error own / other | shape: size, width, jaw | "
    "motion = prompt | background = prompt | photo's yaw copied |\n"
    "|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True, slots=True)
class Judges:
    """What reads videos back."""

    reader: Reader
    motions: MotionReader
    recognizer: FaceNetwork


def table(
    network: TrainedNetwork,
    given: Given,
    vae: Any,
    judges: Judges,
    cfg: float,
    scale: float,
) -> Iterator[tuple[str, Tensor]]:
    """The lines of the table in Markdown, each with the videos (B, 17, 96, 96, 3) it is about.

    Args:
        vae: The host's class with the shipped weights; `scale` is that of its latents.
    """

    def line(name: str, videos: Tensor) -> tuple[str, Found]:
        found = measure(videos, given, judges.reader, judges.motions, judges.recognizer)
        return row(name, found), found

    real = torch.stack([person.clips[0] for person in given.people])
    yield line("real films", real)[0], real
    with torch.no_grad():
        trips = torch.cat([vae.decode(vae.encode(as_input(film[None]))) for film in real])
    back = ((trips.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 4, 1)
    yield line("real films through the VAE", back)[0], back
    likeness: dict[str, Tensor] = {}
    for condition in CONDITIONS:
        videos = make_videos(network, given, vae, condition, cfg, scale)
        words, found = line(condition.name, videos)
        likeness[condition.name] = found.likeness
        yield words, videos
        if condition.name == "whole":
            by_kind = ", ".join(
                f"{kind} {100 * float(found.motion[rows].mean()):.0f} % of {len(rows)}"
                for kind in MOTIONS
                if (rows := [n for n, m in enumerate(given.motions) if m == kind])
            )
            yield f"\nMotion by kind: {by_kind}.\n", videos
    apart = likeness["whole"] - likeness["another's identity"]
    low, high = interval(apart)
    yield f"\nRS(own) - RS(another's): {float(apart.mean()):.2f} ({low:.2f} to {high:.2f})", real
