"""Spirals on a triangle mesh: the fixed neighborhoods that spiral convolutions gather."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

SPIRAL_LENGTH = 9


def spiral_table(num_vertices: int, triangles: Tensor, length: int = SPIRAL_LENGTH) -> Tensor:
    """The spiral of every vertex: itself, then its neighbors ring by ring.

    The order of a ring, and where it starts, are those of OpenMesh's clockwise vertex circulator
    after the faces have been added in the order given: the released weights were trained on it.

    Args:
        num_vertices: Vertices of the mesh.
        triangles: `(T, 3)` integer vertex indices; their order and rotation matter.
        length: Entries per spiral.

    Returns:
        `(V, length)` int64.

    Raises:
        ValueError: A triangle is degenerate or out of range, or some vertex is connected to
            fewer than `length` vertices.

    Source: paper section 3.3; SpiralNet++ (Gong et al. 2019), section 3; start and order:
    docs/released-model.md, section 1.
    """
    rings = _rings(num_vertices, _triangle_rows(num_vertices, triangles))
    return torch.tensor([_spiral(vertex, rings, length) for vertex in range(num_vertices)])


def gather_spirals(features: Tensor, spirals: Tensor) -> Tensor:
    """Each vertex's features followed by its neighbors': `(B, V, C)` to `(B, V, S * C)`."""
    # The same rows as `features[:, spirals]`, whose gradient takes three times as long.
    rows = features.index_select(1, spirals.flatten())
    return rearrange(rows, "b (v s) c -> b v (s c)", s=spirals.shape[1])


def _triangle_rows(num_vertices: int, triangles: Tensor) -> list[list[int]]:
    """The triangles as lists, once they are known to be triangles of this mesh."""
    if triangles.ndim != 2 or triangles.shape[1] != 3:
        raise ValueError(f"triangles: expected the shape (T, 3), got {tuple(triangles.shape)}")
    rows = triangles.tolist()
    for number, row in enumerate(rows):
        if not all(0 <= vertex < num_vertices for vertex in row):
            raise ValueError(f"triangle {number} is {row}, but there are {num_vertices} vertices")
        if len(set(row)) != 3:
            raise ValueError(f"triangle {number} is {row}: it names a vertex twice")
    return rows


def _rings(num_vertices: int, rows: list[list[int]]) -> list[list[int]]:
    """The neighbors of each vertex in order, each once.

    A ring starts at the open end of a fan at the mesh's boundary, else at a neighbor in the last
    triangle. On a non-manifold mesh the walk may not close.
    """
    successors: list[dict[int, int]] = [{} for _ in range(num_vertices)]
    latest: list[int | None] = [None] * num_vertices
    for a, b, c in rows:
        for before, vertex, after in ((a, b, c), (b, c, a), (c, a, b)):
            successors[vertex][before] = after
            latest[vertex] = after
    rings = []
    for following, last in zip(successors, latest, strict=True):
        followers = set(following.values())
        neighbor = next((n for n in following if n not in followers), last)
        ring: dict[int, None] = {}
        while neighbor is not None and neighbor not in ring:
            ring[neighbor] = None
            neighbor = following.get(neighbor)
        rings.append(list(ring))
    return rings


def _spiral(vertex: int, rings: list[list[int]], length: int) -> list[int]:
    spiral = [vertex]
    last_ring = rings[vertex]
    while len(spiral) < length:
        if not last_ring:
            raise ValueError(
                f"vertex {vertex} is connected to {len(spiral) - 1} other vertices; "
                f"a spiral of length {length} needs {length - 1}"
            )
        seen = {*spiral, *last_ring}
        next_ring: list[int] = []
        for anchor in last_ring:
            for neighbor in _from_the_inside(rings[anchor], last_ring):
                if neighbor not in seen:
                    seen.add(neighbor)
                    next_ring.append(neighbor)
        spiral.extend(last_ring)
        last_ring = next_ring
    return spiral[:length]


def _from_the_inside(ring: list[int], last_ring: list[int]) -> list[int]:
    """`ring` turned so that it begins after its first member that lies in `last_ring`."""
    cut = next((at for at, neighbor in enumerate(ring) if neighbor in last_ring), len(ring))
    return ring[cut + 1 :] + ring[:cut]
