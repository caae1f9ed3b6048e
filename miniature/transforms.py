"""The stand-in for the released mesh transforms: five levels of the head, and the ways between.

A coarser level keeps some vertices of the finer one (`down`, one 1.0 per row); a finer vertex is a
weighted mean of the three corners of the coarse triangle it lies in (`up`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from .head import EYE_VERTICES, NECK_LOOP, SKIN_VERTICES, HeadMesh, triangulate_sphere

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

# vertices of the skin, of one eyeball, and of the neck loop at every level: 5023, 1256, 314, 79, 20
LEVELS = (
    (SKIN_VERTICES, EYE_VERTICES, NECK_LOOP),
    (984, 136, 30),
    (246, 34, 15),
    (63, 8, 8),
    (12, 4, 5),
)
_STANDING_HEIGHT_M = 1.5  # the template of the released transforms stands on the ground


@dataclass(frozen=True)
class SparseColumns:
    """A sparse matrix by its columns, as scipy's csc format keeps it."""

    shape: tuple[int, int]
    indptr: NDArray[np.int32]
    indices: NDArray[np.int32]
    data: NDArray[np.floating]


@dataclass(frozen=True)
class MeshTransforms:
    """Levels of the head from 5023 to 20 vertices.

    Attributes:
        vertices: 5 arrays (V, 3) metres, y about 1.31 to 1.63.
        triangles: 5 arrays (T, 3).
        adjacency: 5 matrices (V, V).
        down: 4 matrices (coarse, fine), one 1.0 per row.
        up: 4 matrices (fine, coarse), three entries per row with sum 1.
    """

    vertices: tuple[Array, ...]
    triangles: tuple[NDArray[np.uint32], ...]
    adjacency: tuple[SparseColumns, ...]
    down: tuple[SparseColumns, ...]
    up: tuple[SparseColumns, ...]


def sparse_columns(
    rows: Indices,
    columns: Indices,
    values: Array,
    shape: tuple[int, int],
    dtype: type[np.floating] = np.float32,
) -> SparseColumns:
    """Sort (row, column, value) triples into a `SparseColumns`; explicit zeros stay."""
    order = np.lexsort((rows, columns))
    counts = np.bincount(columns, minlength=shape[1])
    return SparseColumns(
        shape,
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        rows[order].astype(np.int32),
        values[order].astype(dtype),
    )


def _thin(points: Array, count: int, kept: Indices) -> Indices:
    """Choose `count` points far from each other, starting with `kept`; sorted."""
    chosen = list(kept) if len(kept) else [0]
    distance = np.min(np.linalg.norm(points[:, None] - points[chosen][None], axis=2), axis=1)
    while len(chosen) < count:
        farthest = int(np.argmax(distance))
        chosen.append(farthest)
        distance = np.minimum(distance, np.linalg.norm(points - points[farthest], axis=1))
    return np.sort(np.array(chosen))


@dataclass(frozen=True)
class _Part:
    """One piece of the head at one level: where its vertices come from and how they connect."""

    chosen: Indices  # vertices of this part at the finer level
    parameters: Array
    triangles: Indices


def _coarser(part: _Part, points: Array, count: int, loop: int, finer_loop: int) -> _Part:
    """Thin one part out to `count` vertices, `loop` of which stay on the neck loop."""
    total = len(part.parameters)
    if loop:
        ring = np.linspace(total - finer_loop, total, loop, endpoint=False).astype(np.int64)
        inner = np.arange(total - finer_loop)
        away = np.min(
            np.linalg.norm(part.parameters[inner][:, None] - part.parameters[ring][None], axis=2), 1
        )
        inner = inner[away > 0.5 * 2.0 * np.pi * 0.17 / loop]
        seed = inner[[int(np.argmax(points[inner, 2]))]]
        order = np.concatenate([inner, ring])
        start = np.concatenate([np.searchsorted(inner, seed), np.arange(len(inner), len(order))])
        chosen = order[_thin(points[order], count, start)]
    else:
        chosen = _thin(points, count, np.array([0]))
    parameters = part.parameters[chosen]
    return _Part(chosen, parameters, triangulate_sphere(parameters, loop=loop))


def _barycentric(points: Array, corners: Array) -> Array:
    """Give the weights of three corners (N, 3, 3) for unit vectors (N, 3), cast from the middle."""
    weights = np.linalg.solve(np.swapaxes(corners, 1, 2), points[:, :, None])[:, :, 0]
    return weights / weights.sum(axis=1, keepdims=True)


def _lift(fine: Array, coarse: _Part) -> tuple[Indices, Array]:
    """Find, for fine parameters (N, 3), three coarse vertices (N, 3) and weights (N, 3)."""
    corners = coarse.parameters[coarse.triangles]
    middles = corners.mean(axis=1)
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    nearest = np.asarray(KDTree(middles).query(fine, min(24, len(middles)))[1])
    count, tries = len(nearest), nearest.shape[1]
    flat = nearest.reshape(-1)
    volume = np.abs(np.linalg.det(corners))
    solid = np.where(volume[:, None, None] > 1e-12, corners, np.eye(3))
    weights = _barycentric(np.repeat(fine, tries, axis=0), solid[flat]).reshape(count, tries, 3)
    worst = np.where(volume[nearest] > 1e-12, weights.min(axis=2), -np.inf)
    facing = np.einsum("nkc,nc->nk", middles[nearest], fine) > 0.0
    best = np.argmax(np.where(facing, worst, -np.inf), axis=1)
    row = np.arange(count)
    found = np.clip(weights[row, best], 0.0, 1.0)
    return coarse.triangles[nearest[row, best]], found / found.sum(axis=1, keepdims=True)


def _adjacency(triangles: Indices, count: int) -> SparseColumns:
    sides = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    sides = np.unique(np.concatenate([sides, sides[:, ::-1]]), axis=0)
    return sparse_columns(sides[:, 0], sides[:, 1], np.ones(len(sides)), (count, count))


def _first_parts(mesh: HeadMesh) -> list[_Part]:
    offsets = np.cumsum([0, SKIN_VERTICES, EYE_VERTICES, EYE_VERTICES])
    parts = []
    for start, stop in pairwise(offsets):
        inside = (mesh.triangles[:, 0] >= start) & (mesh.triangles[:, 0] < stop)
        parts.append(
            _Part(
                np.arange(stop - start),
                mesh.parameters[start:stop],
                mesh.triangles[inside] - start,
            )
        )
    return parts


def build_transforms(mesh: HeadMesh) -> MeshTransforms:
    """Build the five levels for a template; the same every time."""
    parts = _first_parts(mesh)
    vertices = mesh.vertices
    levels: list[tuple[Array, Indices]] = [(vertices, mesh.triangles)]
    down: list[SparseColumns] = []
    up: list[SparseColumns] = []
    for (_, _, finer_loop), (skin, eye, loop) in pairwise(LEVELS):
        starts = np.cumsum([0] + [len(part.parameters) for part in parts])
        coarse: list[_Part] = []
        for index, part in enumerate(parts):
            points = vertices[starts[index] : starts[index + 1]]
            size, ring = (skin, loop) if index == 0 else (eye, 0)
            coarse.append(_coarser(part, points, size, ring, finer_loop))
        offsets = np.cumsum([0] + [len(part.parameters) for part in coarse])
        chosen = np.concatenate([p.chosen + s for p, s in zip(coarse, starts, strict=False)])
        num_coarse, num_fine = int(offsets[-1]), int(starts[-1])
        down.append(
            sparse_columns(
                np.arange(num_coarse), chosen, np.ones(num_coarse), (num_coarse, num_fine)
            )
        )
        lifted = [_lift(f.parameters, c) for f, c in zip(parts, coarse, strict=True)]
        corners = np.concatenate([c + o for (c, _), o in zip(lifted, offsets[:-1], strict=True)])
        weights = np.concatenate([w for _, w in lifted])
        rows = np.repeat(np.arange(num_fine), 3)
        up.append(
            sparse_columns(rows, corners.reshape(-1), weights.reshape(-1), (num_fine, num_coarse))
        )
        vertices, parts = vertices[chosen], coarse
        triangles = [p.triangles + o for p, o in zip(coarse, offsets[:-1], strict=True)]
        levels.append((vertices, np.concatenate(triangles)))
    standing = np.array([0.0, _STANDING_HEIGHT_M, 0.0])
    return MeshTransforms(
        vertices=tuple(points + standing for points, _ in levels),
        triangles=tuple(triangles.astype(np.uint32) for _, triangles in levels),
        adjacency=tuple(_adjacency(triangles, len(points)) for points, triangles in levels),
        down=tuple(down),
        up=tuple(up),
    )
