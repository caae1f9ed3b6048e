"""Reads files that `torch.save` wrote, tensors and plain values only, mapped instead of read.

torch's own reader obeys some pickles that never end, and where it refuses it advises to trust the
file. The pickle in the file is a few kilobytes; `pickle_machine` runs it, and gives for each tensor
where its numbers lie. They are mapped: pages are read when they are used.

Source: torch/serialization.py, the zip format since 1.6 and the older one.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from .describe import in_print
from .header import DTYPES, Form, sniff
from .pickle_machine import Function, RefusedPickle, Table, run_pickle
from .pickle_names import is_shape

# The released model has 2,411 tensors and a pickle of 0.4 MB.
MAX_PICKLE_BYTES = 64 * 1024**2
MAX_DIRECTORY_BYTES = 16 * 1024**2
MAX_DEPTH = 16
MAX_VALUES = 1_000_000
MAGIC_NUMBER, LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
BROKEN = (
    ValueError, LookupError, TypeError, RuntimeError, MemoryError, EOFError, OSError, struct.error,
    OverflowError, zipfile.BadZipFile,
)  # fmt: skip
_STORAGES = {
    "Double": torch.float64, "Float": torch.float32, "Half": torch.float16,
    "BFloat16": torch.bfloat16, "Long": torch.int64, "Int": torch.int32, "Short": torch.int16,
    "Char": torch.int8, "Byte": torch.uint8, "Bool": torch.bool,
}  # fmt: skip
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES.values()}


@dataclass(frozen=True, slots=True)
class _Numbers:
    """A storage: numbers of one type under a key. A dtype of None stands for bytes."""

    key: str
    dtype: torch.dtype | None
    count: int


@dataclass(frozen=True, slots=True)
class _Plan:
    """A tensor that is not made yet."""

    numbers: _Numbers
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def load_torch_file(path: Path) -> Any:
    """What was saved: dicts, lists, plain values, and tensors mapped from the file.

    Raises:
        RefusedPickle: The file asks for anything else; nothing of it is run.
        ValueError: It is damaged, cut short, compressed, or larger than its like.
    """
    try:
        with path.open("rb") as file:
            read = _read_zip if sniff(path) is Form.TORCH_ZIP else _read_legacy
            content, places = read(file)
        size = path.stat().st_size
        # Private: what is written to a tensor never reaches the file.
        whole = torch.UntypedStorage.from_file(str(path), False, size)
        return _Tensors(whole, places).of(content)
    except RefusedPickle:
        raise
    except BROKEN as error:
        raise ValueError(f"{type(error).__name__}: {in_print(error, 200)}") from None


def _read_zip(file: BinaryIO) -> tuple[Any, dict[str, tuple[int, int]]]:
    """The content, and where the numbers of each storage begin and how many bytes they are."""
    _check_directory(file)
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        pickles = [name for name in entries if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"the archive has {len(pickles)} data.pkl, expected one")
        root = pickles[0].removesuffix("data.pkl")
        program, order = entries[pickles[0]], entries.get(f"{root}byteorder")
        if any(e.compress_type != zipfile.ZIP_STORED for e in entries.values()):
            raise ValueError("the archive is compressed, which torch never does")
        if program.file_size > MAX_PICKLE_BYTES:
            raise ValueError(f"its table of contents has {program.file_size} bytes")
        if order and order.file_size < 16 and archive.read(order) != b"little":
            raise ValueError("its numbers are in the byte order of other machines")
        content = run_pickle(io.BytesIO(archive.read(program)), _find, _storage)
    places = {}
    for name, entry in entries.items():
        if name.startswith(f"{root}data/"):
            file.seek(entry.header_offset + 26)
            names, extra = struct.unpack("<HH", file.read(4))
            begin = entry.header_offset + 30 + names + extra
            places[name.removeprefix(f"{root}data/")] = begin, entry.file_size
    return content, places


def _check_directory(file: BinaryIO) -> None:
    """Refuse a list of entries that would fill the memory before anyone looks at it."""
    end = file.seek(0, io.SEEK_END)
    file.seek(max(end - 98, 0))
    tail = file.read(98)
    if tail[-22:-18] != b"PK\x05\x06":
        raise ValueError("the archive does not end as torch ends it: it is cut short")
    (size,) = struct.unpack_from("<I", tail, len(tail) - 10)
    if tail[:4] == b"PK\x06\x06":
        (size,) = struct.unpack_from("<Q", tail, 40)
    if size > MAX_DIRECTORY_BYTES:
        raise ValueError(f"the archive's list of entries has {size} bytes")


def _read_legacy(file: BinaryIO) -> tuple[Any, dict[str, tuple[int, int]]]:
    """Five pickles (magic, protocol, machine, content, order of the storages), then numbers."""
    head = io.BytesIO(file.read(MAX_PICKLE_BYTES))
    seen: dict[str, _Numbers] = {}

    def storage(what: Any) -> _Numbers:
        found = _storage(what)
        return seen.setdefault(found.key, found)

    if run_pickle(head, _find) != MAGIC_NUMBER or run_pickle(head, _find) != LEGACY_PROTOCOL:
        raise ValueError("it has not the beginning of a torch file")
    machine = run_pickle(head, _find)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise ValueError("its numbers are in the byte order of other machines")
    content, keys = run_pickle(head, _find, storage), run_pickle(head, _find)
    places, place = {}, head.tell()
    for key in keys if isinstance(keys, list) else ():
        dtype = seen[key].dtype if isinstance(key, str) and key in seen else None
        if dtype is None:
            raise ValueError("it lists numbers of an unknown type")
        file.seek(place)
        (count,) = struct.unpack("<Q", file.read(8))
        places[key] = place + 8, count * dtype.itemsize
        place += 8 + count * dtype.itemsize
    return content, places


def _find(module: str, name: str) -> Any:
    known = _NAMES.get((module, name))
    if known is None and module == "torch":
        known = _DTYPES.get(name, _STORAGES.get(name.removesuffix("Storage")))
    if known is None:
        raise RefusedPickle(f"it asks for {in_print(f'{module}.{name}')}")
    return known


def _storage(what: Any) -> _Numbers:
    match what:
        case ("storage", torch.dtype() | "bytes" as dtype, str(key), str(), int(count), *more):
            if more not in ([], [None]):
                raise RefusedPickle("it shares numbers in a way that torch gave up")
            return _Numbers(key, None if dtype == "bytes" else dtype, count)
    raise RefusedPickle("it refers to something else than the numbers of a tensor")


def _tensor(numbers: Any, offset: Any, size: Any, stride: Any, *_rest: Any) -> _Plan:
    """`_rebuild_tensor` and `_rebuild_tensor_v2`, whose further arguments say nothing on values."""
    dtype = numbers.dtype if isinstance(numbers, _Numbers) else None
    return _plan(numbers, offset, size, stride, dtype)


def _typed_tensor(n: Any, offset: Any, size: Any, stride: Any, _grad: Any, _: Any, dtype: Any,
                  *_rest: Any) -> _Plan:  # fmt: skip
    """`_rebuild_tensor_v3`, for types that have no storage of their own."""
    return _plan(n, offset, size, stride, dtype)


def _plan(numbers: Any, offset: Any, size: Any, stride: Any, dtype: Any) -> _Plan:
    if not isinstance(numbers, _Numbers) or not isinstance(dtype, torch.dtype):
        raise RefusedPickle("a tensor is not made of numbers")
    if not (is_shape(size) and is_shape(stride) and len(size) == len(stride)):
        raise RefusedPickle("a tensor has a shape that is not a tuple of sizes")
    if type(offset) is not int or not 0 <= offset < 1 << 40:
        raise RefusedPickle("a tensor begins nowhere")
    return _Plan(numbers, dtype, offset, size, stride)


def _parameter(tensor: Any, *_rest: Any) -> Any:
    return tensor


def _table(items: Any = ()) -> Table:
    if not isinstance(items, list | tuple):
        raise RefusedPickle("a table is not made of pairs")
    table = Table()
    for pair in items:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise RefusedPickle("a table is not made of words and values")
        table[pair[0]] = pair[1]
    return table


_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): Function(_table),
    ("torch", "Size"): Function(lambda sizes=(): tuple(sizes)),
    ("torch._utils", "_rebuild_tensor"): Function(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Function(_tensor),
    ("torch._utils", "_rebuild_tensor_v3"): Function(_typed_tensor),
    ("torch._utils", "_rebuild_parameter"): Function(_parameter),
    ("torch.storage", "UntypedStorage"): "bytes",
}


class _Tensors:
    """Makes the tensors that are planned, within bounds on depth and number."""

    def __init__(self, whole: Any, places: dict[str, tuple[int, int]]) -> None:
        self.whole, self.places = whole, places
        self.storages: dict[str, torch.UntypedStorage] = {}
        self.values_left = MAX_VALUES

    def of(self, value: Any, depth: int = 0) -> Any:
        self.values_left -= 1
        if depth > MAX_DEPTH or self.values_left < 0:
            raise RefusedPickle("it is nested deeper, or has more values, than weights need")
        if value is None or isinstance(value, bool | int | float | str | torch.dtype):
            return value
        if isinstance(value, dict):
            return {key: self.of(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)([self.of(item, depth + 1) for item in value])
        if isinstance(value, _Plan):
            return self.tensor(value)
        raise RefusedPickle(f"it holds a value of type {type(value).__name__}")

    def tensor(self, plan: _Plan) -> Tensor:
        key = plan.numbers.key
        if key not in self.storages:
            start, length = self.places[key]
            if not 0 <= start <= start + length <= self.whole.nbytes():
                raise ValueError("the numbers of a tensor reach beyond the file")
            part = self.whole[start : start + length]
            self.storages[key] = part if start % 8 == 0 else part.clone()
        numbers = self.storages[key]
        # No more entries than numbers: a stride of 0 would make terabytes of four bytes.
        if math.prod(plan.size) * plan.dtype.itemsize > numbers.nbytes():
            raise ValueError(f"a tensor of shape {plan.size} has {numbers.nbytes()} bytes")
        return torch.empty(0, dtype=plan.dtype).set_(numbers, plan.offset, plan.size, plan.stride)
