"""Which of several takes to finish: likeness and motion against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Take:
    """A seed, sampled for a few steps."""

    seed: int  # of the noise
    likeness: float | None  # RS of the preview, or None where no face or no reference was there
    motion: float | None  # FM of the preview, or None where no face was there


def scores(takes: Sequence[Take], likeness_share: float) -> list[float]:
    """A score from 0 to 1 per take.

    Likeness and motion have different units; each is stretched over the takes, so that the worst
    has 0 and the best 1. A take without a value has 0: a face that nobody finds is not alike. What
    no take has, or all have alike, decides nothing.

    Args:
        takes: At least one.
        likeness_share: 1 goes by likeness alone, 0 by motion alone.

    Raises:
        ValueError: The share is outside of 0 to 1, or there is no take.
    """
    if not takes:
        raise ValueError("there is no take to choose from")
    if not 0.0 <= likeness_share <= 1.0:
        raise ValueError(f"likeness is {likeness_share:g}, expected 0 (motion) to 1 (likeness)")
    likeness = _stretched([take.likeness for take in takes])
    motion = _stretched([take.motion for take in takes])
    return [
        likeness_share * alike + (1.0 - likeness_share) * alive
        for alike, alive in zip(likeness, motion, strict=True)
    ]


def best(takes: Sequence[Take], likeness_share: float) -> int:
    """The number of the take with the highest score; the first of equal ones."""
    rated = scores(takes, likeness_share)
    return rated.index(max(rated))


def _stretched(values: Sequence[float | None]) -> list[float]:
    known = [value for value in values if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    if high == low:
        return [0.0 if value is None else 1.0 for value in values] if known else [0.0] * len(values)
    return [0.0 if value is None else (value - low) / (high - low) for value in values]
