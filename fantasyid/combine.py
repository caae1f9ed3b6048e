"""Several into one: references of one person to one set of tokens, two identities to a third.

Neither is in the paper, which has one photo of one person.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .identity import FaceGeometry, Identity, Provenance, make_thumbnail

MEAN, NORM_PRESERVING = "mean", "norm-preserving mean"
WEIGHTED, CONCATENATED = "weighted", "concatenated"
MODES = (MEAN, NORM_PRESERVING, WEIGHTED, CONCATENATED)


def combine_tokens(tokens: Tensor, mode: str, weights: Sequence[float] = ()) -> Tensor:
    """One set of tokens from those of several crops.

    Args:
        tokens: `(R, K, C)` of R references.
        mode: `MEAN` averages token by token, which shortens tokens that disagree;
            `NORM_PRESERVING` gives each token the mean length back; `WEIGHTED` is the mean with
            weights; `CONCATENATED` keeps all tokens.
        weights: One per reference, for `WEIGHTED`; only their ratios count.

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
        shares = torch.tensor([float(w) for w in weights], dtype=torch.float64)
        if len(shares) != tokens.shape[0]:
            raise ValueError(f"there are {len(shares)} weights for {tokens.shape[0]} references")
        if not torch.isfinite(shares).all() or (shares < 0).any() or shares.sum() <= 0:
            raise ValueError(
                f"the weights are {list(weights)}: expected numbers of 0 or more, not all 0"
            )
        return torch.einsum("rkc,r->kc", tokens, (shares / shares.sum()).to(tokens))[None]
    mean = tokens.mean(0, keepdim=True)
    return mean if mode == MEAN else _stretch(mean, _length(tokens).mean(0, keepdim=True))


def parse_weights(text: str) -> list[float]:
    """Numbers that a person typed, separated by commas, semicolons or blanks.

    Raises:
        ValueError: One of them is no number.
    """
    values = []
    for part in text.replace(",", " ").replace(";", " ").split():
        try:
            value = float(part)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(
                f'"{part[:40]}" is no weight: type one number per reference, "1, 0.5, 2"'
            )
        values.append(value)
    return values


def blend_tokens(a: Tensor, b: Tensor, amount: float) -> Tensor:
    """Tokens between two sets `(1, K, C)`, each as long as its place between the two asks for.

    The straight way from one token to another leads through shorter ones; attention would see a
    weaker identity half way. An amount of 0 gives `a`, 1 gives `b`, both bit for bit.
    """
    if amount in (0.0, 1.0):
        return b if amount else a
    return _stretch(torch.lerp(a, b, amount), torch.lerp(_length(a), _length(b), amount))


def blend_heads(
    a: FaceGeometry | None, b: FaceGeometry | None, amount: float
) -> FaceGeometry | None:
    """The head between two, vertex by vertex; None where one that is needed is not there."""
    if amount in (0.0, 1.0):
        return b if amount else a
    if a is None or b is None:
        return None
    betas = None
    if a.betas is not None and b.betas is not None and a.betas.shape == b.betas.shape:
        betas = torch.lerp(a.betas, b.betas, amount)
    return FaceGeometry(
        torch.lerp(a.vertices, b.vertices, amount),
        b.triangles if a.triangles is None else a.triangles,
        betas,
        f"{1 - amount:.0%} of ({a.source}) and {amount:.0%} of ({b.source})",
    )


def blend_identities(a: Identity, b: Identity, looks: float, shape: float) -> Identity:
    """The identity between two: 0 gives `a` and 1 gives `b`, bit for bit.

    Args:
        looks: Where the face tokens lie, 0 to 1.
        shape: Where the vertex tokens and the head lie, 0 to 1.

    Returns:
        The blend; an empty identity where one that is needed is empty.

    Raises:
        ValueError: An amount is outside of 0 to 1, or the two do not fit each other.
    """
    for name, amount in (("looks", looks), ("shape", shape)):
        if not 0.0 <= amount <= 1.0:
            raise ValueError(f"{name} is {amount}: expected 0 (the first) to 1 (the second)")
    if looks == shape and looks in (0.0, 1.0):
        return b if looks else a
    if a.is_empty or b.is_empty:
        return a if a.is_empty else b
    (count_a, width_a), (count_b, width_b) = a.face_tokens.shape[1:], b.face_tokens.shape[1:]
    if width_a != width_b:
        raise ValueError(
            f"the identities are {width_a} and {width_b} wide: they come from different adapters "
            "(tiny and real parts mixed?)"
        )
    if looks not in (0.0, 1.0) and count_a != count_b:
        raise ValueError(
            f"the identities have {count_a} and {count_b} face tokens, which cannot be blended: "
            "set looks to 0 or 1, or combine the references by a mean"
        )
    return Identity(
        blend_tokens(a.face_tokens, b.face_tokens, looks),
        blend_tokens(a.vertex_tokens, b.vertex_tokens, shape),
        geometry=blend_heads(a.geometry, b.geometry, shape),
        thumbnail=_blend_thumbnails(a.thumbnail, b.thumbnail, looks),
        provenance=Provenance.of_all("the identities", [a.provenance, b.provenance]),
    )


def _blend_thumbnails(a: Tensor | None, b: Tensor | None, amount: float) -> Tensor | None:
    if amount in (0.0, 1.0):
        return b if amount else a
    return None if a is None or b is None else make_thumbnail(torch.lerp(a, b, amount))


def _length(tokens: Tensor) -> Tensor:
    return torch.linalg.vector_norm(tokens, dim=-1, keepdim=True)


def _stretch(tokens: Tensor, length: Tensor) -> Tensor:
    return tokens * (length / _length(tokens).clamp(min=1e-12))
