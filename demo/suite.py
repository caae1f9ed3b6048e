"""`python quickstart.py test`: style, types and all tests, in the project's own environment."""

from __future__ import annotations

import argparse
import os
import subprocess
import time
from pathlib import Path

from .comfyui import check_comfyui, describe_host, fetch_comfyui
from .console import say
from .environment import PATIENT, ensure_venv


def split_arguments(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Our own options and those for pytest."""
    options = argparse.ArgumentParser(prog="quickstart.py test", add_help=False, allow_abbrev=False)
    options.add_argument("--comfyui", type=Path, metavar="DIR")
    return options.parse_known_args(arguments)


def run_suite(root: Path, arguments: list[str]) -> int:
    """Run every check, also after one that failed.

    Returns:
        The exit code of the first that failed, 0 where none did.
    """
    options, for_pytest = split_arguments(arguments)
    start = time.monotonic()
    python = ensure_venv(root, tests=True, verbose=False)
    if options.comfyui is None:
        comfyui = fetch_comfyui(python.path, root, verbose=False)
    else:
        comfyui = options.comfyui.expanduser().resolve()
        check_comfyui(comfyui)
    describe_host(comfyui, python)
    settings = {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1", "PYTHONUNBUFFERED": "1"}
    threads = {"OMP_NUM_THREADS": "1"}  # of each of the two processes that run the tests
    environment = PATIENT | threads | os.environ | settings | {"COMFYUI_PATH": str(comfyui)}
    took: list[tuple[str, int, float]] = []
    checks = (
        ("ruff check", ("ruff", "check", ".")),
        ("ruff format", ("ruff", "format", "--check", ".")),
        # Without being told, pyright looks for packages in whatever Python is first on the path.
        ("pyright", ("pyright", "--pythonpath", str(python.path))),
        ("pytest", ("pytest", *for_pytest)),
    )
    for name, module in checks:
        say(f"\n== {name}")
        begun = time.monotonic()
        # ComfyUI is no package: pyright finds its modules as its own start does, on the path.
        host = {"PYTHONPATH": str(comfyui)} if name == "pyright" else {}
        command = [str(python.path), "-m", *module]
        done = subprocess.run(command, cwd=root, env=environment | host)
        took.append((name, done.returncode, time.monotonic() - begun))
    say()
    for name, code, seconds in took:
        say(f"{name:12} {seconds:7.1f} s  {'passed' if code == 0 else f'failed ({code})'}")
    say(f"{'all':12} {time.monotonic() - start:7.1f} s")
    return next((code for _, code, _ in took if code != 0), 0)
