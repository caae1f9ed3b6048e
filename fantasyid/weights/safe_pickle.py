"""Reads the two pickles of the field (FLAME models, mesh transforms) without running them.

A pickle is a program that names functions to call. Here every name that may occur stands for a
class of `stand_ins` which only keeps what it is given, every other name is refused, and arrays
are rebuilt from their bytes after their sizes have been checked.
"""

from __future__ import annotations

import io
import pickle
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .stand_ins import (
    ALLOWED,
    OBJECT_KINDS,
    Callable,
    ChumpyArray,
    ChumpySelect,
    CooMatrix,
    CscMatrix,
    CsrMatrix,
    ElementType,
    PickledArray,
    PickledObject,
    RefusedPickle,
)

__all__ = ["RefusedPickle", "SparseColumns", "read_pickle"]

MAX_FILE_BYTES = 512 * 1024 * 1024
MAX_DEPTH = 3
MAX_VALUES = 100_000
MAX_MATRIX_SIDE = 1 << 20
BROKEN_PICKLE = (
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    TypeError,
    ValueError,
    LookupError,
    ArithmeticError,
    MemoryError,
    RecursionError,
    NotImplementedError,
    struct.error,
)


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


REFUSED_STEPS = (
    pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.OBJ, pickle.NEWOBJ_EX,
    pickle.NEXT_BUFFER, pickle.READONLY_BUFFER,
)  # fmt: skip


class _ArrayUnpickler(pickle._Unpickler):
    """The standard library's unpickler with every step that could act on live objects replaced.

    The Python form rather than the C one: its memo is a dict, so a file that asks for memo entry
    four billion costs nothing, and its steps can be replaced one by one.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]
    readline: Any

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return ALLOWED[(module_name, global_name)]
        except KeyError:
            raise RefusedPickle(f"it asks for {module_name}.{global_name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise RefusedPickle(f"it asks for a persistent object ({str(pid)[:40]!r})")

    def _make_old_style(self) -> None:
        module_name = self.readline()[:-1].decode("ascii")
        global_name = self.readline()[:-1].decode("ascii")
        self.find_class(module_name, global_name)
        raise RefusedPickle(f"it makes an old-style object of {module_name}.{global_name}")

    def _refuse_step(self) -> None:
        raise RefusedPickle("it holds a pickle step that files of arrays do not use")

    def _call(self) -> None:
        arguments = self.stack.pop()
        function = self.stack[-1]
        if not isinstance(function, Callable) or not isinstance(arguments, tuple):
            raise RefusedPickle(f"it calls {_name_of(function)}")
        self.stack[-1] = function(*arguments)

    def _make(self) -> None:
        arguments = self.stack.pop()
        kind = self.stack.pop()
        if kind not in OBJECT_KINDS or arguments != ():
            raise RefusedPickle(f"it makes an object of {_name_of(kind)}")
        self.stack.append(kind())

    def _set_state(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, ElementType | PickledArray | PickledObject):
            raise RefusedPickle(f"it sets the attributes of {_name_of(target)}")
        target.set_state(state)


_ArrayUnpickler.dispatch[pickle.REDUCE[0]] = _ArrayUnpickler._call
_ArrayUnpickler.dispatch[pickle.NEWOBJ[0]] = _ArrayUnpickler._make
_ArrayUnpickler.dispatch[pickle.BUILD[0]] = _ArrayUnpickler._set_state
_ArrayUnpickler.dispatch[pickle.INST[0]] = _ArrayUnpickler._make_old_style
for _step in REFUSED_STEPS:
    _ArrayUnpickler.dispatch[_step[0]] = _ArrayUnpickler._refuse_step


def _name_of(value: Any) -> str:
    for (module, name), stand_in in ALLOWED.items():
        if value is stand_in:
            return f"{module}.{name}"
    return f"a value of type {type(value).__name__}"


def read_pickle(path: str | Path) -> dict[str, Any]:
    """Read a pickled dict of arrays without running anything that it names.

    Args:
        path: A FLAME model (Python 2 pickle with chumpy and scipy objects) or mesh transforms.

    Returns:
        The dict with text keys; values are numpy arrays, `SparseColumns`, numbers, words, and
        lists or dicts of those. chumpy arrays come as plain numpy arrays.

    Raises:
        FileNotFoundError: There is no such file.
        RefusedPickle: The file asks for anything beyond arrays; it says what.
        ValueError: The file is too large, cut short, or no pickle.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ValueError(
            f"{path}: {size} bytes; a FLAME model has about 53 MB, more than "
            f"{MAX_FILE_BYTES} bytes are not read"
        )
    content = path.read_bytes()
    _refuse_other_formats(content[:64], path)
    try:
        loaded = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
        return _plain_dict(loaded)
    except RefusedPickle as error:
        raise RefusedPickle(
            f"{path}: refused, {error}. Only files of plain arrays (FLAME models, mesh "
            f"transforms) are read; get the file from its publisher again"
        ) from None
    except BROKEN_PICKLE as error:
        raise ValueError(
            f"{path}: not a complete pickle ({type(error).__name__}: {error}). The download may "
            f"have been cut short; expected a FLAME model or mesh transforms"
        ) from error


def _refuse_other_formats(head: bytes, path: Path) -> None:
    """Name what is often saved under the wrong name."""
    start = head.lstrip().lower()
    found = None
    if not head:
        found = "an empty file"
    elif start.startswith(b"<"):
        found = "a web page (the download asked for a login or a confirmation)"
    elif start.startswith(b"version https://git-lfs"):
        found = "a Git LFS pointer (run `git lfs pull` or download the file itself)"
    elif head.startswith(b"PK\x03\x04"):
        found = "a zip archive (unpack it and give the .pkl inside)"
    if found is not None:
        raise ValueError(f"{path}: this is {found}, expected a pickle of arrays")


def _plain_dict(loaded: Any) -> dict[str, Any]:
    if not isinstance(loaded, dict):
        raise ValueError(f"it holds {_name_of(loaded)}, expected a dict of arrays")
    return _Plain().of(loaded)


class _Plain:
    """Turns stand-ins into arrays, within limits on depth and number."""

    def __init__(self) -> None:
        self.values_left = MAX_VALUES

    def of(self, value: Any, depth: int = 0) -> Any:
        self.values_left -= 1
        if depth > MAX_DEPTH or self.values_left < 0:
            raise RefusedPickle("it is nested deeper, or has more values, than arrays need")
        if value is None or isinstance(value, bool | int | float | str | bytes | frozenset):
            return value
        if isinstance(value, list | tuple):
            return [self.of(item, depth + 1) for item in value]
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise RefusedPickle("it has a dict whose keys are not words")
            return {key: self.of(item, depth + 1) for key, item in value.items()}
        if isinstance(value, PickledArray) and value.values is not None:
            return value.values
        if isinstance(value, PickledObject):
            return self.of_object(value, depth)
        raise RefusedPickle(f"it holds {_name_of(value)} as a value")

    def of_object(self, value: PickledObject, depth: int) -> np.ndarray | SparseColumns:
        if isinstance(value, ChumpyArray):
            return self.array(value, "x", depth)
        if isinstance(value, ChumpySelect):
            chosen = self.array(value, "a", depth).ravel()[self.array(value, "idxs", depth)]
            shape = value.state.get("preferred_shape")
            return chosen if shape is None else chosen.reshape(self.of(shape, depth + 1))
        return self.sparse(value, depth)

    def array(self, value: PickledObject, name: str, depth: int) -> np.ndarray:
        found = self.of(value.state.get(name), depth + 1)
        if not isinstance(found, np.ndarray):
            raise RefusedPickle(f"a {type(value).__name__} has no array {name!r}")
        return found

    def sparse(self, value: PickledObject, depth: int) -> SparseColumns:
        shape = value.state.get("_shape", value.state.get("shape"))
        if not (isinstance(shape, tuple) and len(shape) == 2):
            raise RefusedPickle("a sparse matrix has no shape of two sizes")
        data = self.array(value, "data", depth)
        if isinstance(value, CooMatrix):
            rows, columns = self.coordinates(value, depth)
        else:
            minor = self.array(value, "indices", depth)
            starts = self.array(value, "indptr", depth)
            if starts.size == 0 or starts[0] != 0 or (np.diff(starts) < 0).any():
                raise RefusedPickle("a sparse matrix has row or column starts that do not ascend")
            if starts[-1] != len(minor):
                raise RefusedPickle("a sparse matrix has another number of entries than it says")
            major = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
            if len(starts) - 1 != shape[1 if isinstance(value, CscMatrix) else 0]:
                raise RefusedPickle("a sparse matrix has another number of starts than its shape")
            rows, columns = (major, minor) if isinstance(value, CsrMatrix) else (minor, major)
        return _sparse_columns(shape, rows, columns, data)

    def coordinates(self, value: PickledObject, depth: int) -> tuple[np.ndarray, np.ndarray]:
        pair = value.state.get("coords", (value.state.get("row"), value.state.get("col")))
        plain = self.of(pair, depth)
        if len(plain) != 2 or not all(isinstance(part, np.ndarray) for part in plain):
            raise RefusedPickle("a sparse matrix has no coordinates")
        return plain[0], plain[1]


def _sparse_columns(
    shape: tuple[int, int], rows: np.ndarray, columns: np.ndarray, data: np.ndarray
) -> SparseColumns:
    if any(type(size) is not int or not 0 <= size <= MAX_MATRIX_SIDE for size in shape):
        raise RefusedPickle(f"a sparse matrix has the shape {shape}")
    if not (rows.ndim == columns.ndim == data.ndim == 1 and len(rows) == len(columns) == len(data)):
        raise RefusedPickle("a sparse matrix has lists of different lengths")
    for numbers, size in ((rows, shape[0]), (columns, shape[1])):
        if numbers.dtype.kind not in "iu" or (
            len(numbers) and not 0 <= numbers.min() <= numbers.max() < size
        ):
            raise RefusedPickle("a sparse matrix has entries outside its shape")
    order = np.argsort(columns, kind="stable")
    indptr = np.searchsorted(columns[order], np.arange(shape[1] + 1))
    return SparseColumns(shape, rows[order].astype(np.int64), indptr, data[order])
