"""The ComfyUI server of the demo: on a free loopback port, and gone when the demo ends."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from fantasyid.evaluation.answers import HostError
from fantasyid.evaluation.client import Host

from .checks import choose_port
from .console import NO_SPACE, Problem
from .environment import PATIENT
from .processes import delayed_interrupts

START_TIMEOUT_S = 300.0


def stop_tree(process: psutil.Popen, timeout_s: float = 10.0) -> None:
    """End a process and all that it started: politely, then after `timeout_s` by force."""
    try:
        family = [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return
    for force in (False, True):
        for member in family:
            try:
                member.kill() if force else member.terminate()
            except psutil.NoSuchProcess:
                continue
        _, family = psutil.wait_procs(family, timeout_s)


class Server:
    """A context manager that starts ComfyUI, waits until it answers, and stops it.

    It runs in this Python, apart from any other ComfyUI and closed to the outside.

    Args:
        comfyui: the folder of ComfyUI.
        options: of its command line, such as `--cpu`.
        port: where it listens; None for a free one.
        log: file that receives all it writes; None for one in the base directory.

    Attributes:
        host: what talks to it.
    """

    def __init__(
        self,
        comfyui: Path,
        base: Path,
        *options: str,
        port: int | None = None,
        log: Path | None = None,
    ) -> None:
        self.folder, self.log = comfyui, log or base / "server.log"
        port = choose_port(port)
        self.host = Host(f"http://127.0.0.1:{port}")
        self.command = [sys.executable, "main.py", "--listen", "127.0.0.1", "--port", str(port)]
        self.command += ["--base-directory", str(base), "--database-url", "sqlite:///:memory:"]
        self.command += ["--disable-auto-launch", "--disable-api-nodes", *options]
        self.process: psutil.Popen | None = None

    def __enter__(self) -> Server:
        try:
            with delayed_interrupts(), self.log.open("wb") as output:
                self.process = psutil.Popen(
                    self.command,
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={
                        **PATIENT,
                        **os.environ,
                        "PYTHONUNBUFFERED": "1",
                        "PYTHONIOENCODING": "utf-8",
                    },
                )
                atexit.register(self.stop)
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server and everything it started; a second call does nothing."""
        if self.process is not None:
            with delayed_interrupts():
                stop_tree(self.process)
                self.process = None
                atexit.unregister(self.stop)

    def last_lines(self, count: int = 12) -> str:
        """The end of its log, for an error message."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-count:])

    def check_alive(self) -> None:
        """Raise a Problem with the end of the log where the server has ended."""
        if self.process is None or self.process.poll() is None:
            return
        end = self.last_lines()
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
                self.host.request("GET", "/system_stats", timeout=5)
                return
            except HostError:
                time.sleep(0.25)
        raise Problem(
            f"The ComfyUI server did not answer within {START_TIMEOUT_S:.0f} s; the last lines "
            f"of {self.log}:\n{self.last_lines()}"
        )
