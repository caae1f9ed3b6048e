"""Reads the two pickles of the field (FLAME models, mesh transforms) without running them.

A pickle is a program that names functions to call. It is read through twice: `pickletools` lists
its steps, of which only those that files of arrays need are let through, in bounded number; then
`pickle.Unpickler` runs it with an allow-list, in which every name stands for something here that
only keeps what it is given. Arrays are made from their bytes after their sizes have been checked.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
from pathlib import Path
from typing import Any

import numpy as np

from .header import Form, sniff
from .pickle_names import ALLOWED, Array, Chumpy, Coo, Csc, Object, RefusedPickle, Select

__all__ = ["RefusedPickle", "read_pickle"]

MAX_FILE_BYTES = 512 * 1024 * 1024
MAX_STEPS = 1_000_000
MAX_DEPTH = 4
MAX_VALUES = 100_000
MAX_MATRIX_SIDE = 1 << 20
_STEPS = {step.code: step for step in pickletools.opcodes}
REFUSED_STEPS = {
    *("EXT1", "EXT2", "EXT4", "INST", "OBJ", "NEWOBJ_EX", "PERSID", "BINPERSID"),
    *("NEXT_BUFFER", "READONLY_BUFFER"),
}
BROKEN_PICKLE = (
    pickle.UnpicklingError, EOFError, AttributeError, TypeError, ValueError, LookupError,
    ArithmeticError, MemoryError, RecursionError, NotImplementedError, struct.error,
)  # fmt: skip


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return ALLOWED[(module_name, global_name)]
        except KeyError:
            raise RefusedPickle(f"it asks for {module_name}.{global_name}") from None


def _check_steps(content: bytes) -> None:
    """Refuse steps that files of arrays do not use, too many steps, and a vast memo."""
    file = io.BytesIO(content)
    for number in range(MAX_STEPS):
        step = _STEPS.get(file.read(1).decode("latin-1"))
        if step is None:
            raise pickle.UnpicklingError(f"no pickle step at byte {file.tell()}")
        argument: Any = None
        if step.name == "STRING":  # pickletools expects ASCII, Python 2 wrote bytes
            file.readline()
        elif step.arg is not None:
            argument = step.arg.reader(file)
        if step.name in REFUSED_STEPS:
            asked = str(argument or "").replace(" ", ".")[:80]
            raise RefusedPickle(f"it holds the step {step.name} {asked} at {number}")
        if step.name.endswith("PUT") and int(argument) > MAX_STEPS:
            break
        if step.name == "STOP":
            return
    raise RefusedPickle("it has more steps than arrays need")


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
        raise FileNotFoundError(f"{path}: there is no such file")
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
        _check_steps(content)
        loaded = _Unpickler(io.BytesIO(content), encoding="latin1").load()
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
            f"{path}: not a complete pickle ({type(error).__name__}: {str(error)[:200]}). The "
            "download may have been cut short; expected a FLAME model or mesh transforms"
        ) from error


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
        if isinstance(value, Array):
            return value.values
        if isinstance(value, Object):
            state = {key: self.of(v, depth + 1) for key, v in value.state.items() if key in _READ}
            return _array_of(value, state)
        raise RefusedPickle(f"it holds a value of type {type(value).__name__}")


_READ = ("x", "a", "idxs", "preferred_shape", "_shape", "shape", "data", "indices", "indptr",
         "row", "col", "coords")  # fmt: skip


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
    shape = state.get("_shape", state.get("shape"))
    if not (
        isinstance(shape, list)
        and len(shape) == 2
        and all(type(n) is int and 0 <= n <= MAX_MATRIX_SIDE for n in shape)
    ):
        raise RefusedPickle(f"a sparse matrix has the shape {shape}")
    from scipy import sparse  # checks indices against the shape, and sorts by column

    data, size = array("data"), (shape[0], shape[1])
    try:
        if isinstance(value, Coo):
            if "coords" in state:
                state["row"], state["col"] = state["coords"]
            matrix = sparse.coo_matrix((data, (array("row", "iu"), array("col", "iu"))), size)
        else:
            kind = sparse.csc_matrix if isinstance(value, Csc) else sparse.csr_matrix
            parts = data, array("indices", "iu"), array("indptr", "iu")
            matrix = kind(parts, size)
            matrix.check_format(full_check=True)
            if len(data) != len(parts[1]) or parts[2][-1] != len(data):
                raise ValueError("its lists are of different lengths")
        return matrix.tocsc()
    except ValueError as error:
        raise RefusedPickle(f"a sparse matrix does not fit itself: {error}") from None
