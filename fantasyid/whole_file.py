"""Writes files that are there whole or not at all, and never in the place of another one."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import psutil
from filelock import FileLock, Timeout

# Of a file that is being written: `MACHINE-PROCESS-....fantasyid-part`. One whose process is gone
# is removed by the next save; of another machine's nobody knows, and a living one needs seconds.
PART = ".fantasyid-part"
ABANDONED_SECONDS = 3600.0
_MACHINE = f"{uuid.getnode():x}"


def write_whole(path: Path, write: Callable[[BinaryIO], object], *, replace: bool = True) -> None:
    """Write a file so that it is there whole or not at all.

    Args:
        path: Of the file; missing folders are made.
        replace: Whether an older file may be replaced.

    Raises:
        FileExistsError: There is a file, and it may not be replaced.
        OSError: The disk is full or refuses; names the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _clean(path.parent)
    half = path.with_name(f"{_MACHINE}-{os.getpid()}-{uuid.uuid4().hex}{PART}")
    try:
        with half.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(half, path)
        else:
            _take(half, path)
    except FileExistsError:
        raise
    except OSError as error:
        raise OSError(
            error.errno, f"{path} cannot be written: {error.strerror or error}"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            half.unlink(missing_ok=True)


def write_numbered(folder: Path, stem: str, number: int, contents: Mapping[str, bytes]) -> Path:
    """Write files of one name and different endings under the first number that is free.

    Args:
        stem: What stands before the number.
        number: The first that is tried.
        contents: Ending to content; the first one is the file by which the number is taken.

    Returns:
        The path of the first file.
    """
    while True:
        paths = [folder / f"{stem}_{number:05}_{ending}" for ending in contents]
        if not any(path.exists() for path in paths):
            try:
                for path, content in zip(paths, contents.values(), strict=True):
                    write_whole(path, lambda file, c=content: file.write(c), replace=False)
                return paths[0]
            except FileExistsError:  # another server was quicker
                pass
        number += 1


@contextlib.contextmanager
def locked(path: Path, refusal: OSError | ValueError) -> Iterator[None]:
    """Keep every other process out; a killed one leaves nothing locked.

    Args:
        path: A file for the lock alone; it goes with the lock.
        refusal: Raised where another process is inside.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise refusal from None
    except NotImplementedError:  # a file system without locks must not stop anybody
        pass
    try:
        yield
    finally:
        lock.release()
        with contextlib.suppress(OSError):  # another process may have it by now
            path.unlink(missing_ok=True)


def _take(half: Path, path: Path) -> None:
    """Give a file its name, unless there is one."""
    if os.name == "nt":
        half.rename(path)  # refuses there, in one step
        return
    try:
        path.hardlink_to(half)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: take the name first, then fill it
        with path.open("xb"):
            pass
        os.replace(half, path)


def _clean(folder: Path) -> None:
    """Remove what killed programs left."""
    for half in folder.glob(f"*{PART}"):
        with contextlib.suppress(OSError):
            if _is_ours_and_dead(half) or time.time() - half.stat().st_mtime > ABANDONED_SECONDS:
                half.unlink()


def _is_ours_and_dead(half: Path) -> bool:
    """Whether the process of this machine that wrote a part is gone."""
    machine, _, rest = half.name.partition("-")
    process = rest.partition("-")[0]
    return machine == _MACHINE and process.isdigit() and not psutil.pid_exists(int(process))
