"""Child processes that never outlive the demo."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


def stream(
    command: list[str],
    show: Callable[[str], None],
    log: Path,
    environment: dict[str, str] | None = None,
) -> tuple[int, str]:
    """Run a command to its end, pass on its lines, and keep them in a file.

    Returns:
        The exit code and all that was written to both of its streams.
    """
    lines: list[str] = []
    with (
        log.open("a", encoding="utf-8") as kept,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        kept.write(f"$ {' '.join(command)}\n")
        try:
            for line in process.stdout or ():
                lines.append(line)
                kept.write(line)
                kept.flush()
                show(line)
        except BaseException:
            process.kill()
            raise
    return process.returncode, "".join(lines)


def start_group(command: list[str], folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a process in a group of its own: a Ctrl-C in the terminal reaches only the demo."""
    environment = dict(os.environ, PYTHONUNBUFFERED="1", PYTHONIOENCODING="utf-8")
    with log.open("wb") as output:
        if os.name == "nt":
            flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
            return subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                creationflags=flags,
            )
        return subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def signal_group(process: subprocess.Popen[bytes], kill: bool) -> None:
    """Ask a process and all its children to end, or end them."""
    if os.name == "nt":
        if kill:
            subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True)
        else:
            process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM))
        return
    try:
        os.killpg(process.pid, signal.SIGKILL if kill else signal.SIGTERM)
    except ProcessLookupError:
        return


def stop_group(process: subprocess.Popen[bytes], patience_s: float = 10.0) -> None:
    """Stop a process group: politely, then after `patience_s` by force. Safe to call twice."""
    if process.poll() is None:
        signal_group(process, kill=False)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            signal_group(process, kill=True)
            process.wait(patience_s)
    if os.name != "nt":
        signal_group(process, kill=True)  # children that outlived their parent


ENDS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Turn a request to end into the exception that unwinds every `finally`."""
    del frame
    raise KeyboardInterrupt(signal.Signals(number).name)


def in_main_thread() -> bool:
    """Whether signal handlers may be set here."""
    return threading.current_thread() is threading.main_thread()


def listen_for_end() -> None:
    """Let Ctrl-C, a closed terminal and a plain kill all unwind the demo."""
    for number in ENDS if in_main_thread() else ():
        # A shell starts background jobs with Ctrl-C ignored; `kill -INT` is meant all the same.
        # nohup's wish to outlive the terminal is kept.
        if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put off Ctrl-C and its kin to the end of the block, where no process must be forgotten."""
    if not in_main_thread():
        yield
        return
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
