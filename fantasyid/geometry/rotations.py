"""Rotations in three dimensions."""

from __future__ import annotations

import torch
from torch import Tensor


def rotation_matrix(axis_angle_rad: Tensor) -> Tensor:
    """The rotation about an axis by an angle, after Rodrigues.

    Args:
        axis_angle_rad: `(..., 3)` axes whose length is the angle in radians.

    Returns:
        `(..., 3, 3)` matrices that turn column vectors.

    Raises:
        ValueError: The last axis has not three entries.

    Released behavior: the angle is the length of `r + 1e-8`, so that a zero rotation has a
    direction; the matrix then differs from the exact one by about 1e-8.
    """
    if axis_angle_rad.shape[-1:] != (3,):
        raise ValueError(
            f"rotation_matrix: expected the shape (..., 3), got {tuple(axis_angle_rad.shape)}"
        )
    angle_rad = torch.linalg.vector_norm(axis_angle_rad + 1e-8, dim=-1, keepdim=True)  # (..., 1)
    x, y, z = (axis_angle_rad / angle_rad).unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    sine, cosine = angle_rad.sin()[..., None], angle_rad.cos()[..., None]  # (..., 1, 1)
    identity = torch.eye(3, dtype=cross.dtype, device=cross.device)
    return identity + sine * cross + (1 - cosine) * (cross @ cross)
