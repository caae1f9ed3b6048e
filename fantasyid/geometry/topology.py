"""The fixed tables of the head mesh: which vertices are kept, pooled and gathered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .spiral import SPIRAL_LENGTH, spiral_table

if TYPE_CHECKING:
    from scipy.sparse import csc_matrix

TAPS = 3


@dataclass(frozen=True, eq=False)
class Pool:
    """A sparse matrix from a coarse mesh to a finer one, with three entries per row."""

    index: Tensor  # `(V, 3)` int64 rows of the coarse mesh
    # `(V, 3)` float32. Rows sum to about one; single weights may be negative or above one, and are
    # used as they are stored.
    weight: Tensor

    def to(self, device: torch.device | str) -> Pool:
        return Pool(self.index.to(device), self.weight.to(device))


@dataclass(frozen=True, eq=False)
class MeshTables:
    """The tables of the vertex network; every pair is in the order the upsampler runs."""

    coarse_index: Tensor  # `(314,)` int64: the vertices of the fine mesh that enter the network
    pools: tuple[Pool, Pool]  # from 314 to 1256 vertices, then from 1256 to 5023
    spirals: tuple[Tensor, Tensor]  # `(1256, 9)`, then `(5023, 9)` int64
    triangles: Tensor  # `(9976, 3)` int64 of the fine mesh

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
    # The same rows as `features[:, pool.index]`, whose gradient takes three times as long.
    rows = features.index_select(1, pool.index.flatten()).unflatten(1, pool.index.shape)
    return torch.einsum("bvtc,vt->bvc", rows, pool.weight.to(features))


def mesh_tables(transforms: Mapping[str, Any]) -> MeshTables:
    """Build the tables from the mesh transforms that FantasyID publishes.

    Args:
        transforms: What `read_pickle` gives for `transform.pkl`: lists over levels, finest first,
            of `face` (triangles), `down_transform` and `up_transform` (sparse matrices).

    Returns:
        The tables of the two levels the released model uses; spirals are computed here.

    Raises:
        ValueError: A key is missing, or sizes of neighboring levels do not fit together.

    Source: docs/released-model.md, section 1.
    """
    triangles = [_triangles(faces, n) for n, faces in enumerate(_levels(transforms, "face"))]
    down, up = (_levels(transforms, key) for key in ("down_transform", "up_transform"))
    fine, middle, coarse = down[0].shape[1], down[0].shape[0], down[1].shape[0]
    for name, matrix, shape in (
        ("down_transform[1]", down[1], (coarse, middle)),
        ("up_transform[0]", up[0], (fine, middle)),
        ("up_transform[1]", up[1], (middle, coarse)),
    ):
        if tuple(matrix.shape) != shape:
            raise ValueError(
                f"mesh transforms: {name} has the shape {matrix.shape}, expected {shape}"
            )
    keep_middle, keep_coarse = (_selection(matrix, n) for n, matrix in enumerate(down))
    return MeshTables(
        coarse_index=keep_middle[keep_coarse],
        pools=(_pool(up[1], 1), _pool(up[0], 0)),
        spirals=(
            spiral_table(middle, triangles[1], SPIRAL_LENGTH),
            spiral_table(fine, triangles[0], SPIRAL_LENGTH),
        ),
        triangles=triangles[0],
    )


def _levels(transforms: Mapping[str, Any], key: str) -> list[Any]:
    """The two finest levels of an entry: arrays of `face`, else sparse matrices."""
    if key not in transforms:
        raise ValueError(
            f"mesh transforms: no entry {key!r}; the file has {sorted(transforms)}. "
            f"Expected the transform.pkl that FantasyID publishes"
        )
    levels = transforms[key]
    mark, kind = ("dtype", "array") if key == "face" else ("indptr", "sparse matrix")
    for level in (0, 1):
        if not isinstance(levels, list) or not hasattr(dict(enumerate(levels)).get(level), mark):
            raise ValueError(f"mesh transforms: {key}[{level}] is no {kind}")
    return levels[:2]


def _triangles(faces: np.ndarray, level: int) -> Tensor:
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu":
        raise ValueError(
            f"mesh transforms: face[{level}] has the shape {faces.shape} and type {faces.dtype}, "
            f"expected (T, 3) integers"
        )
    return torch.from_numpy(faces.astype(np.int64))


def _selection(matrix: csc_matrix, level: int) -> Tensor:
    """The column that each row of a selection matrix picks."""
    rows = matrix.tocsr()
    if (np.diff(rows.indptr) != 1).any() or (rows.data != 1).any():
        raise ValueError(f"mesh transforms: down_transform[{level}] is not one 1.0 per row")
    return torch.from_numpy(rows.indices.astype(np.int64))


def _pool(matrix: csc_matrix, level: int) -> Pool:
    rows = matrix.tocsr()
    if (np.diff(rows.indptr) != TAPS).any():
        raise ValueError(f"mesh transforms: up_transform[{level}] has not {TAPS} entries per row")
    if not np.isfinite(rows.data).all():
        raise ValueError(f"mesh transforms: up_transform[{level}] has weights that are not finite")
    return Pool(
        torch.from_numpy(rows.indices.reshape(-1, TAPS).astype(np.int64)),
        torch.from_numpy(rows.data.reshape(-1, TAPS).astype(np.float32)),
    )
