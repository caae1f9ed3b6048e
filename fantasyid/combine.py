"""Several references of one person: one set of face tokens from many."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor

MEAN = "mean"
NORM_PRESERVING = "norm-preserving mean"
WEIGHTED = "weighted"
CONCATENATED = "concatenated"
MODES = (MEAN, NORM_PRESERVING, WEIGHTED, CONCATENATED)


def combine_tokens(tokens: Tensor, mode: str, weights: Sequence[float] = ()) -> Tensor:
    """One set of tokens from those of several crops.

    Args:
        tokens: `(R, K, C)` of R references.
        mode: "mean" averages token by token, which shortens tokens that disagree;
            "norm-preserving mean" gives each token the mean length back; "weighted" is the mean
            with weights; "concatenated" keeps all tokens.
        weights: One per reference, for "weighted"; only their ratios count.

    Returns:
        `(1, K, C)`, or `(1, R * K, C)` when concatenated.

    Raises:
        ValueError: There is no reference, no such mode, or the weights do not fit.
    """
    if mode not in MODES:
        raise ValueError(f'the mode is "{mode}", expected one of: {", ".join(MODES)}')
    if tokens.ndim != 3 or tokens.shape[0] == 0:
        raise ValueError(f"the face tokens are {tuple(tokens.shape)}, expected (R, K, C), R > 0")
    if mode == CONCATENATED:
        return tokens.reshape(1, -1, tokens.shape[-1])
    if mode == WEIGHTED:
        share = _shares(weights, tokens.shape[0]).to(tokens)
        return torch.einsum("rkc,r->kc", tokens, share)[None]
    mean = tokens.mean(0, keepdim=True)
    if mode == MEAN:
        return mean
    length = torch.linalg.vector_norm(tokens, dim=-1, keepdim=True).mean(0, keepdim=True)
    now = torch.linalg.vector_norm(mean, dim=-1, keepdim=True)
    return mean * (length / now.clamp(min=1e-12))


def _shares(weights: Sequence[float], count: int) -> Tensor:
    values = torch.tensor([float(w) for w in weights], dtype=torch.float64)
    if len(values) != count:
        raise ValueError(f"there are {len(values)} weights for {count} references")
    if not torch.isfinite(values).all() or (values < 0).any() or values.sum() <= 0:
        raise ValueError(
            f"the weights are {list(weights)}: expected numbers of 0 or more, not all 0"
        )
    return values / values.sum()


def parse_weights(text: str) -> list[float]:
    """Numbers that a person typed, separated by commas, semicolons or blanks.

    Raises:
        ValueError: One of them is no number.
    """
    values = []
    for part in re.split(r"[,;\s]+", text.strip()):
        if not part:
            continue
        try:
            value = float(part)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f'"{part}" is no weight: type one number per reference, "1, 0.5, 2"')
        values.append(value)
    return values
