"""Heads to test on: the stand-in, and the released point cloud where it is at hand."""

from __future__ import annotations

from functools import cache

import torch
from scipy.sparse import coo_matrix
from torch import Tensor

from fantasyid.geometry.rotations import rotation_matrix
from miniature.head import build_head


@cache
def stand_in() -> tuple[Tensor, Tensor]:
    """Vertices `(5023, 3)` float32 and triangles of the stand-in head."""
    head = build_head()
    return torch.from_numpy(head.vertices).float(), torch.from_numpy(head.triangles)


def posed(vertices: Tensor, seed: int, angle_rad: float = 1.0) -> tuple[Tensor, Tensor]:
    """The head turned about some axis and shifted; and the rotation."""
    generator = torch.Generator().manual_seed(seed)
    axis = torch.nn.functional.normalize(torch.randn(3, generator=generator).double(), dim=0)
    turn = rotation_matrix(axis * angle_rad)
    shift = torch.randn(3, generator=generator).double() * 0.05
    return (vertices.double() @ turn.T + shift), turn


def edges_of(triangles: Tensor) -> Tensor:
    """`(E, 2)` each edge once."""
    pairs = torch.cat([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    return torch.unique(pairs.sort(dim=1).values, dim=0)


def laplacian(values: Tensor, triangles: Tensor) -> Tensor:
    """The mean over the neighbours minus the value itself, `(V, C)`."""
    edges = edges_of(triangles).numpy()
    count = len(values)
    half = coo_matrix(([1.0] * len(edges), (edges[:, 0], edges[:, 1])), (count, count))
    adjacency = (half + half.T).tocsr()
    degree = adjacency.sum(1).A1 if hasattr(adjacency.sum(1), "A1") else adjacency.sum(1)
    return torch.from_numpy(adjacency @ values.numpy() / degree.reshape(-1, 1)) - values
