"""Writes a dict of tensors as torch did before version 1.6, the same bytes every time.

`torch.save` can still write that format, but it names storages after addresses in memory, so two
runs never agree.
"""

from __future__ import annotations

import io
import pickle
import struct
import sys
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, _utils

STORAGE_KINDS = {torch.float32: torch.FloatStorage, torch.int64: torch.LongStorage}
_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_SYSTEM = {
    "protocol_version": _VERSION,
    "little_endian": True,
    "type_sizes": {"short": 2, "int": 4, "long": 4},
}


@dataclass(frozen=True, eq=False)
class _Storage:
    """The numbers of one tensor, which the format keeps outside the pickle."""

    key: str
    tensor: Tensor


class _StoragePickler(pickle.Pickler):
    """Puts the numbers of tensors aside and counts them in order of appearance."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=2)
        self.storages: list[_Storage] = []

    def reducer_override(self, obj: Any, /) -> Any:
        if not isinstance(obj, Tensor):
            return NotImplemented
        storage = _Storage(f"{len(self.storages):08d}", obj.detach().contiguous())
        self.storages.append(storage)
        tensor = storage.tensor
        layout = (0, tuple(tensor.shape), tensor.stride(), False, OrderedDict())
        return _utils._rebuild_tensor_v2, (storage, *layout)

    def persistent_id(self, obj: Any, /) -> Any:
        if not isinstance(obj, _Storage):
            return None
        kind = STORAGE_KINDS[obj.tensor.dtype]
        return ("storage", kind, obj.key, "cpu", obj.tensor.numel(), None)


def legacy_torch_bytes(content: dict[str, dict[str, Tensor]]) -> bytes:
    """Give the bytes of a checkpoint in the format of torch before 1.6.

    Args:
        content: dicts of tensors on the CPU, by name.
    """
    if sys.byteorder != "little":
        raise ValueError("the tiny DECA checkpoint can only be written on a little-endian machine")
    file = io.BytesIO()
    for header in (_MAGIC, _VERSION, _SYSTEM):
        pickle.dump(header, file, protocol=2)
    pickler = _StoragePickler(file)
    pickler.dump(content)
    pickle.dump([storage.key for storage in pickler.storages], file, protocol=2)
    for storage in pickler.storages:
        file.write(struct.pack("<q", storage.tensor.numel()))
        file.write(storage.tensor.numpy().tobytes())
    return file.getvalue()
