"""Spells pickles as Python 2 with numpy, scipy and chumpy spelled them, step by step.

Nothing here imports those packages, so the bytes stay what they were in 2017.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np


class Named:
    """An object of a class that only the pickle names, with attributes."""

    def __init__(self, module: str, name: str, **state: Any) -> None:
        self.module, self.name, self.state = module, name, state


def dumps(value: Any, protocol: int) -> bytes:
    """The pickle of nested dicts, lists, tuples, words, numbers, arrays and `Named` objects."""
    head = b"\x80\x02" if protocol == 2 else b""
    return head + (_Binary() if protocol == 2 else _Text()).spell(value) + b"."


class _Common:
    def spell(self, value: Any) -> bytes:
        if value is None:
            return b"N"
        if isinstance(value, bool | int | np.integer):
            return f"I{int(value)}\n".encode()
        if isinstance(value, str | bytes):
            return self.word(value.encode() if isinstance(value, str) else value)
        if isinstance(value, dict):
            items = b"".join(self.spell(k) + self.spell(v) + b"s" for k, v in value.items())
            return b"(d" + items
        if isinstance(value, list):
            return b"(l" + b"".join(self.spell(item) + b"a" for item in value)
        if isinstance(value, tuple):
            return b"(" + b"".join(map(self.spell, value)) + b"t"
        if isinstance(value, set):
            return b"c__builtin__\nset\n" + self.spell((sorted(value),)) + b"R"
        if isinstance(value, np.ndarray):
            return self.array(value)
        assert isinstance(value, Named)
        return self.make(value) + self.spell(value.state) + b"b"

    def array(self, value: np.ndarray) -> bytes:
        fortran = value.flags.f_contiguous and not value.flags.c_contiguous
        order = value.dtype.byteorder.replace("=", "<")
        code = value.dtype.str[1:]
        element = b"cnumpy\ndtype\n" + self.spell((code, 0, 1)) + b"R"
        width = (3, order, None, None, None, -1, -1, 0)
        element += self.spell(width) + b"b"
        empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n"
        empty += self.spell((0,)) + self.spell("b") + b"tR"
        raw = self.spell(value.tobytes("F" if fortran else "C"))
        shape = self.spell(tuple(value.shape))
        return empty + b"(I1\n" + shape + element + self.spell(int(fortran)) + raw + b"tb"

    def word(self, word: bytes) -> bytes:
        raise NotImplementedError

    def make(self, value: Named) -> bytes:
        raise NotImplementedError


class _Binary(_Common):
    def word(self, word: bytes) -> bytes:
        if len(word) < 256:
            return b"U" + struct.pack("<B", len(word)) + word
        return b"T" + struct.pack("<i", len(word)) + word

    def make(self, value: Named) -> bytes:
        return f"c{value.module}\n{value.name}\n".encode() + b")\x81"


class _Text(_Common):
    def word(self, word: bytes) -> bytes:
        return b"S'" + "".join(f"\\x{byte:02x}" for byte in word).encode() + b"'\n"

    def make(self, value: Named) -> bytes:
        made = f"ccopy_reg\n_reconstructor\n(c{value.module}\n{value.name}\n"
        return made.encode() + b"c__builtin__\nobject\nNtR"
