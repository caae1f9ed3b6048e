"""Smooth normals of a triangle mesh."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def vertex_normals(vertices: Tensor, triangles: Tensor) -> Tensor:
    """The mean normal of the triangles around each vertex, weighted by their areas.

    Args:
        vertices: `(V, 3)`.
        triangles: `(T, 3)`; seen from outside their corners run counter-clockwise.

    Returns:
        `(V, 3)` unit vectors pointing outwards; (0, 0, 1) where no triangle has an area.
    """
    a, b, c = vertices[triangles].unbind(1)
    area_normals = torch.linalg.cross(b - a, c - a)  # (T, 3)
    sums = torch.zeros_like(vertices).index_add(
        0, triangles.flatten(), area_normals.repeat_interleave(3, dim=0)
    )
    # Scaled before they are normalized: the areas of a head in meters are tiny numbers.
    sums = sums / sums.abs().amax().clamp(min=torch.finfo(sums.dtype).tiny)
    length = torch.linalg.vector_norm(sums, dim=1, keepdim=True)
    upright = torch.tensor([0.0, 0.0, 1.0], dtype=sums.dtype, device=sums.device)
    return torch.where(length > 1e-12, normalize(sums, dim=1, eps=1e-30), upright)
