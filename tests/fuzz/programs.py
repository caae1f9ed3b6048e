"""Pickles that hang Python's unpickler, or torch's, or make either eat the memory; and random ones.

Each is small. None may be given to `pickle.load`.
"""

from __future__ import annotations

import io
import random
import struct
import zipfile
from collections.abc import Callable

DEPTH = 70
NESTED = b")" + b"q\x00h\x00h\x00\x86" * DEPTH  # a tuple of two of a tuple of two of ...
FLOATS = b"cnumpy\ndtype\n(U\x02f8I0\nI1\ntR"
EMPTY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR"
STORAGE = (
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
)
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n("
REST = b"\x89ccollections\nOrderedDict\n)RtR"


def numbers(code: bytes, raw: bytes, count: int) -> bytes:
    """An array of `raw`, as numpy writes it."""
    element = b"cnumpy\ndtype\n(U\x02" + code + b"I0\nI1\ntR"
    word = b"T" + struct.pack("<i", len(raw)) + raw
    return EMPTY + b"(I1\n(I" + str(count).encode() + b"\nt" + element + b"I00\n" + word + b"tb"


def sparse(kind: bytes, indptr: bytes) -> bytes:
    """A sparse matrix whose rows are said to begin at `indptr`, of unsigned numbers."""
    parts = {
        b"_shape": b"(K\x02K\x02t", b"data": numbers(b"f8", b"\0" * 16, 2),
        b"indices": numbers(b"u4", b"\0" * 8, 2), b"indptr": numbers(b"u4", indptr, 3),
    }  # fmt: skip
    state = b"}" + b"".join(b"U" + bytes([len(k)]) + k + value + b"s" for k, value in parts.items())
    return b"cscipy.sparse." + kind + b"\n" + kind + b"_matrix\n)\x81" + state + b"b"


BIG = b"X" + struct.pack("<I", 1_000_000) + b"x" * 1_000_000 + b"q\x010"
AGAIN = b"c_codecs\nencode\n(h\x01X\x06\x00\x00\x00latin1tR0"
WRONG_ROWS = struct.pack("<3I", 0, 2_000_000_000, 2)
# Name -> the program that makes the value under one key of a dict.
HANGING: dict[str, bytes] = {
    "key": b"}" + NESTED + b"Ns",
    "keys": b"}(" + NESTED + b"Nu",
    "dict": b"(" + NESTED + b"Nd",
    "frozenset": b"(" + NESTED + b"\x91",
    "items of a set": b"\x8f(" + NESTED + b"\x90",
    "persistent id": NESTED + b"Q",
    "shape of an array": EMPTY + b"(I1\n" + NESTED + FLOATS + b"I00\nU\x00tb",
    "sizes of an array": EMPTY + b"(I1\n(" + (b"\x8a\x10" + b"\x7f" * 16) * 100_000 + b"t"
    + FLOATS + b"I00\nU\x00tb",
    "many short sizes of an array": EMPTY + b"(I1\n(" + b"J\xff\xff\xff\x7f" * 400_000 + b"t"
    + FLOATS + b"I00\nU\x00tb",
    "shape of a tensor": TENSOR + STORAGE + b"K\x00" + NESTED + NESTED + REST,
    "sizes of a tensor": TENSOR + STORAGE + b"K\x00(" + b"J\xff\xff\xff\x7f" * 100_000 + b"t(ttR",
    "one number as terabytes": TENSOR + STORAGE + b"K\x00(J\xff\xff\xff\x7ft(K\x00t" + REST,
    "a long integer": b"\x8b" + struct.pack("<I", 1 << 20) + b"\x7f" * (1 << 20),
    "rows of csr": sparse(b"csr", WRONG_ROWS),
    "rows of csc": sparse(b"csc", WRONG_ROWS),
    "the same million again": BIG + AGAIN * 100_000 + b"N",
    "integers of one hash": b"}(" + b"".join(
        b"\x8a\x0d" + ((1 + n * (2**61 - 1)) ** 1).to_bytes(13, "little") + b"N"
        for n in range(60_000)
    ) + b"u",
    "tuples for ever": NESTED,
    "lists for ever": b"]" * 200_000 + b"a" * 199_999,
}  # fmt: skip


def whole(program: bytes) -> bytes:
    """A pickle of a dict with one value."""
    return b"\x80\x02}U\x01f" + program + b"s."


def in_torch_zip(pickled: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    """The file that torch would have written around a pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", b"\0" * 16)
    return file.getvalue()


def in_torch_legacy(pickled: bytes) -> bytes:
    """The same in torch's older format."""
    magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
    machine = b"\x80\x02}U\rlittle_endian\x88s."
    keys = b"\x80\x02](X\x01\x00\x00\x000e."
    return magic + b"\x80\x02M\xe9\x03." + machine + pickled + keys + b"\4" + b"\0" * 7 + b"\0" * 16


WRAPPERS: dict[str, Callable[[bytes], bytes]] = {
    "f.pkl": lambda pickled: pickled, "f.pt": in_torch_zip, "f.bin": in_torch_legacy,
}  # fmt: skip
_PIECES = (
    *(b"(", b")", b"]", b"}", b"\x8f", b"N", b"\x88", b"K\x01", b"U\x01f", b"X\x01\x00\x00\x00g"),
    *(b"\x85", b"\x86", b"\x87", b"t", b"l", b"d", b"a", b"e", b"s", b"u", b"\x90", b"\x91"),
    *(b"2", b"0", b"1", b"q\x00", b"h\x00", b"\x94", b"R", b"b", b"\x81", b"Q", b"\x93"),
    *(NESTED, FLOATS, EMPTY, STORAGE, TENSOR, REST, b"\x8a\x09" + b"\x7f" * 9),
    *(b"cnumpy\ndtype\n", b"cchumpy.ch\nCh\n", b"ccollections\nOrderedDict\n"),
    b"c_codecs\nencode\n",
    *(b"c__builtin__\nset\n", b"cos\nsystem\n", b"ctorch\nSize\n", b"ctorch\nfloat32\n"),
    *(numbers(b"f8", b"\0" * 16, 2), sparse(b"csr", WRONG_ROWS), sparse(b"coo", WRONG_ROWS)),
)  # fmt: skip


def random_program(dice: random.Random) -> bytes:
    """Steps in an order that nobody writes; each begins with something on the stack."""
    return whole(b"}" + b"".join(dice.choices(_PIECES, k=dice.randint(1, 60))))
