"""What form a file of weights has, and the header of a safetensors file, before anyone trusts it.

A name says little: pages, pointers and half downloads are saved under the names of weights.
"""

from __future__ import annotations

import enum
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

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
ALIGNMENT = 8
# The released model needs 0.3 MB for 2,411 tensors; a claim far beyond is a lie, or another file.
MAX_HEADER_BYTES = 8 * 1024**2
MAX_TENSORS = 20_000
MAX_JSON_BYTES = 2 * 1024**2  # of other files; an index of the released model has 0.2 MB


class Form(enum.Enum):
    """How a file of weights is written."""

    SAFETENSORS = enum.auto()
    TORCH_ZIP = enum.auto()  # torch 1.6 and later
    TORCH_LEGACY = enum.auto()
    PICKLE = enum.auto()  # or anything else that is none of the above


_MAGIC = {
    b"PK\x03\x04": Form.TORCH_ZIP,
    b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20": Form.TORCH_LEGACY,
}


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Type and shape of a tensor in a file."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Size of its bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file says about itself."""

    entries: dict[str, TensorEntry]  # name to tensor, in the order of their bytes
    metadata: dict[str, str]  # words that travel with the file

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes."""
        return {name: entry.shape for name, entry in self.entries.items()}


def sniff(path: Path) -> Form:
    """How a file is written, by its content; a name counts only where that is unclear.

    Raises:
        ValueError: It is what is often saved in place of weights: nothing, a page, a pointer.
    """
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise ValueError(f"{path} is empty (0 bytes): the download broke off, fetch it again")
    if re.match(rb"\s*<[!?a-zA-Z]", head):
        raise ValueError(
            f"{path} is an HTML page, not weights: the download page was saved instead of the file"
        )
    if head.startswith(b"version https://git-lfs"):
        raise ValueError(
            f"{path} is a Git LFS pointer of {path.stat().st_size} bytes: fetch the file itself "
            "(git lfs pull)"
        )
    for magic, form in _MAGIC.items():
        if head.startswith(magic):
            return form
    named = path.suffix in SUFFIXES
    length = int.from_bytes(head[:LENGTH_BYTES], "little")
    if named or (head[LENGTH_BYTES:].startswith(b"{") and length <= MAX_HEADER_BYTES):
        return Form.SAFETENSORS
    return Form.PICKLE


def read_json(path: Path) -> Any:
    """What stands in a small JSON file, such as a configuration or an index of shards.

    Raises:
        ValueError: It is no JSON, nested too deeply, or longer than its like.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        text = file.read(MAX_JSON_BYTES + 1)
    if len(text) > MAX_JSON_BYTES:  # the decoder cannot be stopped
        raise ValueError(f"it has more than {MAX_JSON_BYTES} bytes")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_header(path: Path) -> Header:
    """Read and check the header; the tensors' bytes are not touched.

    The library compares names, shapes and offsets with the file. It reads as long a header as the
    file claims to have, so that claim is bounded first.

    Raises:
        ValueError: The file is cut short, or its header does not describe it.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        if size <= LENGTH_BYTES or (length <= MAX_HEADER_BYTES and length > size - LENGTH_BYTES):
            raise ValueError(
                f"{path} is cut short: its header needs {length} bytes, the file has {size}; "
                "fetch it again"
            )
        claims = file.read(length).count(b'"data_offsets"') if length <= MAX_HEADER_BYTES else 0
    if length > MAX_HEADER_BYTES or claims > MAX_TENSORS:
        raise ValueError(
            f"{path} is damaged or no safetensors file: it claims a header of {length} bytes for "
            f"{claims} tensors"
        )
    try:
        with safe_open(path, "pt") as file:
            keys = getattr(file, "offset_keys", file.keys)  # of safetensors 0.5 and later
            names = keys()
            if len(names) > MAX_TENSORS:  # the claims may have been spelled another way
                raise SafetensorError(f"it claims {len(names)} tensors")
            slices = {name: file.get_slice(name) for name in names}
            entries = {
                name: TensorEntry(DTYPES[part.get_dtype()], tuple(part.get_shape()))
                for name, part in slices.items()
            }
            return Header(entries, dict(file.metadata() or {}))
    except (SafetensorError, KeyError, OverflowError) as error:
        words = (str(error).splitlines() or [""])[0][:200]
        raise ValueError(
            f"{path} is a damaged safetensors file, or cut short: {words}; fetch it again"
        ) from None


def header_bytes(entries: Mapping[str, TensorEntry], metadata: Mapping[str, str]) -> bytes:
    """The beginning of a safetensors file whose tensors follow in the order of `entries`.

    The same entries give the same bytes, metadata first; the library would shuffle them.
    """
    content: dict[str, Any] = {METADATA: dict(metadata)}
    position = 0
    for name, entry in entries.items():
        end = position + entry.num_bytes
        content[name] = {
            "dtype": DTYPE_NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text
