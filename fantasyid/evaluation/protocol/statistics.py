"""Means and how sure they are: percentile bootstrap over videos.

Source: B. Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES, LEVEL, SEED = 10_000, 0.95, 0
_AT_ONCE = 1_000_000  # numbers drawn at a time


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over videos."""

    count: int  # of how many videos
    mean: float | None  # None where there is no video
    low: float | None  # lower end of the interval; None below two videos
    high: float | None  # upper end


def bootstrap_mean(
    values: Sequence[float | None],
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = SEED,
) -> Estimate:
    """The mean of a value over videos, and the interval in which it lies.

    Videos are drawn with replacement, as many as there are, `resamples` times; the interval holds
    the middle share of the means. It takes videos for independent of each other; several of one
    person are less so, and the true interval is then wider.

    Args:
        values: One per video; None (nothing to measure) is left out, never a zero.
        level: Share of the means inside the interval, between 0 and 1.
        seed: Of the draws: the same values give the same interval.
    """
    known = np.array([v for v in values if v is not None], np.float64)
    count = len(known)
    if count == 0:
        return Estimate(0, None, None, None)
    mean = float(known.mean())
    if count == 1:
        return Estimate(1, mean, None, None)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    rows = max(1, _AT_ONCE // count)
    for start in range(0, resamples, rows):
        part = means[start : start + rows]
        part[:] = known[rng.integers(0, count, (len(part), count))].mean(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    # Sums in another order may end a rounding error beside the mean.
    return Estimate(count, mean, min(float(low), mean), max(float(high), mean))
