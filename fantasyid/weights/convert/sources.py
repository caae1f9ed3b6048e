"""Where tensors come from: files that are read one tensor at a time, and changes of precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ..header import Form, TensorEntry, read_header, sniff
from ..read import only_tensors, read_torch_file

# Pages of a mapped file count as memory of this program until the map is dropped.
MAX_MAPPED_BYTES = 256 * 1024**2
FP8 = torch.float8_e4m3fn


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor that is not read yet."""

    entry: TensorEntry  # its type and shape
    load: Callable[[], Tensor]  # reads it

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.entry.shape


class _File:
    """A mapped file of weights, opened anew before its map fills the memory."""

    def __init__(self, path: Path, open_file: Callable[[Path], Any], entries: Any) -> None:
        self.path, self.open_file, self.entries = path, open_file, entries
        self.content: Any = None
        self.read_bytes = 0

    def load(self, name: str) -> Tensor:
        if self.content is None or self.read_bytes > MAX_MAPPED_BYTES:
            self.content, self.read_bytes = None, 0  # the old map goes before the new one comes
            self.content = self.open_file(self.path)
        self.read_bytes += self.entries[name].num_bytes
        return self.content(name)


def _open_safetensors(path: Path) -> Callable[[str], Tensor]:
    # Only the tensors' pages stay mapped once the reader is gone, and those as long as they live.
    return safe_open(path, "pt").get_tensor


def _open_torch(path: Path) -> Callable[[str], Tensor]:
    return only_tensors(read_torch_file(path), path).__getitem__


def open_source(path: Path) -> dict[str, Stored]:
    """The tensors of a file of weights, in the order of their bytes.

    safetensors files and torch files of the zip format are mapped, older ones are read whole:
    their format allows nothing else.

    Raises:
        ValueError: The file is damaged, or holds something other than tensors.
    """
    if sniff(path) is Form.SAFETENSORS:
        entries: Mapping[str, TensorEntry] = read_header(path).entries
        file = _File(path, _open_safetensors, entries)
    else:
        tensors = only_tensors(read_torch_file(path), path)
        entries = {n: TensorEntry(t.dtype, tuple(t.shape)) for n, t in tensors.items()}
        file = _File(path, _open_torch, entries)
    return {n: Stored(entry, lambda n=n: file.load(n)) for n, entry in entries.items()}


def in_memory(tensors: Mapping[str, Tensor]) -> dict[str, Stored]:
    """Tensors that are in memory already."""
    return {
        n: Stored(TensorEntry(t.dtype, tuple(t.shape)), lambda t=t: t) for n, t in tensors.items()
    }


def cast(stored: Stored, dtype: torch.dtype, name: str) -> Stored:
    """The same tensor in another precision, converted while it is read.

    Args:
        stored: A tensor; one that is not of a floating type stays as it is.

    Raises:
        ValueError: While it is read: a finite value is too large for the precision.
    """
    if not stored.entry.dtype.is_floating_point or stored.entry.dtype == dtype:
        return stored

    def load() -> Tensor:
        values, largest = stored.load().float(), torch.finfo(dtype).max
        if (values.isfinite() & (values.abs() > largest)).any():
            raise ValueError(
                f"{name} has values beyond {largest:g}, the largest of {dtype}: choose "
                "another precision"
            )
        return values.to(dtype)

    return Stored(TensorEntry(dtype, stored.shape), load)
