"""The server's own base directory: this project linked in, the photo, settings of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from .console import Problem, say, step
from .environment import DEMO

EXTENSION = "ComfyUI-FantasyID"
TINY_HOST = "fantasyid_tiny_host"  # lets the native T5 and VAE loaders read the tiny files
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", ".host", "quickstart_output", "__pycache__")


def same_place(link: Path, target: Path) -> bool:
    """Whether `link` leads to `target`."""
    return link.exists() and os.path.realpath(link) == os.path.realpath(target)


def remove_link(link: Path) -> None:
    """Remove a link, a junction or an earlier copy, never what a link points to."""
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        try:
            link.rmdir()  # a Windows junction goes this way; a copy is not empty and does not
        except OSError:
            shutil.rmtree(link)


def link_folder(link: Path, target: Path) -> str:
    """Make `link` lead to `target`: a symbolic link, on Windows a junction, else a copy.

    Returns:
        "kept", "symlink", "junction" or "copy".
    """
    if same_place(link, target):
        return "kept"
    remove_link(link)
    try:
        link.symlink_to(target, target_is_directory=True)
        return "symlink"
    except (OSError, NotImplementedError):
        if os.name == "nt":
            made = subprocess.run(
                ["cmd", "/c", "mklink", "/J", str(link), str(target)], capture_output=True
            )
            if made.returncode == 0:
                return "junction"
    shutil.copytree(target, link, ignore=NOT_COPIED)
    return "copy"


def prepare_base(root: Path) -> Path:
    """Create the base directory with the links to this project in it; what is there stays."""
    base = root / ".host" / "base"
    for name in ("custom_nodes", "models", "input", "output", "temp", "user/default"):
        (base / name).mkdir(parents=True, exist_ok=True)
    link_folder(base / "custom_nodes" / EXTENSION, root)
    tiny_host = root / "demo_nodes" / TINY_HOST
    if tiny_host.is_dir():
        link_folder(base / "custom_nodes" / TINY_HOST, tiny_host)
    settings = base / "user" / "default" / "comfy.settings.json"
    if not settings.is_file():
        # A new user is otherwise greeted by a dialog over the whole page.
        settings.write_text(json.dumps({"Comfy.TutorialCompleted": True}), encoding="utf-8")
    return base


def given_photo(photo: Path) -> Path:
    """The user's photo in full; a Problem where there is none."""
    photo = photo.expanduser().resolve()
    if not photo.is_file():
        raise Problem(f"There is no photo at {photo}: give --photo an image file.")
    return photo


def place_photo(python: Path, base: Path, photo: Path | None) -> str:
    """Put the face photo into the server's input folder.

    Args:
        python: an interpreter with Pillow and scikit-image.
        base: the server's base directory.
        photo: the user's file, or None for scikit-image's public-domain astronaut.

    Returns:
        Its file name there.
    """
    name = "quickstart_astronaut.png" if photo is None else "quickstart_photo.png"
    target = base / "input" / name
    if photo is None and target.is_file():
        return name
    source = "demo photo" if photo is None else str(photo)
    arguments = [] if photo is None else [str(photo)]
    with step(f"Placing the photo ({source})"):
        made = subprocess.run(
            [str(python), str(DEMO / "photo.py"), str(target), *arguments],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
    if made.returncode != 0:
        reason = made.stderr.strip().splitlines() or ["no reason given"]
        raise Problem(f"The photo ({source}) could not be read as an image: {reason[-1]}")
    say(f"  {made.stdout.strip()}")
    return name
