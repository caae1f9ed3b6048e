"""Reads the two pickles of the field (FLAME models, mesh transforms) without running them.

A pickle is a program that names functions to call. It is read through twice: `pickletools` lists
its steps, of which only those that files of arrays need are let through, in bounded number; then
`pickle.Unpickler` runs it with an allow-list, in which every name stands for something here that
only keeps what it is given. Arrays are made from their bytes after their sizes have been checked.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .header import Form, sniff

MAX_FILE_BYTES = 512 * 1024 * 1024
MAX_STEPS = 1_000_000
MAX_DEPTH = 4
MAX_VALUES = 100_000
MAX_MATRIX_SIDE = 1 << 20
ELEMENT_TYPES = ("b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8")
_STEPS = {step.code: step for step in pickletools.opcodes}
REFUSED_STEPS = {
    *("EXT1", "EXT2", "EXT4", "INST", "OBJ", "NEWOBJ_EX", "PERSID", "BINPERSID"),
    *("NEXT_BUFFER", "READONLY_BUFFER"),
}
BROKEN_PICKLE = (
    pickle.UnpicklingError, EOFError, AttributeError, TypeError, ValueError, LookupError,
    ArithmeticError, MemoryError, RecursionError, NotImplementedError, struct.error,
)  # fmt: skip


class RefusedPickle(ValueError):
    """The pickle asks for something that a file of arrays has no need of."""


class _ElementType:
    """Stands for a numpy dtype of plain numbers."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, *_align_and_copy: Any) -> None:
        self.code, self.order = str(code).lstrip("<|="), "<"
        if self.code not in ELEMENT_TYPES:
            raise RefusedPickle(f"arrays of element type {self.code!r} are not read")

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise RefusedPickle("an element type has an unknown byte order")
        self.order = ">" if state[1] == ">" else "<"


class _Array:
    """Stands for a numpy array."""

    __slots__ = ("values",)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise RefusedPickle("an array has a state of an unknown form")
        shape, element, fortran, raw = state[-4:]
        self.values = _values(raw, element, shape, "F" if fortran else "C")


class _Object:
    """Stands for an object of which only the attributes count."""

    __slots__ = ("state",)

    def __setstate__(self, state: Any) -> None:
        parts = [p for p in (state if isinstance(state, tuple) else (state,)) if p is not None]
        if not all(isinstance(part, dict) for part in parts):
            raise RefusedPickle(f"{type(self).__name__} has a state of unknown form")
        self.state = {key: value for part in parts for key, value in part.items()}


class _Chumpy(_Object):
    """`chumpy.ch.Ch`: an array in the attribute `x`."""

    __slots__ = ()


class _Select(_Object):
    """`chumpy.reordering.Select`: entries `idxs` of the array `a`."""

    __slots__ = ()


class _Csc(_Object):
    __slots__ = ()


class _Csr(_Object):
    __slots__ = ()


class _Coo(_Object):
    __slots__ = ()


class _Function:
    """Stands for a function: calls ours, and has nothing that a pickle could set."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise RefusedPickle("it sets the attributes of a function")


def _refuse_call(*_arguments: Any) -> Any:
    raise RefusedPickle("it calls a name that is only ever passed on")


_NDARRAY, _OBJECT = _Function(_refuse_call), _Function(_refuse_call)


def _values(raw: Any, element: Any, shape: Any, order: Any) -> np.ndarray:
    """The array that `raw` spells, once its length has been found to fit."""
    raw = raw.encode("latin-1") if isinstance(raw, str) else raw
    if not isinstance(raw, bytes | bytearray) or not isinstance(element, _ElementType):
        raise RefusedPickle("an array is not made of plain numbers")
    if not isinstance(shape, tuple) or any(type(n) is not int or n < 0 for n in shape):
        raise RefusedPickle("an array has a shape that is not a tuple of sizes")
    dtype = np.dtype(element.order + element.code)
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise RefusedPickle(f"an array of shape {shape} and type {dtype} has {len(raw)} bytes")
    values = np.frombuffer(raw, dtype).reshape(shape, order="F" if order == "F" else "C")
    return values.astype(dtype.newbyteorder("="), order="C")


def _reconstruct(kind: Any, _shape: Any = None, _code: Any = None) -> _Array:
    """`numpy.core.multiarray._reconstruct(ndarray, shape, code)`."""
    if kind is not _NDARRAY:
        raise RefusedPickle("_reconstruct is asked for something else than an array")
    return _Array()


def _from_buffer(raw: Any, element: Any, shape: Any, order: Any) -> _Array:
    """`numpy.core.numeric._frombuffer` of protocol 5."""
    array = _Array()
    array.values = _values(raw, element, shape, order)
    return array


def _make_object(kind: Any, base: Any, state: Any) -> _Object:
    """`copy_reg._reconstructor(class, object, None)` of protocols 0 and 1."""
    known = isinstance(kind, type) and issubclass(kind, _Object)
    if not known or base is not _OBJECT or state is not None:
        raise RefusedPickle("_reconstructor is asked for an unknown object")
    return kind()


def _make_set(items: Any = ()) -> frozenset[str]:
    """`set(items)`, of which the words are kept."""
    return frozenset(item for item in items if isinstance(item, str))


def _empty_bytes() -> bytes:
    """`bytes()`: how Python 3 writes an empty string of bytes in protocol 2."""
    return b""


def _encode(text: Any, codec: Any) -> bytes:
    """`_codecs.encode(text, "latin1")`: how Python 3 writes bytes in protocol 2."""
    if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
        raise RefusedPickle("encode is asked for something else than latin1")
    return text.encode("latin-1")


# (modules, name) -> what stands for it. Everything else is refused.
_TABLE: tuple[tuple[tuple[str, ...], str, Any], ...] = (
    (("chumpy.ch", "chumpy"), "Ch", _Chumpy),
    (("chumpy.reordering",), "Select", _Select),
    (("scipy.sparse.csc", "scipy.sparse._csc"), "csc_matrix", _Csc),
    (("scipy.sparse.csr", "scipy.sparse._csr"), "csr_matrix", _Csr),
    (("scipy.sparse.coo", "scipy.sparse._coo"), "coo_matrix", _Coo),
    (("numpy",), "ndarray", _NDARRAY),
    (("numpy",), "dtype", _Function(_ElementType)),
    (("numpy.core.multiarray", "numpy._core.multiarray"), "_reconstruct", _Function(_reconstruct)),
    (("numpy.core.numeric", "numpy._core.numeric"), "_frombuffer", _Function(_from_buffer)),
    (("_codecs",), "encode", _Function(_encode)),
    (("__builtin__", "builtins"), "set", _Function(_make_set)),
    (("__builtin__", "builtins"), "bytes", _Function(_empty_bytes)),
    (("__builtin__", "builtins"), "object", _OBJECT),
    (("copy_reg", "copyreg"), "_reconstructor", _Function(_make_object)),
)
ALLOWED = {(module, name): stand_in for modules, name, stand_in in _TABLE for module in modules}


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
        if isinstance(value, _Array):
            return value.values
        if isinstance(value, _Object):
            state = {key: self.of(v, depth + 1) for key, v in value.state.items() if key in _READ}
            return _array_of(value, state)
        raise RefusedPickle(f"it holds a value of type {type(value).__name__.strip('_')}")


_READ = ("x", "a", "idxs", "preferred_shape", "_shape", "shape", "data", "indices", "indptr",
         "row", "col", "coords")  # fmt: skip


def _array_of(value: _Object, state: dict[str, Any]) -> Any:
    """The array or matrix that an object stands for, from its attributes."""

    def array(name: str, kinds: str = "biuf") -> np.ndarray:
        found = state.get(name)
        if not isinstance(found, np.ndarray) or found.dtype.kind not in kinds:
            raise RefusedPickle(f"a {type(value).__name__.strip('_')} has no array {name!r}")
        return found

    if isinstance(value, _Chumpy):
        return array("x")
    if isinstance(value, _Select):
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
        if isinstance(value, _Coo):
            if "coords" in state:
                state["row"], state["col"] = state["coords"]
            matrix = sparse.coo_matrix((data, (array("row", "iu"), array("col", "iu"))), size)
        else:
            kind = sparse.csc_matrix if isinstance(value, _Csc) else sparse.csr_matrix
            parts = data, array("indices", "iu"), array("indptr", "iu")
            matrix = kind(parts, size)
            matrix.check_format(full_check=True)
            if len(data) != len(parts[1]) or parts[2][-1] != len(data):
                raise ValueError("its lists are of different lengths")
        return matrix.tocsc()
    except ValueError as error:
        raise RefusedPickle(f"a sparse matrix does not fit itself: {error}") from None
