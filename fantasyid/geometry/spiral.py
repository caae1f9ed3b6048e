"""Spirals on a triangle mesh: the fixed neighbourhoods that spiral convolutions gather."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

SPIRAL_LENGTH = 9


def spiral_table(num_vertices: int, triangles: Tensor, length: int = SPIRAL_LENGTH) -> Tensor:
    """The spiral of every vertex: itself, then its neighbours ring by ring.

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

    Source: SpiralNet++ (Gong et al. 2019), section 3; start and order are a docs/released-model.md.
    """
    rows = triangle_rows(num_vertices, triangles)
    rings = [_ring(successors, start) for successors, start in _neighbour_order(num_vertices, rows)]
    return torch.tensor([_spiral(vertex, rings, length) for vertex in range(num_vertices)])


def gather_spirals(features: Tensor, spirals: Tensor) -> Tensor:
    """Each vertex's features followed by its neighbours': `(B, V, C)` to `(B, V, S * C)`."""
    return rearrange(features[:, spirals], "b v s c -> b v (s c)")


def triangle_rows(num_vertices: int, triangles: Tensor) -> list[list[int]]:
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


def _neighbour_order(
    num_vertices: int, rows: list[list[int]]
) -> list[tuple[dict[int, int], int | None]]:
    """For each vertex: which neighbour follows which, and the neighbour to start from."""
    successors: list[dict[int, int]] = [{} for _ in range(num_vertices)]
    latest: list[int | None] = [None] * num_vertices
    for a, b, c in rows:
        for before, vertex, after in ((a, b, c), (b, c, a), (c, a, b)):
            successors[vertex][before] = after
            latest[vertex] = after
    return [(succ, _start(succ, last)) for succ, last in zip(successors, latest, strict=True)]


def _start(successors: dict[int, int], latest: int | None) -> int | None:
    """The open end of a fan at the mesh's boundary, else a neighbour in the last triangle."""
    followers = set(successors.values())
    open_ends = [neighbour for neighbour in successors if neighbour not in followers]
    return open_ends[0] if open_ends else latest


def _ring(successors: dict[int, int], start: int | None) -> list[int]:
    """Neighbours from `start` on, each once: on a non-manifold mesh the walk may not close."""
    ring: dict[int, None] = {}
    neighbour = start
    while neighbour is not None and neighbour not in ring:
        ring[neighbour] = None
        neighbour = successors.get(neighbour)
    return list(ring)


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
            for neighbour in _from_the_inside(rings[anchor], last_ring):
                if neighbour not in seen:
                    seen.add(neighbour)
                    next_ring.append(neighbour)
        spiral.extend(last_ring)
        last_ring = next_ring
    return spiral[:length]


def _from_the_inside(ring: list[int], last_ring: list[int]) -> list[int]:
    """`ring` turned so that it begins after its first member that lies in `last_ring`."""
    for position, neighbour in enumerate(ring):
        if neighbour in last_ring:
            return ring[position + 1 :] + ring[:position]
    return ring
