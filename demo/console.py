"""How the demo speaks: lines with sizes and times, and problems in one sentence."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Problem(Exception):
    """A stop that the reader can do something about, told in one sentence.

    Args:
        message: what is wrong, where, and what to do.
        code: exit code; 2 for the environment, 1 for a run that failed.
    """

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code


def say(text: str = "") -> None:
    """Write one line at once, also when the output is a file."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def warn(text: str) -> None:
    """Write one line to the error stream."""
    sys.stdout.flush()
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def size_text(size: float) -> str:
    """A byte count in decimal units, as disks and downloads are counted."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


def folder_size(folder: Path) -> int:
    """Bytes of all files below `folder`; links are not followed."""
    total = 0
    for directory, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(directory, name)).st_size
            except OSError:
                continue
    return total


@contextmanager
def step(title: str, folder: Path | None = None) -> Iterator[None]:
    """Announce a step, and when it is done say how long it took and how much is in `folder`."""
    say(f"{title} ...")
    start = time.monotonic()
    yield
    took = f"{time.monotonic() - start:.1f} s"
    size = f", {size_text(folder_size(folder))}" if folder is not None else ""
    say(f"  done in {took}{size}")
