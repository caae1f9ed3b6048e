"""Writes a safetensors file tensor by tensor, so that it can be stopped at any point.

The bytes go into `NAME.part`, header first; a later run goes on behind its last whole tensor. At
the end every tensor is read back and compared with its source, and only a file in which all agree
takes the final name, in one step.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import torch

from ..header import LENGTH_BYTES, METADATA, header_bytes
from .sources import Stored

FORMAT = "2"  # raise it when the same sources would give other bytes
# How the header of every such file begins.
MARK = f'{{"{METADATA}":{{"fantasyid_format":"'.encode()
SPARE_BYTES = 16 * 1024**2  # left free on the disk beside the file itself


@dataclass(frozen=True, slots=True)
class Step:
    """How far a conversion is.

    Attributes:
        words: What is done now, and to which file.
        done: Bytes of work done; every tensor counts twice, written and checked.
        total: Bytes of work in all.
    """

    words: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Written:
    """A finished file.

    Attributes:
        path: Where it is.
        num_bytes: Its size.
        num_tensors: How many tensors it has.
        was_there: It was finished by an earlier run, and nothing was written.
    """

    path: Path
    num_bytes: int
    num_tensors: int
    was_there: bool


def ignore(step: Step) -> None:
    """Takes note of nothing."""
    del step


@dataclass
class Plan:
    """A file to write: where, which tensors, and every byte of its header."""

    path: Path
    tensors: Mapping[str, Stored]
    metadata: Mapping[str, str]
    header: bytes = field(init=False)

    def __post_init__(self) -> None:
        # Wide types first keeps every tensor aligned, as the library does; else the sources' order.
        order = sorted(self.tensors.items(), key=lambda item: -item[1].entry.dtype.itemsize)
        self.tensors = dict(order)
        entries = {name: stored.entry for name, stored in order}
        start = {"fantasyid_format": FORMAT, "format": "pt"}
        self.header = header_bytes(entries, start | dict(self.metadata))

    @property
    def part(self) -> Path:
        """The file while it is unfinished."""
        return self.path.with_name(self.path.name + ".part")

    @property
    def data_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(stored.entry.num_bytes for stored in self.tensors.values())

    @property
    def num_bytes(self) -> int:
        """Size of the finished file."""
        return len(self.header) + self.data_bytes

    def begun(self, path: Path) -> int:
        """Size of a file whose header is this plan's; 0 for any other."""
        if not path.is_file():
            return 0
        with path.open("rb") as file:
            ours = file.read(len(self.header)) == self.header
        return path.stat().st_size if ours else 0

    def check_target(self, overwrite: bool) -> None:
        """Refuse to replace what somebody else has made."""
        if self.path.exists() and not overwrite:
            raise FileExistsError(
                f"{self.path} is there already and is something else than this conversion would "
                "write: choose another name, or ask for it to be overwritten (--overwrite)"
            )
        if self.part.is_file() and not overwrite:
            with self.part.open("rb") as file:
                start = file.read(LENGTH_BYTES + len(MARK))[LENGTH_BYTES:]
            if not MARK.startswith(start):  # it may have been stopped inside the header
                raise FileExistsError(
                    f"{self.part} is there and was not begun by this converter: move it away, or "
                    "ask for it to be overwritten (--overwrite)"
                )


def write_files(
    plans: list[Plan], *, overwrite: bool, report: Callable[[Step], None]
) -> list[Written]:
    """Write files, going on where an earlier run was stopped.

    Args:
        plans: What to write.
        overwrite: Replace files that are there; without it, only a file that this very
            conversion has finished before may be there, and is left as it is.
        report: Called often; an exception that it raises stops the work, which can be resumed.

    Raises:
        FileExistsError: A file is there and `overwrite` was not asked for.
        OSError: The disk has too little space, or a file is held by another program.
        ValueError: The disk gave other bytes back than were written.
    """
    finished = [not overwrite and plan.begun(plan.path) == plan.num_bytes for plan in plans]
    todo = [plan for plan, is_there in zip(plans, finished, strict=True) if not is_there]
    for plan in todo:
        plan.check_target(overwrite)
    _check_space(todo)
    done, total = 0, 2 * sum(plan.data_bytes for plan in todo)

    def advance(words: str, count: int) -> None:
        nonlocal done
        done = min(done + count, total)
        report(Step(words, done, total))

    for plan in todo:
        _write(plan, advance)
        _check(plan, advance)
        plan.check_target(overwrite)
        _rename(plan)
    return [
        Written(plan.path, plan.num_bytes, len(plan.tensors), is_there)
        for plan, is_there in zip(plans, finished, strict=True)
    ]


def _check_space(plans: list[Plan]) -> None:
    """Each disk must have room for the rest of what goes onto it."""
    needs: dict[int, tuple[Path, int]] = {}
    for plan in plans:
        folder = plan.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        there = plan.part.stat().st_size if plan.part.is_file() else 0
        disk = folder.stat().st_dev
        _, before = needs.get(disk, (folder, SPARE_BYTES))
        needs[disk] = folder, before + max(plan.num_bytes - there, 0)
    for folder, needed in needs.values():
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise OSError(
                f"not enough space in {folder}: {needed / 1e9:.2f} GB are needed, "
                f"{free / 1e9:.2f} GB are free"
            )


def _bytes_of(stored: Stored) -> memoryview:
    tensor = stored.load().detach().contiguous().reshape(-1)
    return tensor.view(torch.uint8).numpy().data if tensor.numel() else memoryview(b"")


def _write_tensor(file: BinaryIO, data: memoryview) -> None:
    file.write(data)


def _write(plan: Plan, advance: Callable[[str, int], None]) -> None:
    """Fill the `.part` file behind what an earlier run has left."""
    there = plan.begun(plan.part)
    if not there:
        plan.part.write_bytes(plan.header)
    # No memory map: Windows would refuse to rename a mapped file.
    with plan.part.open("r+b") as file:
        position = len(plan.header)
        for stored in plan.tensors.values():
            end = position + stored.entry.num_bytes
            if end > there:
                file.seek(position)
                _write_tensor(file, _bytes_of(stored))
            position = end
            advance(f"writing {plan.path.name}", stored.entry.num_bytes)
        file.truncate(position)
        file.flush()
        os.fsync(file.fileno())


def _check(plan: Plan, advance: Callable[[str, int], None]) -> None:
    """Compare every tensor with its source; what a power cut has lost is written again."""
    with plan.part.open("r+b") as file:
        if hasattr(os, "posix_fadvise"):  # read the disk, not the memory that was written from
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(len(plan.header))
        for name, stored in plan.tensors.items():
            position, data = file.tell(), _bytes_of(stored)
            if file.read(len(data)) != data:
                file.seek(position)
                _write_tensor(file, data)
                file.flush()
                os.fsync(file.fileno())
                file.seek(position)
                if file.read(len(data)) != data:
                    raise ValueError(
                        f"{plan.part}: the disk gives back other bytes than were written, for "
                        f"{name}: the disk or its cable may be failing"
                    )
            advance(f"checking {plan.path.name}", len(data))


def _rename(plan: Plan) -> None:
    """Give the finished file its name, in one step and for good."""
    try:
        os.replace(plan.part, plan.path)
    except PermissionError as error:
        raise PermissionError(
            f"{plan.path} cannot be replaced, another program has it open (a loaded model keeps "
            f"its file open on Windows): unload it and run again; {plan.part} is finished and "
            "will only be checked"
        ) from error
    if hasattr(os, "O_DIRECTORY"):
        folder = os.open(plan.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
