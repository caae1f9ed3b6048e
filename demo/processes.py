"""Processes: one that takes our place, and requests to end that unwind every `finally`."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

ENDS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
)


def hand_over(command: list[str], folder: Path) -> int:
    """Let a command take the place of this process; where that cannot be, wait for its end."""
    os.chdir(folder)
    if os.name != "nt":
        os.execv(command[0], command)
    with subprocess.Popen(command) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # the console told the command too, and it cleans up
                continue


def interrupt(number: int, frame: FrameType | None) -> None:
    """Turn a request to end into the exception that unwinds every `finally`."""
    del frame
    raise KeyboardInterrupt(signal.Signals(number).name)


def listen_for_end() -> None:
    """Let Ctrl-C, a closed terminal and a plain kill all unwind the demo."""
    for number in ENDS:
        # A shell starts background jobs with Ctrl-C ignored; `kill -INT` is meant all the same.
        # What nohup asked for, to outlive the terminal, is kept.
        if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)


@contextmanager
def delayed_interrupts() -> Iterator[None]:
    """Put off Ctrl-C and its kin to the end of the block, where no process must be forgotten."""
    came: list[int] = []
    # A Python handler rather than "ignore", which a child started in the block would inherit.
    before = {number: signal.getsignal(number) for number in ENDS}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt(signal.Signals(came[0]).name)
