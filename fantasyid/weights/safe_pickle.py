"""Reads the two pickles of the field (FLAME models, mesh transforms) without running them.

A pickle is a program that names functions to call. `pickle_machine` runs it with an allow-list, in
which every name stands for something here that only keeps what it is given. Arrays are made from
their bytes after their sizes have been checked.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .describe import in_print
from .header import Form, sniff
from .pickle_machine import MAX_BYTES, Object, RefusedPickle, run_pickle
from .pickle_names import ALLOWED, Array, Chumpy, Coo, Csc, Select

__all__ = ["RefusedPickle", "read_pickle"]

MAX_FILE_BYTES = MAX_BYTES
MAX_DEPTH = 4
MAX_VALUES = 100_000
MAX_MATRIX_SIDE = 1 << 20
BROKEN_PICKLE = (TypeError, ValueError, LookupError, MemoryError, struct.error)


def _find(module: str, name: str) -> Any:
    try:
        return ALLOWED[(module, name)]
    except KeyError:
        raise RefusedPickle(f"it asks for {in_print(f'{module}.{name}')}") from None


def read_pickle(path: str | Path) -> dict[str, Any]:
    """Read a pickled dict of arrays without running anything that it names.

    Args:
        path: A FLAME model (Python 2 pickle with chumpy and scipy objects) or mesh transforms.

    Returns:
        The dict with text keys; values are numpy arrays, `csc_matrix` of scipy, numbers, words, and
        lists or dicts of those. chumpy arrays come as plain numpy arrays.

    Raises:
        FileNotFoundError: There is no such file.
        RefusedPickle: The file asks for anything beyond arrays; it says what.
        ValueError: The file is too large, cut short, or no pickle.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file, or it is a folder")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ValueError(
            f"{path}: {size} bytes; a FLAME model has about 53 MB, more than "
            f"{MAX_FILE_BYTES} bytes are not read"
        )
    if sniff(path) is Form.TORCH_ZIP:
        raise ValueError(f"{path}: this is a zip archive (unpack it and give the .pkl inside)")
    content = path.read_bytes()
    try:
        loaded = run_pickle(io.BytesIO(content), _find)
        if not isinstance(loaded, dict):
            raise ValueError(f"it holds a {type(loaded).__name__}, expected a dict of arrays")
        return _Plain().of(loaded)
    except RefusedPickle as error:
        raise RefusedPickle(
            f"{path}: refused, {error}. Only files of plain arrays (FLAME models, mesh "
            f"transforms) are read; get the file from its publisher again"
        ) from None
    except BROKEN_PICKLE as error:
        raise ValueError(
            f"{path}: not a complete pickle ({type(error).__name__}: {in_print(error, 200)}). The "
            "download may have been cut short; expected a FLAME model or mesh transforms"
        ) from error


class _Plain:
    """Turns stand-ins into arrays, within limits on depth, number and bytes."""

    def __init__(self) -> None:
        self.values_left, self.bytes_left = MAX_VALUES, MAX_BYTES

    def of(self, value: Any, depth: int = 0) -> Any:
        self.values_left -= 1
        if depth > MAX_DEPTH or self.values_left < 0:
            raise RefusedPickle("it is nested deeper, or has more values, than arrays need")
        if value is None or isinstance(value, bool | int | float | str | bytes | set | frozenset):
            return value
        if isinstance(value, list | tuple):
            return [self.of(item, depth + 1) for item in value]
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise RefusedPickle("it has a dict whose keys are not words")
            return {key: self.of(item, depth + 1) for key, item in value.items()}
        if isinstance(value, Array):
            return value.values
        if isinstance(value, Object):
            state = {key: self.of(v, depth + 1) for key, v in value.state.items() if key in _READ}
            arrays = [v for v in state.values() if isinstance(v, np.ndarray)]
            self.bytes_left -= sum(v.nbytes for v in arrays) + ROW_BYTES * sum(_shape(state) or ())
            if self.bytes_left < 0:
                raise RefusedPickle("its arrays are larger than a file of them may be")
            return _array_of(value, state)
        raise RefusedPickle(f"it holds a value of type {type(value).__name__}")


_READ = ("x", "a", "idxs", "preferred_shape", "_shape", "shape", "data", "indices", "indptr",
         "row", "col", "coords")  # fmt: skip
ROW_BYTES = 32  # what a sparse matrix takes for each row and column while it is sorted


def _shape(state: dict[str, Any]) -> tuple[int, int] | None:
    """The size of a sparse matrix, if it is one."""
    shape = state.get("_shape", state.get("shape"))
    if not isinstance(shape, list) or len(shape) != 2:
        return None
    fits = all(type(n) is int and 0 <= n <= MAX_MATRIX_SIDE for n in shape)
    return (shape[0], shape[1]) if fits else None


def _array_of(value: Object, state: dict[str, Any]) -> Any:
    """The array or matrix that an object stands for, from its attributes."""

    def array(name: str, kinds: str = "biuf") -> np.ndarray:
        found = state.get(name)
        if not isinstance(found, np.ndarray) or found.dtype.kind not in kinds:
            raise RefusedPickle(f"a {type(value).__name__} has no array {name!r}")
        return found

    if isinstance(value, Chumpy):
        return array("x")
    if isinstance(value, Select):
        chosen = array("a").ravel()[array("idxs", "iu")]
        shape = state.get("preferred_shape")
        return chosen if shape is None else chosen.reshape(shape)
    return _matrix_of(value, state, array)


def _matrix_of(value: Object, state: dict[str, Any], array: Callable[..., np.ndarray]) -> Any:
    """A sparse matrix from its lists, by column."""
    size = _shape(state)
    if size is None:
        raise RefusedPickle(f"a sparse matrix has the shape {in_print(state.get('_shape'))}")
    from scipy import sparse  # checks indices against the shape, and sorts by column

    def indices(name: str) -> np.ndarray:  # signed, or a step back would look like one ahead
        return array(name, "iu").astype(np.int64)

    data = array("data")
    try:
        if isinstance(value, Coo):
            if "coords" in state:
                state["row"], state["col"] = state["coords"]
            matrix = sparse.coo_matrix((data, (indices("row"), indices("col"))), size)
        else:
            kind = sparse.csc_matrix if isinstance(value, Csc) else sparse.csr_matrix
            parts = data, indices("indices"), indices("indptr")
            matrix = kind(parts, size)
            matrix.check_format(full_check=True)
            if len(data) != len(parts[1]) or parts[2][-1] != len(data):
                raise ValueError("its lists are of different lengths")
        return matrix.tocsc()
    except ValueError as error:
        raise RefusedPickle(f"a sparse matrix does not fit itself: {error}") from None
