"""The server's own base directory: this project linked in, the photo, settings of its own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from PIL import Image, ImageOps

from .console import Problem, say

ROOT = Path(__file__).resolve().parent.parent


def link_folder(link: Path, target: Path) -> None:
    """Make `link` lead to `target`: a symbolic link, or on Windows a junction.

    Raises:
        OSError: it cannot be made, or something else than a link is there.
    """
    if link.exists() and os.path.realpath(link) == os.path.realpath(target):
        return
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        link.rmdir()  # a junction goes this way; a folder with anything in it does not
    try:
        link.symlink_to(target, target_is_directory=True)
    except OSError:
        if os.name != "nt":
            raise
        command = ["cmd", "/c", "mklink", "/J", str(link), str(target)]
        if subprocess.run(command, capture_output=True).returncode != 0:
            raise


def prepare_base(base: Path, *others: Path) -> Path:
    """Create a base directory with a link to this project in it; what is there stays.

    Args:
        others: More folders of nodes to link.
    """
    for name in ("custom_nodes", "models", "input", "output", "temp", "user/default"):
        (base / name).mkdir(parents=True, exist_ok=True)
    for target in (ROOT, *others):
        name = "ComfyUI-FantasyID" if target == ROOT else target.name
        link_folder(base / "custom_nodes" / name, target)
    settings = base / "user" / "default" / "comfy.settings.json"
    if not settings.is_file():
        # A new user is otherwise greeted by a dialog over the whole page.
        settings.write_text(json.dumps({"Comfy.TutorialCompleted": True}), encoding="utf-8")
    return base


def place_photo(base: Path, photo: Path | None) -> str:
    """Put the face photo into the server's input folder, upright, in RGB.

    Args:
        base: the server's base directory.
        photo: the user's file, or None for scikit-image's public-domain astronaut.

    Returns:
        Its file name there.
    """
    name = "quickstart_astronaut.png" if photo is None else "quickstart_photo.png"
    source = "demo photo" if photo is None else str(photo)
    say(f"Placing the photo ({source}) ...")
    try:
        if photo is None:
            from skimage import data

            picture = Image.fromarray(data.astronaut())
        else:
            with Image.open(photo) as opened:
                picture = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise Problem(f"The photo ({source}) could not be read as an image: {error}") from error
    picture.save(base / "input" / name)
    say(f"  {name}: {picture.width} x {picture.height}")
    return name
