"""The command line: read it, go through the steps in order, say how it ended."""

from __future__ import annotations

import argparse
import errno
import json
import time
import traceback
from pathlib import Path

from .base import given_photo, place_photo, prepare_base
from .console import Problem, say, step, warn
from .environment import RUN_ONLY, Interpreter, check_disk, ensure_venv
from .host import describe_host, fetch_comfyui, users_comfyui, users_python
from .models import Weights, real_weights, tiny_weights
from .processes import listen_for_end
from .results import collect, show
from .server import Server, choose_port
from .submit import check_registered, run_prompt
from .suite import run_suite
from .workflow import WORKFLOW, Wish, adapt, load_workflow

ROOT = Path(__file__).resolve().parent.parent


def parser() -> argparse.ArgumentParser:
    """The options of `python quickstart.py`."""
    options = argparse.ArgumentParser(
        prog="quickstart.py",
        description="From a face photo to a video, inside the real ComfyUI, on this machine. "
        "Everything is put into .venv and .host beside this file; a second run needs no network.",
        epilog="`quickstart.py test [--comfyui DIR] [pytest options]` runs the checks and tests.",
    )
    add = options.add_argument
    add("--comfyui", type=Path, metavar="DIR", help="use this ComfyUI (0.30.0 or newer)")
    add("--python", type=Path, metavar="EXE", help="the Python of that ComfyUI")
    add("--models", type=Path, metavar="DIR", help="models folder with the real weights")
    add("--photo", type=Path, metavar="FILE", help="face photo (default: a public-domain one)")
    add("--prompt", metavar="TEXT", help="what happens in the video")
    add("--output", type=Path, metavar="DIR", default=ROOT / "quickstart_output",
        help="where the results go (default: quickstart_output)")  # fmt: skip
    add("--port", type=int, metavar="N", help="port of the server (default: a free one)")
    add("--seed", type=int, metavar="N", help="seed of the noise")
    add("--verbose", action="store_true", help="show all that pip says, and full errors")
    return options


def set_up(options: argparse.Namespace) -> tuple[Interpreter, Path]:
    """The interpreter and the ComfyUI folder of this run."""
    if options.comfyui is not None:
        comfyui = users_comfyui(options.comfyui)
        return users_python(comfyui, options.python), comfyui
    if options.python is not None:
        raise Problem("--python names the Python of your own ComfyUI: give --comfyui with it.")
    python = ensure_venv(ROOT, tests=False, verbose=options.verbose)
    return python, fetch_comfyui(python.path, ROOT, options.verbose)


def server_command(
    python: Interpreter, comfyui: Path, base: Path, port: int, weights: Weights
) -> list[str]:
    """How the server is started: apart from any other ComfyUI, and closed to the outside."""
    command = [str(python.path), str(comfyui / "main.py")]
    command += [] if python.cuda else ["--cpu"]
    command += ["--listen", "127.0.0.1", "--port", str(port), "--disable-auto-launch"]
    command += ["--disable-api-nodes", "--base-directory", str(base)]
    command += ["--database-url", "sqlite:///:memory:", *weights.server_options]
    return command


def quickstart(options: argparse.Namespace) -> int:
    """All steps from nothing to the video; the last line printed is one JSON object."""
    start = time.monotonic()
    port = choose_port(options.port)  # a taken port is told before anything is installed
    host = ROOT / ".host"
    host.mkdir(exist_ok=True)
    # The same for a photo or a model file that is not there.
    photo = None if options.photo is None else given_photo(options.photo)
    real = None if options.models is None else real_weights(options.models, host)
    python, comfyui = set_up(options)
    check_disk(ROOT, RUN_ONLY)
    describe_host(comfyui, python)
    base = prepare_base(ROOT)
    weights = real or tiny_weights(python.path, ROOT, base / "models")
    if weights.tiny:
        say("Weights: tiny and random, so the video will be noise, not a likeness "
            "(--models DIR takes the real ones).")  # fmt: skip
    if not weights.tiny and not python.cuda:
        say("No CUDA device is seen: with the real weights this takes days on a CPU.")
    image = place_photo(python.path, base, photo)
    wish = Wish(weights, image, options.prompt, options.seed)
    graph = adapt(load_workflow(ROOT / WORKFLOW), wish)
    command = server_command(python, comfyui, base, port, weights)
    with Server(command, comfyui, port, host / "server.log") as server:
        say(f"  the server answers at http://127.0.0.1:{port} after "
            f"{time.monotonic() - server.started:.1f} s, log in {server.log}")  # fmt: skip
        check_registered(server, graph)
        say(f"Running {WORKFLOW.as_posix()}, {len(graph)} nodes:")
        sent = time.monotonic()
        outputs = run_prompt(server, graph)
        seconds = time.monotonic() - sent
        say(f"  done in {seconds:.1f} s")
    with step("Server stopped. Collecting the results"):
        output = options.output.expanduser().resolve()
        result = collect(python.path, outputs, base, output, weights.tiny)
    show(result)
    say(f"All in {time.monotonic() - start:.1f} s.")
    last = {"seconds": round(seconds, 1), "weights": weights.kind}
    order = ("video", "frames", "size", "seconds", "weights", "contact_sheet", "mesh")
    say(json.dumps({key: {**result, **last}[key] for key in order}))
    return 0


def run(arguments: list[str]) -> int:
    """Either command; problems come out as exceptions."""
    if arguments[:1] == ["test"]:
        return run_suite(ROOT, arguments[1:])
    return quickstart(parser().parse_args(arguments))


def main(arguments: list[str]) -> int:
    """Run and turn every expected failure into one sentence and an exit code."""
    listen_for_end()
    try:
        return run(arguments)
    except Problem as problem:
        if "--verbose" in arguments:
            traceback.print_exc()
        warn(f"quickstart: {problem}")
        return problem.code
    except KeyboardInterrupt:
        warn("quickstart: stopped on request; no server is left running.")
        return 130
    except OSError as error:
        if error.errno == errno.ENOSPC or getattr(error, "winerror", None) == 112:
            warn("quickstart: The disk is full: free some space and run the command again.")
        else:
            if "--verbose" in arguments:
                traceback.print_exc()
            warn(f"quickstart: {error.strerror or error}: {error.filename or 'no file named'}")
        return 2
