"""Sparse matrices as FLAME files and mesh transforms hold them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class SparseColumns:
    """A sparse matrix stored column by column.

    Column `c` has the entries `indptr[c]:indptr[c + 1]` of `indices` (rows) and `data` (values).
    """

    shape: tuple[int, int]
    indices: np.ndarray
    indptr: np.ndarray
    data: np.ndarray

    def columns(self) -> np.ndarray:
        """The column of every entry, in the order of `indices` and `data`."""
        return np.repeat(np.arange(self.shape[1]), np.diff(self.indptr))

    def toarray(self) -> np.ndarray:
        """The dense matrix; entries named twice are summed."""
        dense = np.zeros(self.shape, self.data.dtype)
        np.add.at(dense, (self.indices, self.columns()), self.data)
        return dense
