"""A safetensors file that is to be written: its header down to the byte, and what goes where."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from ..header import DTYPE_NAMES, LENGTH_BYTES, METADATA
from .sources import Stored

FORMAT = "1"  # raise it when the same sources would give other bytes
DIGITS = 64  # of a SHA-256
HASHES = "fantasyid_sha256"
MARK = f'{{"{METADATA}":{{"{HASHES}":"'.encode()  # how the header of every such file begins
UNDONE = b"0" * DIGITS
ALIGNMENT = 8
PART = ".part"


class Plan:
    """A file to write: its tensors, and every byte of its header but the hashes."""

    def __init__(self, path: Path, tensors: Mapping[str, Stored], metadata: Mapping[str, str]):
        self.path = path
        self.part = path.with_name(path.name + PART)
        # Wide types first keeps every tensor aligned, as the library does; else the sources' order.
        order = sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize)
        self.tensors = dict(order)
        self.metadata = dict(metadata)

    @cached_property
    def header(self) -> bytes:
        """Length and JSON, with zeros for hashes."""
        hashes = {HASHES: UNDONE.decode() * len(self.tensors), "format": "pt"}
        content: dict[str, Any] = {METADATA: hashes | {"fantasyid_format": FORMAT} | self.metadata}
        position = 0
        for name, stored in self.tensors.items():
            end = position + stored.num_bytes
            content[name] = {
                "dtype": DTYPE_NAMES[stored.dtype],
                "shape": list(stored.shape),
                "data_offsets": [position, end],
            }
            position = end
        text = json.dumps(content, separators=(",", ":")).encode()
        text += b" " * (-len(text) % ALIGNMENT)
        return len(text).to_bytes(LENGTH_BYTES, "little") + text

    @property
    def hashes_start(self) -> int:
        """Where the hashes stand in the file."""
        return self.header.index(MARK) + len(MARK)

    @property
    def data_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(stored.num_bytes for stored in self.tensors.values())

    @property
    def num_bytes(self) -> int:
        """Size of the finished file."""
        return len(self.header) + self.data_bytes

    def places(self) -> Iterator[tuple[int, str, Stored, int]]:
        """Number, name, tensor and position in the file of every tensor."""
        position = len(self.header)
        for number, (name, stored) in enumerate(self.tensors.items()):
            yield number, name, stored, position
            position += stored.num_bytes

    def entered(self, path: Path) -> list[bytes] | None:
        """The hashes in a file, if its header is this plan's; None for any other file."""
        if not path.is_file():
            return None
        with path.open("rb") as file:
            found = file.read(len(self.header))
        start, length = self.hashes_start, DIGITS * len(self.tensors)
        if found[:start] + self.header[start : start + length] + found[start + length :] != (
            self.header
        ):
            return None
        hashes = found[start : start + length]
        return [hashes[n : n + DIGITS] for n in range(0, length, DIGITS)]

    def is_finished(self) -> bool:
        """Whether an earlier run has finished this very file."""
        hashes = self.entered(self.path)
        whole = hashes is not None and UNDONE not in hashes
        return whole and self.path.stat().st_size == self.num_bytes
