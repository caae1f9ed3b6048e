"""How far a long piece of work on files is: told to whoever called, and as lines on a console."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

GB, MB = 1_000_000_000, 1_000_000


@dataclass(frozen=True, slots=True)
class Step:
    """A report of the work."""

    words: str  # what is done now, and to which file
    done: int = 0  # bytes of work
    total: int = 0  # in all, 0 where nobody knows


# Called often; an exception that it raises stops the work, which can be resumed.
Report = Callable[[Step], object]


class Lines:
    """Writes a line whenever so many bytes are done, and whenever other work begins."""

    def __init__(self, every: int) -> None:
        self._every, self._last = every, ("", -1)

    def __call__(self, step: Step) -> None:
        """Take a report."""
        now = (step.words, step.done // self._every)
        if now != self._last:
            self._last = now
            size = f"{in_words(step.done):>10} of {in_words(step.total)}  " if step.total else ""
            say(f"{size}{step.words}")


def say(line: str = "") -> None:
    """Write a line at once, also when the output is a file."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def in_words(size: int) -> str:
    """A number of bytes for people."""
    for unit, name in ((GB, "GB"), (MB, "MB"), (1000, "kB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} bytes"
