"""What the names in a pickle stand for: classes and functions that keep what they are given."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .describe import in_print
from .pickle_machine import Function, Object, RefusedPickle

ELEMENT_TYPES = ("b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8")
MAX_AXES, MAX_SIZE = 16, 1 << 40


class ElementType:
    """Stands for a numpy dtype of plain numbers."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, *_align_and_copy: Any) -> None:
        self.code = code.lstrip("<|=") if isinstance(code, str) else ""
        self.order = "<"
        if self.code not in ELEMENT_TYPES:
            raise RefusedPickle(f"arrays of element type {in_print(self.code)!r} are not read")

    def set_state(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise RefusedPickle("an element type has an unknown byte order")
        self.order = ">" if state[1] == ">" else "<"


class Array:
    """Stands for a numpy array."""

    __slots__ = ("values",)

    def set_state(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise RefusedPickle("an array has a state of an unknown form")
        shape, element, fortran, raw = state[-4:]
        self.values = _values(raw, element, shape, "F" if fortran else "C")


class Chumpy(Object):
    """`chumpy.ch.Ch`: an array in the attribute `x`."""

    __slots__ = ()


class Select(Object):
    """`chumpy.reordering.Select`: entries `idxs` of the array `a`."""

    __slots__ = ()


class Csc(Object):
    __slots__ = ()


class Csr(Object):
    __slots__ = ()


class Coo(Object):
    __slots__ = ()


def _refuse_call(*_arguments: Any) -> Any:
    raise RefusedPickle("it calls a name that is only ever passed on")


_NDARRAY, _OBJECT = Function(_refuse_call), Function(_refuse_call)


def is_shape(shape: Any) -> bool:
    """Whether it is a tuple of few sizes, whose product is short."""
    sizes = isinstance(shape, tuple) and len(shape) <= MAX_AXES
    return sizes and all(type(n) is int and 0 <= n < MAX_SIZE for n in shape)


def _values(raw: Any, element: Any, shape: Any, order: Any) -> np.ndarray:
    """The array that `raw` spells, once its length has been found to fit."""
    raw = raw.encode("latin-1") if isinstance(raw, str) else raw
    if not isinstance(raw, bytes | bytearray) or not isinstance(element, ElementType):
        raise RefusedPickle("an array is not made of plain numbers")
    if not is_shape(shape):
        raise RefusedPickle("an array has a shape that is not a tuple of sizes")
    dtype = np.dtype(element.order + element.code)
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise RefusedPickle(f"an array of shape {shape} and type {dtype} has {len(raw)} bytes")
    values = np.frombuffer(raw, dtype).reshape(shape, order="F" if order == "F" else "C")
    return values.astype(dtype.newbyteorder("="), order="C")


def _reconstruct(kind: Any, _shape: Any = None, _code: Any = None) -> Array:
    """`numpy.core.multiarray._reconstruct(ndarray, shape, code)`."""
    if kind is not _NDARRAY:
        raise RefusedPickle("_reconstruct is asked for something else than an array")
    return Array()


def _from_buffer(raw: Any, element: Any, shape: Any, order: Any) -> Array:
    """`numpy.core.numeric._frombuffer` of protocol 5."""
    array = Array()
    array.values = _values(raw, element, shape, order)
    return array


def _make_object(kind: Any, base: Any, state: Any) -> Object:
    """`copy_reg._reconstructor(class, object, None)` of protocols 0 and 1."""
    known = isinstance(kind, type) and issubclass(kind, Object)
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
    (("chumpy.ch", "chumpy"), "Ch", Chumpy),
    (("chumpy.reordering",), "Select", Select),
    (("scipy.sparse.csc", "scipy.sparse._csc"), "csc_matrix", Csc),
    (("scipy.sparse.csr", "scipy.sparse._csr"), "csr_matrix", Csr),
    (("scipy.sparse.coo", "scipy.sparse._coo"), "coo_matrix", Coo),
    (("numpy",), "ndarray", _NDARRAY),
    (("numpy",), "dtype", Function(ElementType)),
    (("numpy.core.multiarray", "numpy._core.multiarray"), "_reconstruct", Function(_reconstruct)),
    (("numpy.core.numeric", "numpy._core.numeric"), "_frombuffer", Function(_from_buffer)),
    (("_codecs",), "encode", Function(_encode)),
    (("__builtin__", "builtins"), "set", Function(_make_set)),
    (("__builtin__", "builtins"), "bytes", Function(_empty_bytes)),
    (("__builtin__", "builtins"), "object", _OBJECT),
    (("copy_reg", "copyreg"), "_reconstructor", Function(_make_object)),
)
ALLOWED = {(module, name): stand_in for modules, name, stand_in in _TABLE for module in modules}
