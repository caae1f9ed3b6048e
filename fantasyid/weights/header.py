"""The header of a safetensors file, read and checked before anybody trusts it.

A safetensors file is eight bytes of length, that many bytes of JSON, then the tensors' bytes one
after the other. Readers that map the file into memory believe the JSON; so everything in it is
compared with the size of the file first.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
SUFFIXES = (".safetensors", ".sft")
METADATA = "__metadata__"
LENGTH_BYTES = 8
# The released model needs 0.3 MB; a claim beyond this is a lie, or another kind of file.
MAX_HEADER_BYTES = 32 * 1024**2
MAX_AXES = 16


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor: its type, its shape, and its bytes counted from the end of the header."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file says about itself.

    Attributes:
        entries: Name to tensor, in the order of their bytes.
        metadata: Words that travel with the file.
        data_start: Where the tensors' bytes begin in the file.
    """

    entries: dict[str, TensorEntry]
    metadata: dict[str, str]
    data_start: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes."""
        return {name: entry.shape for name, entry in self.entries.items()}


def is_safetensors(path: Path) -> bool:
    """Whether a file is safetensors, by its content; a name counts only where that is unclear."""
    with path.open("rb") as file:
        head = file.read(LENGTH_BYTES + 1)
    if len(head) > LENGTH_BYTES and head[LENGTH_BYTES:] == b"{":
        return path.suffix in SUFFIXES or _length(head) <= MAX_HEADER_BYTES
    return path.suffix in SUFFIXES and not head.startswith((b"PK\x03\x04", b"\x80\x02\x8a"))


def _length(head: bytes) -> int:
    return struct.unpack("<Q", head[:LENGTH_BYTES])[0]


def read_header(path: Path) -> Header:
    """Read and check the header; the tensors' bytes are not touched.

    Raises:
        ValueError: The file is cut short, or its header does not describe it.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(LENGTH_BYTES)
        if len(head) < LENGTH_BYTES:
            raise ValueError(f"{path} is cut short: {size} bytes are no safetensors file")
        length = _length(head)
        if length > MAX_HEADER_BYTES:
            raise ValueError(
                f"{path} is damaged or no safetensors file: it claims a header of {length} bytes"
            )
        if length > size - LENGTH_BYTES:
            raise ValueError(
                f"{path} is cut short: its header needs {length} bytes, the file has {size}; "
                "fetch it again"
            )
        raw = file.read(length)
    try:
        entries, metadata = _parse(raw)
        _check_layout(entries, size - LENGTH_BYTES - length)
    except (ValueError, RecursionError) as error:
        words = str(error).splitlines()[0][:200]
        raise ValueError(f"{path} is a damaged safetensors file: {words}; fetch it again") from None
    return Header(entries, metadata, LENGTH_BYTES + length)


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a name stands in its header twice")
    return content


def _parse(raw: bytes) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    content = json.loads(raw.decode("utf-8"), object_pairs_hook=_no_twins)
    if not isinstance(content, dict):
        raise ValueError("its header is no table of tensors")
    metadata = content.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("its metadata are not words")
    entries = {name: _entry(name, value) for name, value in content.items()}
    order = sorted(entries.items(), key=lambda item: (item[1].start, item[1].end))
    return dict(order), metadata


def _sizes(value: Any) -> tuple[int, ...] | None:
    """A list of whole numbers >= 0 as a tuple, or None."""
    if not isinstance(value, list) or len(value) > MAX_AXES:
        return None
    if any(type(n) is not int or not 0 <= n < 1 << 62 for n in value):
        return None
    return tuple(value)


def _entry(name: str, value: Any) -> TensorEntry:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name} is not described by dtype, shape and data_offsets")
    dtype = DTYPES.get(value["dtype"]) if isinstance(value["dtype"], str) else None
    if dtype is None:
        raise ValueError(f"{name} is of the unknown type {value['dtype']!r}")
    shape, offsets = _sizes(value["shape"]), _sizes(value["data_offsets"])
    if shape is None or offsets is None or len(offsets) != 2:
        raise ValueError(f"{name} has a shape or offsets that are no sizes")
    expected = dtype.itemsize
    for axis in shape:
        expected *= axis
    if offsets[1] - offsets[0] != expected:
        raise ValueError(
            f"{name} of shape {shape} and type {value['dtype']} needs {expected} bytes, its "
            f"offsets say {offsets[1] - offsets[0]}"
        )
    return TensorEntry(dtype, shape, *offsets)


def _check_layout(entries: Mapping[str, TensorEntry], data_bytes: int) -> None:
    """The tensors must follow each other without gap or overlap, to the end of the file."""
    position = 0
    for name, entry in entries.items():
        if entry.start != position:
            raise ValueError(f"{name} begins at byte {entry.start}, expected {position}")
        position = entry.end
    if position > data_bytes:
        raise ValueError(
            f"it is cut short: its tensors need {position} bytes, {data_bytes} are there"
        )
    if position < data_bytes:
        raise ValueError(f"{data_bytes - position} bytes at its end belong to no tensor")
