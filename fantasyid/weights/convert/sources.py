"""Where tensors come from: files that are read piece by piece, and changes of precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..header import is_safetensors, read_header
from ..read import only_tensors, read_torch_file, sniff

CHUNK_BYTES = 16 * 1024**2
# Pages of a mapped torch file count as memory of this program until the map is dropped.
MAX_MAPPED_BYTES = 256 * 1024**2
FP8 = torch.float8_e4m3fn


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor whose bytes are not here yet.

    Attributes:
        dtype: Its type.
        shape: Its shape.
        chunks: Gives its bytes in order; whole elements, at most about 16 MB at a time. A chunk
            is valid until the next one is asked for.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    chunks: Callable[[], Iterator[memoryview]]

    @property
    def num_bytes(self) -> int:
        """Size of its bytes."""
        count = self.dtype.itemsize
        for axis in self.shape:
            count *= axis
        return count


def open_source(path: Path) -> dict[str, Stored]:
    """The tensors of a file of weights, in the order of their bytes.

    safetensors files are read through a small buffer. torch files of the zip format are mapped,
    older ones are read whole: their format allows nothing else.

    Raises:
        ValueError: The file is damaged, or holds something other than tensors.
    """
    sniff(path)
    if is_safetensors(path):
        header = read_header(path)
        return {
            name: Stored(
                entry.dtype,
                entry.shape,
                _file_chunks(path, header.data_start + entry.start, header.data_start + entry.end),
            )
            for name, entry in header.entries.items()
        }
    return _TorchFile(path).tensors()


def _file_chunks(path: Path, start: int, end: int) -> Callable[[], Iterator[memoryview]]:
    def chunks() -> Iterator[memoryview]:
        buffer = memoryview(bytearray(min(CHUNK_BYTES, end - start)))
        with path.open("rb", buffering=0) as file:
            file.seek(start)
            left = end - start
            while left:
                count = file.readinto(buffer[: min(left, len(buffer))])
                # A short read may end inside an element; the rest of it must follow.
                while count and count < min(left, len(buffer)):
                    more = file.readinto(buffer[count : min(left, len(buffer))])
                    if not more:
                        break
                    count += more
                if count < min(left, len(buffer)):
                    raise ValueError(f"{path} became shorter while it was read")
                yield buffer[:count]
                left -= count

    return chunks


class _TorchFile:
    """A torch file whose map is dropped and made anew before it fills the memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read_bytes = 0
        self.content: dict[str, Tensor] | None = self._open()

    def _open(self) -> dict[str, Tensor]:
        return only_tensors(read_torch_file(self.path), self.path)

    def tensors(self) -> dict[str, Stored]:
        """All tensors of the file."""
        return {
            name: Stored(tensor.dtype, tuple(tensor.shape), self._chunks(name))
            for name, tensor in (self.content or {}).items()
        }

    def _chunks(self, name: str) -> Callable[[], Iterator[memoryview]]:
        def chunks() -> Iterator[memoryview]:
            if self.content is None or self.read_bytes > MAX_MAPPED_BYTES:
                self.content = None  # the old map goes before the new one comes
                self.content, self.read_bytes = self._open(), 0
            tensor = self.content[name]
            self.read_bytes += tensor.numel() * tensor.element_size()
            yield from tensor_chunks(tensor)

        return chunks


def tensor_chunks(tensor: Tensor) -> Iterator[memoryview]:
    """The bytes of a tensor in memory."""
    if tensor.numel():
        flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
        for part in flat.split(CHUNK_BYTES):
            yield part.numpy().data


def in_memory(tensors: Mapping[str, Tensor]) -> dict[str, Stored]:
    """Tensors that are in memory already."""

    def chunks_of(tensor: Tensor) -> Callable[[], Iterator[memoryview]]:
        return lambda: tensor_chunks(tensor)

    return {n: Stored(t.dtype, tuple(t.shape), chunks_of(t)) for n, t in tensors.items()}


def cast(stored: Stored, dtype: torch.dtype, name: str) -> Stored:
    """The same tensor in another precision, converted while it is read.

    Args:
        stored: A tensor; one that is not of a floating type stays as it is.
        dtype: The precision wanted.
        name: For the error.

    Raises:
        ValueError: While it is read: a finite value is too large for the precision.
    """
    if not stored.dtype.is_floating_point or stored.dtype == dtype:
        return stored

    def chunks() -> Iterator[memoryview]:
        for chunk in stored.chunks():
            values = torch.frombuffer(bytearray(chunk), dtype=stored.dtype).float()
            converted = values.to(dtype)
            largest = torch.finfo(dtype).max
            if (values.isfinite() & (values.abs() > largest)).any():
                raise ValueError(
                    f"{name} has values beyond {largest:g}, the largest of {dtype}: choose "
                    "another precision"
                )
            yield from tensor_chunks(converted)

    return Stored(dtype, stored.shape, chunks)
