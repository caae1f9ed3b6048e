"""Which samples a step sees, and what is drawn for each: pure functions of (seed, step, position).

Nothing here remembers anything, and nothing depends on how many devices share a step: that is why
a run resumes exactly, with as many devices as there are that day.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator


def generator(*words: object) -> Generator:
    """A generator that is seeded by words, the same on every machine."""
    digest = hashlib.blake2b("/".join(map(str, words)).encode(), digest_size=8).digest()
    return Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


@dataclass(frozen=True, slots=True)
class Order:
    """The order of the data.

    Attributes:
        seed: Of the run.
        buckets: Numbers of the units (clips, or people) of each size; a step sees one size.
        per_step: Units in one optimizer step, over all devices.
    """

    seed: int
    buckets: tuple[tuple[int, ...], ...]
    per_step: int

    def __post_init__(self) -> None:
        if not any(self.buckets):
            raise ValueError("nothing to train on: the manifest and the cache share no clip")

    @property
    def steps_per_epoch(self) -> int:
        """Every unit is seen at least once; a bucket's last step is filled from its beginning."""
        return sum(-(-len(bucket) // self.per_step) for bucket in self.buckets)

    def units(self, step: int) -> list[int]:
        """The units of a step, in the order of their positions in the batch."""
        epoch, place = divmod(step, self.steps_per_epoch)
        batches = [
            (bucket, first)
            for bucket, content in enumerate(self.buckets)
            for first in range(0, len(content), self.per_step)
        ]
        turn = torch.randperm(len(batches), generator=generator(self.seed, "batches", epoch))
        bucket, first = batches[int(turn[place])]
        content = self.buckets[bucket]
        mixed = torch.randperm(
            len(content), generator=generator(self.seed, "units", epoch, bucket)
        ).tolist()
        return [content[mixed[(first + i) % len(content)]] for i in range(self.per_step)]


def share(items: Sequence, rank: int, world_size: int, part: int, parts: int) -> list:
    """The slice of a step's items that one device computes in one of its accumulation parts."""
    count = len(items) // (world_size * parts)
    first = (part * world_size + rank) * count
    return list(items[first : first + count])
