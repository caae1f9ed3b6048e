"""The fixed tables of the head mesh: which vertices are kept, pooled and gathered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..weights.safe_pickle import SparseColumns
from .spiral import SPIRAL_LENGTH, spiral_table

TAPS = 3


@dataclass(frozen=True, eq=False)
class Pool:
    """A sparse matrix from a coarse mesh to a finer one, with three entries per row.

    Attributes:
        index: `(V, 3)` int64 rows of the coarse mesh.
        weight: `(V, 3)` float32. Rows sum to about one; single weights may be negative or above
            one, and are used as they are stored.
    """

    index: Tensor
    weight: Tensor

    def to(self, device: torch.device | str) -> Pool:
        return Pool(self.index.to(device), self.weight.to(device))


@dataclass(frozen=True, eq=False)
class MeshTables:
    """The tables of the vertex network; every pair is in the order the upsampler runs.

    Attributes:
        coarse_index: `(314,)` int64: the vertices of the fine mesh that enter the network.
        pools: From 314 to 1256 vertices, then from 1256 to 5023.
        spirals: `(1256, 9)`, then `(5023, 9)` int64.
        triangles: `(9976, 3)` int64 of the fine mesh.
    """

    coarse_index: Tensor
    pools: tuple[Pool, Pool]
    spirals: tuple[Tensor, Tensor]
    triangles: Tensor

    @property
    def num_vertices(self) -> int:
        return self.spirals[1].shape[0]

    def to(self, device: torch.device | str) -> MeshTables:
        """The same tables on another device."""
        return MeshTables(
            self.coarse_index.to(device),
            (self.pools[0].to(device), self.pools[1].to(device)),
            (self.spirals[0].to(device), self.spirals[1].to(device)),
            self.triangles.to(device),
        )


def pool_vertices(features: Tensor, pool: Pool) -> Tensor:
    """Features of a coarse mesh on a finer one: `(B, V, C)` to `(B, V', C)`.

    Every fine vertex takes the weighted sum of three coarse ones.
    """
    return torch.einsum("bvtc,vt->bvc", features[:, pool.index], pool.weight.to(features))


def mesh_tables(transforms: Mapping[str, Any]) -> MeshTables:
    """Build the tables from the mesh transforms that FantasyID publishes.

    Args:
        transforms: What `read_pickle` gives for `transform.pkl`: lists over levels, finest first,
            of `face` (triangles), `down_transform` and `up_transform` (sparse matrices).

    Returns:
        The tables of the two levels the released model uses; spirals are computed here.

    Raises:
        ValueError: A key is missing, or sizes of neighbouring levels do not fit together.
    """
    fine_triangles, middle_triangles = (
        _triangles(_level(transforms, "face", n, np.ndarray), n) for n in (0, 1)
    )
    down = [_level(transforms, "down_transform", n, SparseColumns) for n in (0, 1)]
    up = [_level(transforms, "up_transform", n, SparseColumns) for n in (0, 1)]
    fine, middle, coarse = down[0].shape[1], down[0].shape[0], down[1].shape[0]
    _expect_shape("down_transform[1]", down[1], (coarse, middle))
    _expect_shape("up_transform[0]", up[0], (fine, middle))
    _expect_shape("up_transform[1]", up[1], (middle, coarse))
    keep_middle, keep_coarse = (_selection(matrix, n) for n, matrix in enumerate(down))
    return MeshTables(
        coarse_index=keep_middle[keep_coarse],
        pools=(_pool(up[1], 1), _pool(up[0], 0)),
        spirals=(
            spiral_table(middle, middle_triangles, SPIRAL_LENGTH),
            spiral_table(fine, fine_triangles, SPIRAL_LENGTH),
        ),
        triangles=fine_triangles,
    )


def _level(transforms: Mapping[str, Any], key: str, level: int, kind: type) -> Any:
    if key not in transforms:
        raise ValueError(
            f"mesh transforms: no entry {key!r}; the file has {sorted(transforms)}. "
            f"Expected the transform.pkl that FantasyID publishes"
        )
    levels = transforms[key]
    if not isinstance(levels, list) or len(levels) <= level or not isinstance(levels[level], kind):
        raise ValueError(f"mesh transforms: {key}[{level}] is no {kind.__name__}")
    return levels[level]


def _expect_shape(name: str, matrix: SparseColumns, shape: tuple[int, int]) -> None:
    if matrix.shape != shape:
        raise ValueError(f"mesh transforms: {name} has the shape {matrix.shape}, expected {shape}")


def _triangles(faces: np.ndarray, level: int) -> Tensor:
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu":
        raise ValueError(
            f"mesh transforms: face[{level}] has the shape {faces.shape} and type {faces.dtype}, "
            f"expected (T, 3) integers"
        )
    return torch.from_numpy(faces.astype(np.int64))


def _by_row(matrix: SparseColumns) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and values of a sparse matrix, row by row, columns ascending."""
    columns = matrix.columns()
    order = np.lexsort((columns, matrix.indices))
    return matrix.indices[order], columns[order], matrix.data[order]


def _selection(matrix: SparseColumns, level: int) -> Tensor:
    """The column that each row of a selection matrix picks."""
    rows, columns, values = _by_row(matrix)
    if not np.array_equal(rows, np.arange(matrix.shape[0])) or not (values == 1).all():
        raise ValueError(f"mesh transforms: down_transform[{level}] is not one 1.0 per row")
    return torch.from_numpy(columns.astype(np.int64))


def _pool(matrix: SparseColumns, level: int) -> Pool:
    rows, columns, values = _by_row(matrix)
    if not np.array_equal(rows, np.repeat(np.arange(matrix.shape[0]), TAPS)):
        raise ValueError(f"mesh transforms: up_transform[{level}] has not {TAPS} entries per row")
    if not np.isfinite(values).all():
        raise ValueError(f"mesh transforms: up_transform[{level}] has weights that are not finite")
    return Pool(
        torch.from_numpy(columns.reshape(-1, TAPS).astype(np.int64)),
        torch.from_numpy(values.reshape(-1, TAPS).astype(np.float32)),
    )
