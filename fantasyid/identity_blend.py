"""Two identities into one: looks and shape each between those of A and those of B."""

from __future__ import annotations

import torch
from torch import Tensor

from .identity import FaceGeometry, Identity, Provenance, make_thumbnail


def blend_tokens(a: Tensor, b: Tensor, amount: float) -> Tensor:
    """Tokens between two sets, each as long as its place between the two asks for.

    The straight way from one token to another leads through shorter ones; attention would see a
    weaker identity half way. So every token gets the length back that lies between the two.

    Args:
        a: `(1, K, C)`.
        b: The same shape.
        amount: 0 gives `a`, 1 gives `b`, both bit for bit.

    Returns:
        `(1, K, C)`.
    """
    if amount in (0.0, 1.0):
        return b if amount else a
    mean = torch.lerp(a, b, amount)
    lengths = [torch.linalg.vector_norm(t, dim=-1, keepdim=True) for t in (a, b, mean)]
    wanted = torch.lerp(lengths[0], lengths[1], amount)
    return mean * (wanted / lengths[2].clamp(min=1e-12))


def blend_heads(
    a: FaceGeometry | None, b: FaceGeometry | None, amount: float
) -> FaceGeometry | None:
    """The head between two, vertex by vertex; None where one of the two is not there.

    Args:
        a: The head at 0.
        b: The head at 1.
        amount: 0 to 1; at the ends the head itself.
    """
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
    """The identity between two; looks and shape go their own ways.

    Args:
        a: What 0 gives, bit for bit.
        b: What 1 gives, bit for bit.
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
    for identity in (a, b):
        if identity.is_empty:
            return identity
    _check_fit(a, b, looks)
    return Identity(
        blend_tokens(a.face_tokens, b.face_tokens, looks),
        blend_tokens(a.vertex_tokens, b.vertex_tokens, shape),
        geometry=blend_heads(a.geometry, b.geometry, shape),
        thumbnail=_blend_thumbnails(a.thumbnail, b.thumbnail, looks),
        provenance=Provenance.of_all("the identities", [a.provenance, b.provenance]),
    )


def _check_fit(a: Identity, b: Identity, looks: float) -> None:
    widths = a.face_tokens.shape[-1], b.face_tokens.shape[-1]
    if widths[0] != widths[1]:
        raise ValueError(
            f"the identities are {widths[0]} and {widths[1]} wide: they come from different "
            "adapters (tiny and real parts mixed?)"
        )
    counts = a.face_tokens.shape[1], b.face_tokens.shape[1]
    if looks not in (0.0, 1.0) and counts[0] != counts[1]:
        raise ValueError(
            f"the identities have {counts[0]} and {counts[1]} face tokens, which cannot be "
            "blended: set looks to 0 or 1, or combine the references by a mean"
        )


def _blend_thumbnails(a: Tensor | None, b: Tensor | None, amount: float) -> Tensor | None:
    """One picture faded into the other."""
    if amount in (0.0, 1.0):
        return b if amount else a
    return None if a is None or b is None else make_thumbnail(torch.lerp(a, b, amount))
