"""The ComfyUI server of the demo: on a free loopback port, and gone when the demo ends."""

from __future__ import annotations

import atexit
import errno
import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from .console import Problem
from .environment import NO_SPACE
from .processes import start_group, stop_group, undisturbed

START_TIMEOUT_S = 300.0

# Without proxies: the server is on this machine whatever the environment says.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


def choose_port(wanted: int | None) -> int:
    """A free loopback port: the wanted one, or any.

    Raises:
        Problem: the wanted port is taken or cannot be had.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            probe.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_EXCLUSIVEADDRUSE"), 1)  # noqa: B009
        else:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted or 0))
        except OverflowError:
            raise Problem(f"Port {wanted} does not exist: choose one up to 65535.") from None
        except OSError as error:
            reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error})"
            raise Problem(
                f"Port {wanted} {reason}: choose another with --port, or leave --port away for a "
                "free one."
            ) from None
        return int(probe.getsockname()[1])


def last_lines(log: Path, count: int = 12) -> str:
    """The end of the server's log, for an error message."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(f"    {line}" for line in lines[-count:])


class Server:
    """A context manager that starts ComfyUI, waits until it answers, and stops it.

    Args:
        command: how it is started.
        folder: working directory.
        port: where it will listen.
        log: file that receives all it writes.
    """

    def __init__(self, command: list[str], folder: Path, port: int, log: Path) -> None:
        self.command, self.folder, self.port, self.log = command, folder, port, log
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0

    def __enter__(self) -> Server:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.started = time.monotonic()
        try:
            with undisturbed():
                self.process = start_group(self.command, self.folder, self.log)
                atexit.register(self.stop)
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server and everything it started; a second call does nothing."""
        if self.process is not None:
            with undisturbed():
                stop_group(self.process)
                self.process = None
                atexit.unregister(self.stop)

    def check_alive(self) -> None:
        """Raise a Problem with the end of the log where the server has ended."""
        if self.process is None or self.process.poll() is None:
            return
        end = last_lines(self.log)
        if any(mark in end for mark in NO_SPACE):
            raise Problem("The disk is full: the ComfyUI server ended for lack of space.")
        raise Problem(
            f"The ComfyUI server ended by itself with code {self.process.returncode}; the last "
            f"lines of {self.log}:\n{end}"
        )

    def _wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            self.check_alive()
            try:
                self.request("/system_stats", timeout_s=5)
                return
            except (OSError, ValueError):
                time.sleep(0.25)
        raise Problem(
            f"The ComfyUI server did not answer within {START_TIMEOUT_S:.0f} s; the last lines "
            f"of {self.log}:\n{last_lines(self.log)}"
        )

    def request(self, path: str, body: Any = None, timeout_s: float = 60) -> Any:
        """GET a path, or POST a JSON body to it, and read the JSON that comes back.

        Raises:
            OSError: no connection, or an HTTP error other than 400, whose JSON is returned.
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        url = f"http://127.0.0.1:{self.port}{path}"
        message = urllib.request.Request(url, data=data, headers=headers)
        try:
            with _open(message, timeout=timeout_s) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            if error.code == 400:
                return json.loads(error.read())
            raise
