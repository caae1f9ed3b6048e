"""Writes a safetensors file tensor by tensor, so that it can be stopped at any point.

The bytes go into `NAME.part`, header first. The header has a place for the SHA-256 of every
tensor, zeros at first; a tensor's hash is entered after its bytes, so what is entered is done.
At the end every tensor is read back and compared with its hash, and only a file in which all agree
takes the final name, in one step.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..header import LENGTH_BYTES
from .plan import DIGITS, MARK, UNDONE, Plan
from .sources import CHUNK_BYTES

SPARE_BYTES = 16 * 1024**2  # left free on the disk beside the file itself
FSYNC_BYTES = 1024**3


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
    finished = [not overwrite and plan.is_finished() for plan in plans]
    todo = [plan for plan, is_there in zip(plans, finished, strict=True) if not is_there]
    for plan in todo:
        _check_target(plan, overwrite)
    _check_space(todo)
    progress = _Progress(report, 2 * sum(plan.data_bytes for plan in todo))
    for plan in todo:
        _write(plan, progress)
        _check_target(plan, overwrite)
        _rename(plan)
    return [
        Written(plan.path, plan.num_bytes, len(plan.tensors), is_there)
        for plan, is_there in zip(plans, finished, strict=True)
    ]


class _Progress:
    def __init__(self, report: Callable[[Step], None], total: int) -> None:
        self.report, self.total, self.done = report, total, 0

    def advance(self, words: str, count: int) -> None:
        self.done = min(self.done + count, self.total)
        self.report(Step(words, self.done, self.total))


def _check_target(plan: Plan, overwrite: bool) -> None:
    if plan.path.exists() and not overwrite:
        raise FileExistsError(
            f"{plan.path} is there already and is something else than this conversion would "
            "write: choose another name, or ask for it to be overwritten (--overwrite)"
        )
    if plan.part.is_file() and not overwrite:
        with plan.part.open("rb") as file:
            begun = file.read(LENGTH_BYTES + len(MARK))[LENGTH_BYTES:]
        ours = MARK.startswith(begun)  # it may have been stopped inside the header
        if not ours:
            raise FileExistsError(
                f"{plan.part} is there and was not begun by this converter: move it away, or ask "
                "for it to be overwritten (--overwrite)"
            )


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


def _write(plan: Plan, progress: _Progress) -> None:
    """Fill the `.part` file and check it; twice, for a tensor that a power cut has lost."""
    hashes = plan.entered(plan.part)
    if hashes is None:
        hashes = [UNDONE] * len(plan.tensors)
        plan.part.write_bytes(plan.header)
    # No memory map: Windows would refuse to rename a mapped file.
    with plan.part.open("r+b", buffering=0) as file:
        for _ in range(2):
            _write_tensors(plan, file, hashes, progress)
            os.fsync(file.fileno())
            bad = _check_tensors(plan, file, hashes, progress)
            if not bad:
                return
            for number in bad:
                hashes[number] = UNDONE
                _enter(plan, file, number, UNDONE)
    names = list(plan.tensors)
    raise ValueError(
        f"{plan.part}: the disk gives back other bytes than were written, for "
        f"{', '.join(names[n] for n in bad[:5])}: the disk or its cable may be failing"
    )


def _enter(plan: Plan, file: Any, number: int, digest: bytes) -> None:
    file.seek(plan.hashes_start + DIGITS * number)
    file.write(digest)


def _write_tensors(plan: Plan, file: Any, hashes: list[bytes], progress: _Progress) -> None:
    words, unsynced = f"writing {plan.path.name}", 0
    for number, _, stored, position in plan.places():
        if hashes[number] != UNDONE:
            progress.advance(words, stored.num_bytes)
            continue
        file.seek(position)
        digest = hashlib.sha256()
        for chunk in stored.chunks():
            _write_all(file, chunk)
            digest.update(chunk)
            progress.advance(words, len(chunk))
        unsynced += stored.num_bytes
        if unsynced > FSYNC_BYTES:
            os.fsync(file.fileno())
            unsynced = 0
        hashes[number] = digest.hexdigest().encode()
        _enter(plan, file, number, hashes[number])


def _write_all(file: Any, chunk: memoryview) -> None:
    written = 0
    while written < len(chunk):
        written += file.write(chunk[written:])


def _check_tensors(plan: Plan, file: Any, hashes: list[bytes], progress: _Progress) -> list[int]:
    """The numbers of tensors whose bytes on the disk do not have the hash that was entered."""
    if hasattr(os, "posix_fadvise"):  # read the disk, not the memory that was written from
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    words, bad = f"checking {plan.path.name}", []
    buffer = memoryview(bytearray(CHUNK_BYTES))
    for number, _, stored, position in plan.places():
        file.seek(position)
        digest, left = hashlib.sha256(), stored.num_bytes
        while left and (count := file.readinto(buffer[: min(left, len(buffer))])):
            digest.update(buffer[:count])
            progress.advance(words, count)
            left -= count
        if left or digest.hexdigest().encode() != hashes[number]:
            bad.append(number)
    return bad


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
