"""One head from several readings of one person."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .head_frame import head_frame, lay_onto

METHODS = ("mean", "median", "weighted", "by frontality")
# A head in full profile, or a blurred one, still counts a little.
LEAST_SCORE = 0.05
ROUNDS = 3


def frontality(heads: Sequence[Tensor]) -> Tensor:
    """How far each head looks ahead: the cosine of its angle, `(N,)` in [0.05, 1].

    Args:
        heads: `(5023, 3)` each.
    """
    cosines = [math.cos(head_frame(head).angle_from_ahead_rad) for head in heads]
    return torch.tensor(cosines, dtype=torch.float64).clamp(min=LEAST_SCORE)


def clearness(sharpness: Sequence[float], enough: float) -> Tensor:
    """How far each photo is sharp enough, `(N,)` in [0.05, 1].

    Args:
        sharpness: One measure per photo, 0 or more.
        enough: From here on all count alike: more is texture and noise, not better focus.
    """
    return (torch.tensor(sharpness, dtype=torch.float64) / enough).clamp(LEAST_SCORE, 1.0)


def shares(*scores: Tensor) -> Tensor:
    """Weights in proportion to the product of scores: `(N,)` each -> `(N,)` with sum 1."""
    product = torch.stack(scores).prod(dim=0)
    return product / product.sum()


def average(values: Tensor, method: str, weights: Tensor | None = None) -> Tensor:
    """One row from several.

    Args:
        values: `(N, ...)`.
        method: One of `METHODS`; "median" ignores weights.
        weights: `(N,)` with sum 1, for the weighted methods.

    Returns:
        `(...)` in the type of `values`. The median of an even number is the mean of the middle two.
    """
    if method not in METHODS:
        raise ValueError(f"average: expected one of {', '.join(METHODS)}, got {method!r}")
    exact = values.double()
    if method == "median":
        return exact.quantile(0.5, dim=0).to(values.dtype)
    if weights is None:
        weights = torch.full((len(values),), 1 / len(values), dtype=torch.float64)
    return torch.einsum("n,n...->...", weights, exact).to(values.dtype)


def average_vertices(heads: Sequence[Tensor], method: str, weights: Tensor | None = None) -> Tensor:
    """The average of heads laid onto each other, in the pose of the first.

    Args:
        heads: `(5023, 3)` each.
        method: See `average`.
        weights: See `average`.
    """
    middle = heads[0].double()
    for _ in range(ROUNDS):
        middle = average(torch.stack([lay_onto(head, middle) for head in heads]), method, weights)
    return lay_onto(middle, heads[0]).to(heads[0].dtype)
