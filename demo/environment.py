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
from typing import Any

from .checks import check_disk
from .console import NO_SPACE, Problem, folder_size, say, step

# Threads that have nothing to do sleep instead of spinning. Four videos of the mini model on two
# threads of a core: 37 s become 19 beside another busy program, over 200 become 20 beside one of
# higher priority; alone 15 become 17.
PATIENT = {"OMP_WAIT_POLICY": "PASSIVE"}
DEMO = Path(__file__).resolve().parent
WITHOUT_DEPENDENCIES = DEMO / "requirements-host-nodeps.txt"
HOST_LIST = DEMO / "requirements-host.txt"
TEST_LIST = DEMO / "requirements-test.txt"

# Free space asked for before anything is downloaded, in bytes.
FULL_INSTALL = 3_000_000_000
SMALL_INSTALL = 600_000_000
RUN_ONLY = 200_000_000

# What pip writes -> the sentence for it; the first that fits.
FAILURES = (
    (
        NO_SPACE,
        "The disk is full: there was no space left while fetching {what}, in the project folder "
        "or in {temporary}; free some and run the command again",
    ),
    (
        ("DO NOT MATCH THE HASHES", "BadZipFile", "File is not a zip file", "is invalid."),
        "A download was broken: a file of {what} is damaged; run the command again, after `pip "
        "cache purge` if it stays so",
    ),
    (
        (
            "Failed to establish a new connection", "Temporary failure in name resolution",
            "Name or service not known", "nodename nor servname", "getaddrinfo failed",
            "NewConnectionError", "NameResolutionError", "ConnectTimeoutError",
            "ReadTimeoutError", "Read timed out", "IncompleteRead", "Connection aborted",
            "Connection refused", "Connection reset", "Network is unreachable", "ProxyError",
            "Tunnel connection failed", "Max retries exceeded", "SSLError",
        ),
        "The package index could not be reached while fetching {what}: check the network or "
        "pip's index and proxy settings, then run the command again",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Interpreter:
    """A Python that has been asked what it can do."""

    path: Path
    version: str  # of Python, such as "3.11.7"
    torch: str  # version of torch, "" where it does not import
    cuda: bool  # whether torch sees a CUDA device
    missing: list[str]  # the packages asked for that it lacks


def python_of(venv: Path) -> Path:
    """Where a virtual environment keeps its interpreter on this system."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def last_line(text: str) -> str:
    """Where a failed command says why."""
    return (text.strip().splitlines() or ["no reason given"])[-1]


def inspect_python(path: Path, *packages: str) -> Interpreter | None:
    """Ask an interpreter for its versions; None where it does not run."""
    command = [str(path), str(DEMO / "probe.py"), *packages]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=300)
        return Interpreter(path, **json.loads(last_line(answer.stdout)))
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return None


def packages_of(*lists: Path) -> list[str]:
    """The names in requirement lists."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in lists)
    return sorted(set(re.findall(r"^[A-Za-z][\w.-]*", text, re.MULTILINE)))


def stamp_of(python: Interpreter, *lists: Path) -> str:
    """What the stamp of an environment says: the hash of the lists, the version of Python."""
    digest = hashlib.sha256()
    for path in lists:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return json.dumps({"lists": digest.hexdigest(), "python": python.version})


def is_stamped(stamp: Path, python: Interpreter, *lists: Path) -> bool:
    """Whether the lists were installed completely before, into this Python."""
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == stamp_of(python, *lists)


def pip_problem(output: str, what: str, log: Path) -> Problem:
    """Say in one sentence why pip could not bring `what`.

    Args:
        output: all that pip wrote.
        what: the thing that was being fetched, in words.
        log: where the output was kept.
    """
    for marks, sentence in FAILURES:
        if any(mark in output for mark in marks):
            words = sentence.format(what=what, temporary=tempfile.gettempdir())
            return Problem(f"{words} (details: {log}).")
    errors = [line for line in output.splitlines() if line.startswith(("ERROR", "error:"))]
    reason = errors[-1].partition(":")[2].strip() if errors else "pip stopped without a reason"
    if "No matching distribution found" in output:
        reason += f"; another Python may have it, this one is {sys.version.split()[0]}"
    return Problem(f"pip could not fetch {what}: {reason} (details: {log}).")


def run_pip(python: Path, arguments: list[str], what: str, log: Path, verbose: bool) -> None:
    """Run pip, show what it downloads, keep all its lines, tell its failure in one sentence."""
    command = [str(python), "-m", "pip", *arguments]
    command += ["--progress-bar", "off", "--disable-pip-version-check", "--no-input"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    pipes |= {"encoding": "utf-8", "errors": "replace"}
    output = ""
    with log.open("a", encoding="utf-8") as kept, subprocess.Popen(command, **pipes) as pip:
        kept.write(f"$ {' '.join(command)}\n")
        try:
            for line in pip.stdout or ():
                output += line
                kept.write(line)
                kept.flush()
                text = line.strip()
                download = re.match(r"Downloading ([^-]+)-([^-]+)\S* \((\S+ [MG]B)\)", text)
                if verbose:
                    say(f"  {text}")
                elif download:
                    say("  downloading {} {}, {}".format(*download.groups()))
                elif text.startswith("Installing collected"):
                    say("  installing")
        except BaseException:
            pip.kill()
            raise
    if pip.returncode != 0:
        raise pip_problem(output, what, log)


def make_venv(venv: Path) -> None:
    """Create the environment anew with the venv module of the running Python."""
    if any(importlib.util.find_spec(name) is None for name in ("venv", "ensurepip")):
        raise Problem(
            f"This Python ({sys.executable}) cannot make virtual environments because its venv "
            f"or ensurepip module is missing: install it (on Debian and Ubuntu the package "
            f"python3-venv) and run the command again."
        )
    shutil.rmtree(venv, ignore_errors=True)
    command = [sys.executable, "-m", "venv", str(venv)]
    with step(f"Creating {venv.name} with Python {sys.version.split()[0]}", venv):
        made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode != 0:
        shutil.rmtree(venv, ignore_errors=True)
        reason = last_line(made.stderr or made.stdout)
        raise Problem(f"The virtual environment {venv} could not be made: {reason}")


def drop_half_installed(venv: Path) -> None:
    """Forget packages whose installation was cut off: pip would take them for installed.

    The list of its files is the last that an installation writes.
    """
    for facts in venv.glob("**/site-packages/*.dist-info"):
        if not (facts / "RECORD").is_file() or not (facts / "RECORD").stat().st_size:
            shutil.rmtree(facts)


def ensure_venv(root: Path, tests: bool, verbose: bool) -> Interpreter:
    """Bring `.venv` to the state that the lists describe, without any network where it is so.

    Args:
        tests: whether the packages of the test suite are wanted too.
        verbose: show all that pip says.
    """
    venv, logs = root / ".venv", root / ".host"
    python, lists = python_of(venv), (WITHOUT_DEPENDENCIES, HOST_LIST)
    needed = ("pip", *packages_of(*lists))
    logs.mkdir(exist_ok=True)
    found, stamp = inspect_python(python, *needed), venv / "quickstart-host.json"
    if found is None or found.missing or not is_stamped(stamp, found, *lists):
        check_disk(root, max(FULL_INSTALL - folder_size(venv), RUN_ONLY))
        if found is None or "pip" in found.missing:  # pip comes last: it was never made whole
            make_venv(venv)
        drop_half_installed(venv)
        log = logs / "pip-host.log"
        with step("Installing what ComfyUI needs (about 2 GB on disk, some minutes)", venv):
            extras = ["install", "--no-deps", "-r", str(WITHOUT_DEPENDENCIES)]
            run_pip(python, extras, "torchvision and torchaudio", log, verbose)
            run_pip(python, ["install", "-r", str(HOST_LIST)], "ComfyUI's packages", log, verbose)
            mend_cpu_extras(python)
        found = inspect_python(python, *needed)
        if found is None or found.missing:
            lacks = "it does not run" if found is None else f"it lacks {', '.join(found.missing)}"
            raise Problem(
                f"{venv} is not usable after the installation, {lacks}: delete the folder and "
                f"run the command again (details: {log})."
            )
        stamp.write_text(stamp_of(found, *lists), encoding="utf-8")
    stamp = venv / "quickstart-test.json"
    if tests and not is_stamped(stamp, found, TEST_LIST):
        check_disk(root, SMALL_INSTALL)
        log = logs / "pip-test.log"
        with step("Installing the test tools", venv):
            run_pip(python, ["install", "-r", str(TEST_LIST)], "the test tools", log, verbose)
        stamp.write_text(stamp_of(found, TEST_LIST), encoding="utf-8")
    return found


def mend_cpu_extras(python: Path) -> None:
    """Make torchvision and torchaudio importable beside a CPU build of torch."""
    command = [str(python), str(DEMO / "cpu_extras.py")]
    mended = subprocess.run(command, capture_output=True, text=True)
    if mended.returncode != 0:
        raise Problem(f"torchvision or torchaudio does not import: {last_line(mended.stderr)}")
    for line in mended.stdout.splitlines():
        say(f"  {line}")
