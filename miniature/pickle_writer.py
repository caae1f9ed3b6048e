"""Writes pickles of arrays with the names that Python 2, chumpy and older scipy left in them.

Those libraries are not needed: a pickle is a row of small instructions, and the few that describe
arrays, sparse matrices and chumpy's wrapper are written out here one by one.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .transforms import SparseColumns


@dataclass(frozen=True, eq=False)
class ChumpyArray:
    """An array in the wrapper that FLAME's shape directions come in."""

    values: np.ndarray


class PickleWriter:
    """Collects the instructions of one pickle.

    Args:
        protocol: 2 writes text as the byte strings of Python 2; 4 writes it as unicode.
        sparse_module: the module whose `csc_matrix` the file names.
    """

    def __init__(self, *, protocol: int, sparse_module: str) -> None:
        self.protocol = protocol
        self.sparse_module = sparse_module
        self.parts: list[bytes] = [pickle.PROTO + bytes([protocol])]

    def finish(self, value: Any) -> bytes:
        """Write the one value of the pickle and give its bytes."""
        self._value(value)
        return b"".join([*self.parts, pickle.STOP])

    def _value(self, value: Any) -> None:
        if value is None or isinstance(value, bool):
            names = {None: pickle.NONE, True: pickle.NEWTRUE, False: pickle.NEWFALSE}
            self.parts.append(names[value])
            return
        writers: list[tuple[type, Any]] = [
            (int, self._int),
            (dict, self._dict),
            (np.ndarray, self._array),
            (SparseColumns, self._sparse),
            (ChumpyArray, self._chumpy),
            (str, self._text),
            (tuple, self._tuple),
            (list, self._list),
            (set, self._set),
        ]
        write = next((write for kind, write in writers if isinstance(value, kind)), None)
        if write is None:
            raise TypeError(f"a pickle of arrays does not hold {type(value).__name__}")
        write(value)

    def _int(self, value: int) -> None:
        self.parts.append(pickle.BININT + struct.pack("<i", value))

    def _name(self, module: str, name: str) -> None:
        if self.protocol >= 4:
            self._text(module)
            self._text(name)
            self.parts.append(pickle.STACK_GLOBAL)
        else:
            self.parts.append(pickle.GLOBAL + f"{module}\n{name}\n".encode("ascii"))

    def _text(self, text: str) -> None:
        raw = text.encode("ascii")
        if self.protocol >= 4:
            self.parts.append(pickle.SHORT_BINUNICODE + bytes([len(raw)]) + raw)
        else:
            self.parts.append(pickle.SHORT_BINSTRING + bytes([len(raw)]) + raw)

    def _bytes(self, raw: bytes) -> None:
        code = pickle.BINBYTES if self.protocol >= 4 else pickle.BINSTRING
        self.parts += [code, struct.pack("<I", len(raw)), raw]

    def _tuple(self, values: Iterable[Any]) -> None:
        self.parts.append(pickle.MARK)
        for value in values:
            self._value(value)
        self.parts.append(pickle.TUPLE)

    def _list(self, values: Iterable[Any]) -> None:
        self.parts += [pickle.EMPTY_LIST, pickle.MARK]
        for value in values:
            self._value(value)
        self.parts.append(pickle.APPENDS)

    def _dict(self, values: Mapping[str, Any]) -> None:
        self.parts += [pickle.EMPTY_DICT, pickle.MARK]
        for key, value in values.items():
            self._text(key)
            self._value(value)
        self.parts.append(pickle.SETITEMS)

    def _set(self, values: set[str]) -> None:
        self._name("__builtin__", "set")
        self._tuple([sorted(values)])
        self.parts.append(pickle.REDUCE)

    def _array(self, array: np.ndarray) -> None:
        self._name("numpy.core.multiarray", "_reconstruct")
        self.parts.append(pickle.MARK)
        self._name("numpy", "ndarray")
        self._value((0,))
        self._bytes_or_text(b"b")
        self.parts += [pickle.TUPLE, pickle.REDUCE, pickle.MARK]
        self._value(1)
        self._value(tuple(array.shape))
        self._element_type(array.dtype)
        self._value(False)
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        self._bytes(np.ascontiguousarray(little).tobytes())
        self.parts += [pickle.TUPLE, pickle.BUILD]

    def _bytes_or_text(self, raw: bytes) -> None:
        if self.protocol >= 4:
            self.parts += [pickle.SHORT_BINBYTES, bytes([len(raw)]), raw]
        else:
            self.parts += [pickle.SHORT_BINSTRING, bytes([len(raw)]), raw]

    def _element_type(self, dtype: np.dtype) -> None:
        self._name("numpy", "dtype")
        self._tuple([f"{dtype.kind}{dtype.itemsize}", False, True])
        self.parts.append(pickle.REDUCE)
        self._value((3, "<", None, None, None, -1, -1, 0))
        self.parts.append(pickle.BUILD)

    def _object(self, module: str, name: str, attributes: Mapping[str, Any]) -> None:
        self._name(module, name)
        self.parts += [pickle.EMPTY_TUPLE, pickle.NEWOBJ]
        self._dict(attributes)
        self.parts.append(pickle.BUILD)

    def _sparse(self, matrix: SparseColumns) -> None:
        attributes = {
            "_shape": matrix.shape,
            "maxprint": 50,
            "indices": matrix.indices,
            "indptr": matrix.indptr,
            "data": matrix.data,
        }
        self._object(self.sparse_module, "csc_matrix", attributes)

    def _chumpy(self, array: ChumpyArray) -> None:
        attributes = {"_dirty_vars": {"x"}, "_itr": None, "_status": "new", "x": array.values}
        self._object("chumpy.ch", "Ch", attributes)


def flame_pickle(model: Mapping[str, Any]) -> bytes:
    """Pickle a FLAME model as Python 2 did, protocol 2."""
    return PickleWriter(protocol=2, sparse_module="scipy.sparse.csc").finish(model)


def transforms_pickle(transforms: Mapping[str, Any]) -> bytes:
    """Pickle mesh transforms as Python 3 with numpy 1 and scipy 1.8 or later did, protocol 4."""
    return PickleWriter(protocol=4, sparse_module="scipy.sparse._csc").finish(transforms)
