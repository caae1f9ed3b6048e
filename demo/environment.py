"""The project's own `.venv`: made once, known by a stamp, never touched again while it fits."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .console import Problem, folder_size, say, size_text, step
from .processes import stream

DEMO = Path(__file__).resolve().parent
WITHOUT_DEPENDENCIES = DEMO / "requirements-host-nodeps.txt"
HOST_LIST = DEMO / "requirements-host.txt"
TEST_LIST = DEMO / "requirements-test.txt"

# Free space asked for before anything is downloaded, in bytes.
FULL_INSTALL = 3_000_000_000
SMALL_INSTALL = 600_000_000
RUN_ONLY = 200_000_000

BROKEN_FILE = ("DO NOT MATCH THE HASHES", "BadZipFile", "File is not a zip file", "is invalid.")
NO_SPACE = ("No space left on device", "Errno 28", "not enough space on the disk", "WinError 112")
NO_NETWORK = (
    "Failed to establish a new connection",
    "Temporary failure in name resolution",
    "Name or service not known",
    "nodename nor servname",
    "getaddrinfo failed",
    "NewConnectionError",
    "NameResolutionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "Read timed out",
    "IncompleteRead",
    "Connection aborted",
    "Connection refused",
    "Connection reset",
    "Network is unreachable",
    "ProxyError",
    "Tunnel connection failed",
    "Max retries exceeded",
    "SSLError",
)


@dataclass(frozen=True)
class Interpreter:
    """A Python that has been asked what it can do.

    Args:
        path: the executable.
        version: of Python, such as "3.11.7".
        torch: version of torch, "" where it does not import.
        cuda: whether torch sees a CUDA device.
        missing: importable names that it lacks.
    """

    path: Path
    version: str
    torch: str
    cuda: bool
    missing: tuple[str, ...]


def python_of(venv: Path) -> Path:
    """Where a virtual environment keeps its interpreter on this system."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def inspect_python(path: Path) -> Interpreter | None:
    """Ask an interpreter for its versions; None where it does not run."""
    try:
        answer = subprocess.run(
            [str(path), str(DEMO / "probe.py")], capture_output=True, text=True, timeout=300
        )
        found = json.loads(answer.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError):
        return None
    return Interpreter(
        path, found["python"], found["torch"], found["cuda"], tuple(found["missing"])
    )


def lists_hash(lists: tuple[Path, ...]) -> str:
    """One SHA-256 over the requirement lists."""
    digest = hashlib.sha256()
    for path in lists:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def stamp_of(lists: tuple[Path, ...], venv: Path) -> dict[str, str]:
    """What the stamp must say: the lists and the environment's own Python version."""
    version = ""
    config = venv / "pyvenv.cfg"
    if config.is_file():
        for line in config.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition("=")
            if key.strip() in ("version", "version_info"):
                version = value.strip()
    return {"lists": lists_hash(lists), "python": version}


def is_stamped(venv: Path, name: str, lists: tuple[Path, ...]) -> bool:
    """Whether the lists were installed completely before."""
    try:
        written = json.loads((venv / f"quickstart-{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return written == stamp_of(lists, venv)


def write_stamp(venv: Path, name: str, lists: tuple[Path, ...]) -> None:
    """Remember that the lists are installed; written last, so that a broken install has none."""
    text = json.dumps(stamp_of(lists, venv))
    (venv / f"quickstart-{name}.json").write_text(text, encoding="utf-8")


def check_disk(folder: Path, need: int) -> None:
    """Raise a Problem where fewer than `need` bytes are free on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if free < need:
        raise Problem(
            f"There is not enough disk space: {size_text(need)} are needed in {folder} and "
            f"{size_text(free)} are free; free some space and run the command again."
        )


def pip_problem(output: str, what: str, log: Path) -> Problem:
    """Say in one sentence why pip could not bring `what`.

    Args:
        output: all that pip wrote.
        what: the thing that was being fetched, in words.
        log: where the output was kept.
    """
    kept = f"(details: {log})"
    if any(mark in output for mark in NO_SPACE):
        return Problem(
            f"The disk is full: there was no space left while fetching {what}, in the project "
            f"folder or in {tempfile.gettempdir()}; free some and run the command again {kept}."
        )
    if any(mark in output for mark in BROKEN_FILE):
        return Problem(
            f"A download was broken: a file of {what} is damaged; run the command again, "
            f"after `pip cache purge` if it stays so {kept}."
        )
    if any(mark in output for mark in NO_NETWORK):
        return Problem(
            f"The package index could not be reached while fetching {what}: check the network "
            f"or pip's index and proxy settings, then run the command again {kept}."
        )
    errors = [line for line in output.splitlines() if line.startswith(("ERROR", "error:"))]
    reason = errors[-1].partition(":")[2].strip() if errors else "pip stopped without a reason"
    if "No matching distribution found" in output:
        reason += f"; another Python may have it, this one is {sys.version.split()[0]}"
    return Problem(f"pip could not fetch {what}: {reason} {kept}.")


def run_pip(python: Path, arguments: list[str], what: str, log: Path, verbose: bool) -> None:
    """Run pip, show what it downloads, and turn its failure into one sentence."""
    command = [str(python), "-m", "pip", *arguments]
    command += ["--progress-bar", "off", "--disable-pip-version-check", "--no-input"]

    def show(line: str) -> None:
        text = line.strip()
        download = re.match(r"Downloading ([^-]+)-([^-]+)\S* \((\S+ [MG]B)\)", text)
        if verbose:
            say(f"  {text}")
        elif download:
            say("  downloading {} {}, {}".format(*download.groups()))
        elif text.startswith("Installing collected"):
            say("  installing")

    code, output = stream(command, show, log)
    if code != 0:
        raise pip_problem(output, what, log)


def make_venv(venv: Path) -> None:
    """Create the environment with the venv module of the running Python."""
    if any(importlib.util.find_spec(name) is None for name in ("venv", "ensurepip")):
        raise Problem(
            f"This Python ({sys.executable}) cannot make virtual environments because its venv "
            f"or ensurepip module is missing: install it (on Debian and Ubuntu the package "
            f"python3-venv) and run the command again."
        )
    shutil.rmtree(venv, ignore_errors=True)
    with step(f"Creating {venv.name} with Python {sys.version.split()[0]}", venv):
        made = subprocess.run(
            [sys.executable, "-m", "venv", str(venv)], capture_output=True, text=True
        )
    if made.returncode != 0:
        shutil.rmtree(venv, ignore_errors=True)
        reason = (made.stderr or made.stdout).strip().splitlines() or ["no reason given"]
        raise Problem(f"The virtual environment {venv} could not be made: {reason[-1]}")


def ensure_venv(root: Path, tests: bool, verbose: bool) -> Interpreter:
    """Bring `.venv` to the state that the lists describe, without any network where it is so.

    Args:
        root: the project folder.
        tests: whether the packages of the test suite are wanted too.
        verbose: show all that pip says.
    """
    venv, python = root / ".venv", python_of(root / ".venv")
    logs = root / ".host"
    logs.mkdir(exist_ok=True)
    host_lists = (WITHOUT_DEPENDENCIES, HOST_LIST)
    found = inspect_python(python) if is_stamped(venv, "host", host_lists) else None
    if found is None or found.missing or not found.torch:
        check_disk(root, max(FULL_INSTALL - (folder_size(venv) if venv.is_dir() else 0), RUN_ONLY))
        if inspect_python(python) is None:
            make_venv(venv)
        log = logs / "pip-host.log"
        with step("Installing what ComfyUI needs (about 2 GB on disk, some minutes)", venv):
            extras = ["install", "--no-deps", "-r", str(WITHOUT_DEPENDENCIES)]
            run_pip(python, extras, "torchvision and torchaudio", log, verbose)
            run_pip(python, ["install", "-r", str(HOST_LIST)], "ComfyUI's packages", log, verbose)
            mend_cpu_extras(python)
        write_stamp(venv, "host", host_lists)
        found = inspect_python(python)
        if found is None or found.missing or not found.torch:
            lacks = "it does not run" if found is None else f"it lacks {', '.join(found.missing)}"
            raise Problem(
                f"{venv} is not usable after the installation, {lacks}: delete the folder and "
                f"run the command again (details: {log})."
            )
    if tests and not is_stamped(venv, "test", (TEST_LIST,)):
        check_disk(root, SMALL_INSTALL)
        log = logs / "pip-test.log"
        with step("Installing the test tools", venv):
            run_pip(python, ["install", "-r", str(TEST_LIST)], "the test tools", log, verbose)
        write_stamp(venv, "test", (TEST_LIST,))
    return found


def mend_cpu_extras(python: Path) -> None:
    """Make torchvision and torchaudio importable beside a CPU build of torch."""
    mended = subprocess.run(
        [str(python), str(DEMO / "cpu_extras.py")], capture_output=True, text=True
    )
    if mended.returncode != 0:
        reason = mended.stderr.strip().splitlines() or ["no reason given"]
        raise Problem(f"torchvision or torchaudio does not import: {reason[-1]}")
    for line in mended.stdout.splitlines():
        say(f"  {line}")
