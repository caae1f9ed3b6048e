"""Writes a safetensors file tensor by tensor, so that it can be stopped at any point.

The bytes go into `NAME.part`, header first. A first pass writes whatever is not there yet, so that
a later run goes on where an earlier one was stopped; a second one reads every tensor back, and only
a file in which all agree with their sources takes the final name, in one step.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch

from ...whole_file import locked
from ..header import LENGTH_BYTES, METADATA, header_bytes
from ..progress import Report, Step
from .sources import Stored

FORMAT = "2"  # raise it when the same sources would give other bytes
# How the header of every such file begins.
MARK = f'{{"{METADATA}":{{"fantasyid_format":"'.encode()
SPARE_BYTES = 16 * 1024**2  # left free on the disk beside the file itself


@dataclass(frozen=True, slots=True)
class Written:
    """A finished file."""

    path: Path  # where it is
    num_bytes: int  # its size
    num_tensors: int  # how many tensors it has
    was_there: bool  # it was finished by an earlier run, and nothing was written


class Plan:
    """A file to write: where, which tensors, and every byte of its header."""

    def __init__(
        self, path: Path, tensors: Mapping[str, Stored], metadata: Mapping[str, str]
    ) -> None:
        self.path, self.part = path, path.with_name(path.name + ".part")
        # Wide types first keeps every tensor aligned, as the library does; else the sources' order.
        order = sorted(tensors.items(), key=lambda item: -item[1].entry.dtype.itemsize)
        self.tensors = dict(order)
        start = {"fantasyid_format": FORMAT, "format": "pt"}
        entries = {name: stored.entry for name, stored in order}
        self.header = header_bytes(entries, start | dict(metadata))
        self.data_bytes = sum(entry.num_bytes for entry in entries.values())
        self.num_bytes = len(self.header) + self.data_bytes

    def begun(self, path: Path) -> int:
        """Size of a file whose header is this plan's; 0 for any other."""
        if not path.is_file():
            return 0
        with path.open("rb") as file:
            ours = file.read(len(self.header)) == self.header
        return path.stat().st_size if ours else 0

    def check_target(self) -> None:
        """Refuse to replace what somebody else has made."""
        if self.path.exists():
            raise FileExistsError(
                f"{self.path} is there already and is something else than this conversion would "
                "write: choose another name, or ask for it to be overwritten (--overwrite)"
            )
        if self.part.is_file():
            with self.part.open("rb") as file:
                start = file.read(LENGTH_BYTES + len(MARK))[LENGTH_BYTES:]
            if not MARK.startswith(start):  # it may have been stopped inside the header
                raise FileExistsError(
                    f"{self.part} is there and was not begun by this converter: move it away, or "
                    "ask for it to be overwritten (--overwrite)"
                )


def write_files(plans: list[Plan], *, overwrite: bool, report: Report) -> list[Written]:
    """Write files, going on where an earlier run was stopped.

    Args:
        overwrite: Replace files that are there; without it, only a file that this very
            conversion has finished before may be there, and is left as it is.
        report: Called often; an exception that it raises stops the work, which can be resumed.

    Raises:
        FileExistsError: A file is there and `overwrite` was not asked for, or another conversion
            writes it now.
        OSError: The disk has too little space, or a file is held by another program.
        ValueError: The disk gave other bytes back than were written.
    """
    with contextlib.ExitStack() as locks:
        for plan in plans:
            lock = plan.part.with_name(plan.part.name + ".lock")
            words = f"{plan.path} is being written by another conversion: wait for it"
            locks.enter_context(locked(lock, FileExistsError(f"{words}, or choose another name")))
        return _write_locked(plans, overwrite=overwrite, report=report)


def _write_locked(plans: list[Plan], *, overwrite: bool, report: Report) -> list[Written]:
    finished = [not overwrite and plan.begun(plan.path) == plan.num_bytes for plan in plans]
    todo = [plan for plan, is_there in zip(plans, finished, strict=True) if not is_there]
    for plan in todo:
        if not overwrite:
            plan.check_target()
    _check_space(todo)
    done, total = 0, 2 * sum(plan.data_bytes for plan in todo)
    for plan in todo:
        if not plan.begun(plan.part):
            plan.part.write_bytes(plan.header)
        for words, mend in (("writing", True), ("checking", False)):
            for num_bytes in _compare(plan, mend):
                done += num_bytes
                report(Step(f"{words} {plan.path.name}", done, total))
        if not overwrite:
            plan.check_target()
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


def _write_tensor(file: BinaryIO, data: memoryview) -> None:
    file.write(data)


def _compare(plan: Plan, mend: bool) -> Iterator[int]:
    """Compare every tensor in the `.part` file with its source, and write those that differ.

    Yields the bytes of each tensor that was compared.
    """
    # No memory map: Windows would refuse to rename a mapped file.
    with plan.part.open("r+b") as file:
        if not mend and hasattr(os, "posix_fadvise"):  # read the disk, not what memory kept of it
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if file.read(len(plan.header)) != plan.header:
            raise ValueError(f"{plan.part}: its header was changed while it was written")
        position = len(plan.header)
        for name, stored in plan.tensors.items():
            tensor = stored.load().detach().contiguous().reshape(-1)
            data = tensor.view(torch.uint8).numpy().data if tensor.numel() else memoryview(b"")
            file.seek(position)
            if file.read(len(data)) != data:
                if not mend:
                    raise ValueError(
                        f"{plan.part}: the disk gives back other bytes than were written, for "
                        f"{name}: the disk or its cable may be failing"
                    )
                file.seek(position)
                _write_tensor(file, data)
            position += len(data)
            yield len(data)
            del tensor, data  # before the next one is read
        file.truncate(position)
        file.flush()
        os.fsync(file.fileno())


def _rename(plan: Plan) -> None:
    try:
        os.replace(plan.part, plan.path)
    except PermissionError as error:
        raise PermissionError(
            f"{plan.path} cannot be replaced, another program has it open (a loaded model keeps "
            f"its file open on Windows): unload it and run again; {plan.part} is finished and "
            "will only be checked"
        ) from error
