"""What the names in a pickle stand for: classes that keep what they are given, and do nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

ELEMENT_TYPES = ("b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8")


class RefusedPickle(ValueError):
    """The pickle asks for something that a file of arrays has no need of."""


class Token:
    """A name that is only ever passed on as an argument."""

    def __init__(self, name: str) -> None:
        self.name = name


class Callable:
    """A name that the pickle may call; subclasses say with what."""

    def __call__(self, *arguments: Any) -> Any:
        raise NotImplementedError


class ElementType:
    """Stands for a numpy dtype of plain numbers."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "<"

    def set_state(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise RefusedPickle("an element type has an unknown byte order")
        self.order = ">" if state[1] == ">" else "<"

    def dtype(self) -> np.dtype:
        return np.dtype(self.order + self.code)


class PickledArray:
    """Stands for a numpy array."""

    def __init__(self) -> None:
        self.values: np.ndarray | None = None

    def set_state(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise RefusedPickle("an array has a state of an unknown form")
        shape, element, fortran, raw = state[-4:]
        self.values = _array(raw, element, shape, "F" if fortran else "C")


class PickledObject:
    """Stands for an object of which only the attributes count."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    def set_state(self, state: Any) -> None:
        parts = state if isinstance(state, tuple) else (state,)
        for part in parts:
            if part is None:
                continue
            if not isinstance(part, dict):
                raise RefusedPickle(f"{type(self).__name__} has a state of unknown form")
            self.state.update(part)


class ChumpyArray(PickledObject):
    """`chumpy.ch.Ch`: an array in the attribute `x`."""


class ChumpySelect(PickledObject):
    """`chumpy.reordering.Select`: entries `idxs` of the array `a`."""


class CscMatrix(PickledObject):
    """`scipy.sparse.csc_matrix`."""


class CsrMatrix(PickledObject):
    """`scipy.sparse.csr_matrix`."""


class CooMatrix(PickledObject):
    """`scipy.sparse.coo_matrix`."""


_NDARRAY = Token("numpy.ndarray")
_OBJECT = Token("object")
OBJECT_KINDS = (ChumpyArray, ChumpySelect, CscMatrix, CsrMatrix, CooMatrix)


def _array(raw: Any, element: Any, shape: Any, order: Any) -> np.ndarray:
    """The array that `raw` spells, once its length has been found to fit."""
    if isinstance(raw, str):
        raw = raw.encode("latin-1")
    if not isinstance(raw, bytes | bytearray) or not isinstance(element, ElementType):
        raise RefusedPickle("an array is not made of plain numbers")
    if not isinstance(shape, tuple) or any(type(n) is not int or n < 0 for n in shape):
        raise RefusedPickle("an array has a shape that is not a tuple of sizes")
    dtype = element.dtype()
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise RefusedPickle(f"an array of shape {shape} and type {dtype} has {len(raw)} bytes")
    values = np.frombuffer(raw, dtype).reshape(shape, order="F" if order == "F" else "C")
    return values.astype(dtype.newbyteorder("="), order="C")


class MakeElementType(Callable):
    """`numpy.dtype(code, align, copy)`."""

    def __call__(self, *arguments: Any) -> ElementType:
        code = str(arguments[0]).lstrip("<|=") if arguments else ""
        if code not in ELEMENT_TYPES:
            raise RefusedPickle(f"arrays of element type {code!r} are not read")
        return ElementType(code)


class Reconstruct(Callable):
    """`numpy.core.multiarray._reconstruct(ndarray, shape, code)`."""

    def __call__(self, *arguments: Any) -> PickledArray:
        if not arguments or arguments[0] is not _NDARRAY:
            raise RefusedPickle("_reconstruct is asked for something else than an array")
        return PickledArray()


class FromBuffer(Callable):
    """`numpy.core.numeric._frombuffer(raw, dtype, shape, order)` of protocol 5."""

    def __call__(self, *arguments: Any) -> PickledArray:
        raw, element, shape, order = arguments
        array = PickledArray()
        array.values = _array(raw, element, shape, order)
        return array


class MakeObject(Callable):
    """`copy_reg._reconstructor(class, object, None)` of protocols 0 and 1."""

    def __call__(self, *arguments: Any) -> PickledObject:
        kind, base, state = arguments
        if kind not in OBJECT_KINDS or base is not _OBJECT or state is not None:
            raise RefusedPickle("_reconstructor is asked for an unknown object")
        return kind()


class MakeSet(Callable):
    """`set(items)`, of which the words are kept."""

    def __call__(self, *arguments: Any) -> frozenset[str]:
        items = arguments[0] if arguments else ()
        if not isinstance(items, list | tuple):
            raise RefusedPickle("set is asked for something else than a list")
        return frozenset(item for item in items if isinstance(item, str))


class EmptyBytes(Callable):
    """`bytes()`: how Python 3 writes an empty string of bytes in protocol 2."""

    def __call__(self, *arguments: Any) -> bytes:
        if arguments:
            raise RefusedPickle("bytes is asked for something else than an empty string")
        return b""


class Encode(Callable):
    """`_codecs.encode(text, "latin1")`: how Python 3 writes bytes in protocol 2."""

    def __call__(self, *arguments: Any) -> bytes:
        text, codec = arguments
        if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
            raise RefusedPickle("encode is asked for something else than latin1")
        return text.encode("latin-1")


def _allowed_names() -> dict[tuple[str, str], Any]:
    """Every (module, name) that may occur, with what stands for it."""
    allowed: dict[tuple[str, str], Any] = {
        ("chumpy.ch", "Ch"): ChumpyArray,
        ("chumpy", "Ch"): ChumpyArray,
        ("chumpy.reordering", "Select"): ChumpySelect,
        ("numpy", "ndarray"): _NDARRAY,
        ("numpy", "dtype"): MakeElementType(),
        ("_codecs", "encode"): Encode(),
    }
    for core in ("numpy.core", "numpy._core"):
        allowed[(f"{core}.multiarray", "_reconstruct")] = Reconstruct()
        allowed[(f"{core}.numeric", "_frombuffer")] = FromBuffer()
    for module in ("__builtin__", "builtins"):
        allowed[(module, "set")] = MakeSet()
        allowed[(module, "bytes")] = EmptyBytes()
        allowed[(module, "object")] = _OBJECT
    for module in ("copy_reg", "copyreg"):
        allowed[(module, "_reconstructor")] = MakeObject()
    for layout, kind in (("csc", CscMatrix), ("csr", CsrMatrix), ("coo", CooMatrix)):
        for module in (f"scipy.sparse.{layout}", f"scipy.sparse._{layout}"):
            allowed[(module, f"{layout}_matrix")] = kind
    return allowed


ALLOWED = _allowed_names()
