"""The command line: read it, make the environment, and go on inside it."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from .checks import check_disk, check_photo, choose_port
from .comfyui import check_comfyui, describe_host, fetch_comfyui, users_python
from .console import Problem, exit_code
from .environment import RUN_ONLY, Interpreter, ensure_venv
from .models import find_real
from .processes import hand_over, listen_for_end
from .suite import run_suite

ROOT = Path(__file__).resolve().parent.parent


def place(text: str) -> Path:
    """A file or folder that the user names, wherever the command goes on."""
    return Path(text).expanduser().resolve()


def program(text: str) -> Path:
    """The same for an interpreter, whose links are kept: by them it finds its environment."""
    return Path(os.path.abspath(Path(text).expanduser()))


def parser() -> argparse.ArgumentParser:
    """The options of `python quickstart.py`, which `python -m demo` takes too."""
    options = argparse.ArgumentParser(
        prog="quickstart.py",
        description="From a face photo to a video, inside the real ComfyUI, on this machine: by "
        "default with the bundled mini model, which knows drawn people. "
        "Everything is put into .venv and .host beside this file; a second run needs no network.",
        epilog="`quickstart.py test [--comfyui DIR] [pytest options]` runs the checks and tests.",
    )
    add = options.add_argument
    add("--comfyui", type=place, metavar="DIR", help="use this ComfyUI (0.30.0 or newer)")
    add("--python", type=program, metavar="EXE", help="the Python of that ComfyUI")
    add("--models", type=place, metavar="DIR", help="models folder with the real weights")
    add(
        "--photo",
        type=place,
        metavar="FILE",
        help="face photo (default: drawn people; with --models a public-domain one)",
    )
    add("--prompt", metavar="TEXT", help="what happens in the video")
    add("--output", type=place, metavar="DIR", default=ROOT / "quickstart_output",
        help="where the results go (default: quickstart_output)")  # fmt: skip
    add("--port", type=int, metavar="N", help="port of the server (default: a free one)")
    add("--seed", type=int, metavar="N", help="seed of the noise")
    add("--verbose", action="store_true", help="show all that pip says, and full errors")
    add("--began", type=float, default=time.time(), help=argparse.SUPPRESS)  # first half's start
    return options


def arguments_of(options: argparse.Namespace) -> list[str]:
    """The arguments that read back as these options."""
    return [
        f"--{name}" if value is True else f"--{name}={value}"
        for name, value in vars(options).items()
        if value is not None and value is not False
    ]


def set_up(options: argparse.Namespace) -> tuple[Interpreter, Path]:
    """The interpreter and the ComfyUI folder of this run."""
    if options.comfyui is not None:
        check_comfyui(options.comfyui)
        return users_python(options.comfyui, options.python), options.comfyui
    if options.python is not None:
        raise Problem("--python names the Python of your own ComfyUI: give --comfyui with it.")
    python = ensure_venv(ROOT, tests=False, verbose=options.verbose)
    return python, fetch_comfyui(python.path, ROOT, options.verbose)


def quickstart(options: argparse.Namespace) -> int:
    """The first half: what is wrong with the options, then the environment, then the second."""
    choose_port(options.port)
    if options.photo is not None:
        check_photo(options.photo)
    if options.models is not None:
        find_real(options.models)
    python, options.comfyui = set_up(options)
    options.python = None
    check_disk(ROOT, RUN_ONLY)
    describe_host(options.comfyui, python)
    return hand_over([str(python.path), "-m", "demo", *arguments_of(options)], ROOT)


def main(arguments: list[str]) -> int:
    """Either command; every expected failure is one sentence and an exit code."""
    listen_for_end()
    if arguments[:1] == ["test"]:
        return exit_code(lambda: run_suite(ROOT, arguments[1:]), "--verbose" in arguments)
    options = parser().parse_args(arguments)
    return exit_code(lambda: quickstart(options), options.verbose)
