"""Two repairs of a triangle mesh: turn edges that lie badly, and soften a bumpy surface."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Triangles = NDArray[np.int64]


def _inner_edges(triangles: Triangles, count: int) -> tuple[Triangles, NDArray[np.int64]]:
    """Pair up the two triangles at every inner edge.

    Returns:
        Quads (E, 4) as (a, b, opposite in the first, opposite in the second), where the first
        triangle runs a -> b; and the (E, 2) indices of the triangles.
    """
    sides = np.concatenate([triangles[:, [k, (k + 1) % 3, (k + 2) % 3]] for k in range(3)])
    owner = np.tile(np.arange(len(triangles)), 3)
    key = np.minimum(sides[:, 0], sides[:, 1]) * count + np.maximum(sides[:, 0], sides[:, 1])
    order = np.argsort(key, kind="stable")
    twin = np.flatnonzero(key[order][1:] == key[order][:-1])
    first, second = order[twin], order[twin + 1]
    quads = np.stack([sides[first, 0], sides[first, 1], sides[first, 2], sides[second, 2]], axis=1)
    return quads, np.stack([owner[first], owner[second]], axis=1)


def _corners(a: Array, b: Array, c: Array) -> tuple[Array, Array]:
    """Give the smallest angle (N,) of triangles, as minus its cosine, and their normals (N, 3)."""

    def cosine(p: Array, q: Array, r: Array) -> Array:
        u, v = q - p, r - p
        length = np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1)
        return np.einsum("nc,nc->n", u, v) / np.maximum(length, 1e-15)

    worst = np.maximum(np.maximum(cosine(a, b, c), cosine(b, c, a)), cosine(c, a, b))
    normal = np.cross(b - a, c - a)
    return -worst, normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-15)


def turn_edges(vertices: Array, triangles: Triangles, *, rounds: int = 20) -> Triangles:
    """Turn inner edges where that opens the smallest angle of the two triangles.

    Edges across a crease stay, and so does every edge whose other diagonal is an edge already.

    Args:
        vertices: (V, 3).
        triangles: (T, 3), counter-clockwise, a manifold.
        rounds: sweeps over the mesh; each turns edges that share no triangle.

    Returns:
        (T, 3) triangles with the same boundary, Euler number and winding.
    """
    triangles, count = triangles.copy(), len(vertices)
    for _ in range(rounds):
        quads, owners = _inner_edges(triangles, count)
        a, b, c, d = (vertices[quads[:, k]] for k in range(4))
        old_1, normal_1 = _corners(a, b, c)
        old_2, normal_2 = _corners(b, a, d)
        new_1, normal_3 = _corners(c, d, b)
        new_2, normal_4 = _corners(d, c, a)
        gain = np.minimum(new_1, new_2) - np.minimum(old_1, old_2)
        pairs = ((normal_1, normal_2, 0.6), (normal_3, normal_4, 0.6), (normal_1, normal_3, 0.4))
        for left, right, least in pairs:
            gain[np.einsum("nc,nc->n", left, right) < least] = -1.0
        existing = np.sort(quads[:, :2], axis=1) @ np.array([count, 1])
        diagonal = np.sort(quads[:, 2:], axis=1) @ np.array([count, 1])
        gain[np.isin(diagonal, existing)] = -1.0
        turned: set[int] = set()
        drawn: set[int] = set()
        for edge in np.argsort(-gain, kind="stable").tolist():
            if gain[edge] < 1e-3:
                break
            first, second = owners[edge].tolist()
            if first in turned or second in turned or int(diagonal[edge]) in drawn:
                continue
            turned |= {first, second}
            drawn.add(int(diagonal[edge]))
            p, q, r, s = quads[edge].tolist()
            triangles[first], triangles[second] = (r, s, q), (s, r, p)
        if not turned:
            break
    return triangles


def soften(vertices: Array, triangles: Triangles, amount: Array, *, rounds: int = 3) -> Array:
    """Move every vertex towards the mean of its neighbours.

    Args:
        vertices: (V, 3).
        triangles: (T, 3).
        amount: (V,) share of the way per round, 0 keeps a vertex in place.
        rounds: how often.

    Returns:
        (V, 3) vertices.
    """
    sides = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    sides = np.unique(np.concatenate([sides, sides[:, ::-1]]), axis=0)
    degree = np.bincount(sides[:, 0], minlength=len(vertices))[:, None]
    for _ in range(rounds):
        total = np.stack(
            [np.bincount(sides[:, 0], vertices[sides[:, 1], k], len(vertices)) for k in range(3)], 1
        )
        mean = total / np.maximum(degree, 1)
        vertices = vertices + np.where(degree > 0, amount[:, None] * (mean - vertices), 0.0)
    return vertices
