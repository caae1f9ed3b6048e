"""What the run left: copied to one folder, looked into, and pictured on a contact sheet."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .console import Problem, say, size_text
from .environment import DEMO
from .models import TINY_LABEL

VIDEO, MESH = (".mp4", ".webm", ".mkv"), (".glb",)


def output_files(outputs: dict[str, Any], base: Path) -> Iterator[Path]:
    """Paths of all files that nodes report as saved (type `output`), in the order of nodes."""
    for shown in outputs.values():
        for entries in shown.values():
            for entry in entries if isinstance(entries, list) else ():
                if isinstance(entry, dict) and entry.get("type") == "output":
                    yield base / "output" / entry.get("subfolder", "") / entry["filename"]


def first_of(files: list[Path], suffixes: tuple[str, ...]) -> Path | None:
    """The first file of a kind that is really there."""
    return next((path for path in files if path.suffix in suffixes and path.is_file()), None)


def free_number(folder: Path, stem: str) -> int:
    """The first number that no file of this stem in `folder` has: results are never replaced."""
    number = 1
    while any(folder.glob(f"{stem}_{number:05}*")):
        number += 1
    return number


def collect(
    python: Path, outputs: dict[str, Any], base: Path, folder: Path, tiny: bool
) -> dict[str, Any]:
    """Copy video and mesh to `folder` and make the contact sheet.

    Returns:
        video, frames, size, fps, contact_sheet and mesh (None where the workflow saves none).

    Raises:
        Problem: the run saved no video, or it cannot be decoded.
    """
    files = list(output_files(outputs, base))
    made, mesh = first_of(files, VIDEO), first_of(files, MESH)
    if made is None:
        raise Problem("The workflow ended without saving a video.", code=1)
    folder.mkdir(parents=True, exist_ok=True)
    stem = TINY_LABEL if tiny else "fantasyid"
    stem = f"{stem}_{free_number(folder, stem):05}"
    video = folder / f"{stem}{made.suffix}"
    sheet = folder / f"{stem}_contact_sheet.png"
    shutil.copyfile(made, video)
    head = None
    if mesh is not None:
        head = folder / f"{stem}_head{mesh.suffix}"
        shutil.copyfile(mesh, head)
    note = ["tiny random weights: noise, not a likeness"] if tiny else []
    drawn = subprocess.run(
        [str(python), str(DEMO / "contact_sheet.py"), str(video), str(sheet), *note],
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    if drawn.returncode != 0:
        reason = drawn.stderr.strip().splitlines() or ["no reason given"]
        raise Problem(f"The video {video} could not be decoded: {reason[-1]}", code=1)
    facts = json.loads(drawn.stdout.strip().splitlines()[-1])
    return {
        "video": str(video),
        **facts,
        "contact_sheet": str(sheet),
        "mesh": None if head is None else str(head),
    }


def show(result: dict[str, Any]) -> None:
    """Print where the results are, with their sizes."""
    width, height = result["size"]
    words = {
        "video": f"video, {result['frames']} frames of {width} x {height}, {result['fps']:g} fps",
        "contact_sheet": "contact sheet",
        "mesh": "head mesh",
    }
    for key, text in words.items():
        if result[key] is not None:
            path = Path(result[key])
            say(f"  {path}  ({text}, {size_text(path.stat().st_size)})")
