"""How the demo speaks: lines with sizes and times, and problems in one sentence."""

from __future__ import annotations

import errno
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fantasyid.weights.progress import in_words, say

NO_SPACE = ("No space left on device", "Errno 28", "not enough space on the disk", "WinError 112")


class Problem(Exception):
    """A stop that the reader can do something about, told in one sentence.

    Args:
        message: what is wrong, where, and what to do.
        code: exit code; 2 for the environment, 1 for a run that failed.
    """

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code


def warn(text: str) -> None:
    """Write one line to the error stream."""
    sys.stdout.flush()
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def folder_size(folder: Path) -> int:
    """Bytes of all files below `folder`; links are not followed."""
    files = (os.path.join(where, name) for where, _, names in os.walk(folder) for name in names)
    return sum(os.lstat(path).st_size for path in files if os.path.lexists(path))


@contextmanager
def step(title: str, folder: Path | None = None) -> Iterator[None]:
    """Announce a step, and when it is done say how long it took and how much is in `folder`."""
    say(f"{title} ...")
    start = time.monotonic()
    yield
    size = "" if folder is None else f", {in_words(folder_size(folder))}"
    say(f"  done in {time.monotonic() - start:.1f} s{size}")


def exit_code(work: Callable[[], int], verbose: bool) -> int:
    """Do the work, and turn every expected failure into one sentence and an exit code.

    Args:
        work: gives the exit code of a success.
        verbose: show where a failure came from.
    """
    try:
        return work()
    except KeyboardInterrupt:
        warn("quickstart: stopped on request; no server is left running.")
        return 130
    except (Problem, OSError) as error:
        if verbose:
            traceback.print_exc()
        if isinstance(error, Problem):
            warn(f"quickstart: {error}")
            return error.code
        if error.errno == errno.ENOSPC or getattr(error, "winerror", None) == 112:
            warn("quickstart: The disk is full: free some space and run the command again.")
        else:
            where = f": {error.filename}" if error.filename else ""
            warn(f"quickstart: {error.strerror or error}{where}")
        return 2
