"""One part of the cache on disk: safetensors shards and a Parquet index."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .manifest import DataError

INDEX = "index.parquet"
SHARD = "shard-{:05d}.safetensors"


@dataclass(slots=True)
class Part:
    """One part of the cache: reads tensors by key, knows what is missing, writes shards.

    Attributes:
        folder: Where its shards are.
        places: Key to shard; read once.
    """

    folder: Path
    places: dict[str, str] = field(default_factory=dict)
    _open: dict[str, object] = field(default_factory=dict)

    def load(self, mend: bool = False) -> Part:
        """Read the index, or the shards where the index is not of today.

        Args:
            mend: Delete shards that were cut short by a crash of the disk, to be made anew.

        Raises:
            DataError: A shard is damaged, and not to be mended.
        """
        self._open.clear()
        shards = sorted(self.folder.glob("shard-*.safetensors"))
        self.places = self._from_index(shards)
        if not self.places and shards:
            for shard in shards:
                try:
                    self.places |= dict.fromkeys(self._keys(shard), shard.name)
                except DataError:
                    if not mend:
                        raise
                    shard.unlink()
            self._write_index()
        return self

    def __contains__(self, key: str) -> bool:
        return key in self.places

    def get(self, key: str) -> Tensor:
        """The tensor of a key.

        Raises:
            DataError: It is not cached, or its shard is damaged.
        """
        name = self.places.get(key)
        if name is None:
            raise DataError(f"{key} is not in the cache {self.folder}: run `cache` again")
        try:
            if name not in self._open:
                self._open[name] = safe_open(str(self.folder / name), "pt")
            return self._open[name].get_tensor(key)  # pyright: ignore[reportAttributeAccessIssue]
        except (SafetensorError, OSError) as error:
            raise DataError(
                f"{self.folder / name} is damaged ({error}): delete it and run `cache` again"
            ) from error

    def fill(
        self,
        keys: Sequence[str],
        encode: Callable[[str], Tensor],
        per_shard: int,
        note: Callable[[str, str | None], None],
    ) -> None:
        """Encode what is missing, shard by shard, in the order of the keys.

        Args:
            keys: All that the part should hold.
            encode: Key to tensor; a `DataError` leaves the key out.
            per_shard: Keys in a shard.
            note: Called with each key and None, or why it was left out.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for partial in self.folder.glob("*.partial"):
            partial.unlink()
        missing = [key for key in dict.fromkeys(keys) if key not in self.places]
        number = 1 + max((int(name[6:11]) for name in set(self.places.values())), default=-1)
        for first in range(0, len(missing), per_shard):
            tensors: dict[str, Tensor] = {}
            for key in missing[first : first + per_shard]:
                try:
                    tensors[key] = encode(key).contiguous()
                    note(key, None)
                except DataError as error:
                    note(key, str(error))
            if tensors:
                self._write(tensors, SHARD.format(number))
                number += 1
        self._write_index()

    def _write(self, tensors: dict[str, Tensor], name: str) -> None:
        partial = self.folder / f"{name}.partial"
        try:
            save_file(tensors, partial)
            os.replace(partial, self.folder / name)
        except (OSError, SafetensorError) as error:
            partial.unlink(missing_ok=True)
            raise DataError(
                f"{self.folder / name} cannot be written ({error}): free some space and run "
                "`cache` again; it goes on from here"
            ) from error
        self.places.update(dict.fromkeys(tensors, name))

    def _keys(self, shard: Path) -> list[str]:
        try:
            with safe_open(str(shard), "pt") as opened:
                return list(opened.keys())
        except (SafetensorError, OSError) as error:
            raise DataError(
                f"{shard} is damaged ({error}): delete it and run `cache` again"
            ) from error

    def _from_index(self, shards: Sequence[Path]) -> dict[str, str]:
        import pyarrow
        import pyarrow.parquet

        try:
            columns = pyarrow.parquet.read_table(self.folder / INDEX).to_pydict()
            known = dict(zip(columns["shard"], columns["bytes"], strict=True))
            if known == {shard.name: shard.stat().st_size for shard in shards}:
                return dict(zip(columns["key"], columns["shard"], strict=True))
        except (OSError, KeyError, pyarrow.ArrowInvalid):
            pass
        return {}

    def _write_index(self) -> None:
        import pyarrow
        import pyarrow.parquet

        sizes = {name: (self.folder / name).stat().st_size for name in set(self.places.values())}
        rows = sorted(self.places.items())
        table = pyarrow.table(
            {
                "key": [key for key, _ in rows],
                "shard": [name for _, name in rows],
                "bytes": [sizes[name] for _, name in rows],
            }
        )
        partial = self.folder / f"{INDEX}.partial"
        pyarrow.parquet.write_table(table, partial)
        os.replace(partial, self.folder / INDEX)
