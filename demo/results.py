"""What the run left: copied to one folder, looked into, and pictured on a contact sheet."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError
from PIL import Image, ImageDraw, ImageFont

from fantasyid.evaluation.answers import Result

from .console import Problem, in_words, say

VIDEO, MESH = (".mp4", ".webm", ".mkv"), (".glb",)
MOST = 16  # frames shown on the contact sheet
TILE = 320  # least width of one frame there, in pixels
GAP = 8
LINE = 32  # height of a caption


def saved_file(result: Result, base: Path, suffixes: tuple[str, ...]) -> Path | None:
    """The first file of a kind that a node saved and that is really there."""
    files = [file for node in result.outputs for file in result.files(node)]
    paths = [base / "output" / f.subfolder / f.filename for f in files if f.kind == "output"]
    return next((path for path in paths if path.suffix in suffixes and path.is_file()), None)


def free_stem(folder: Path, stem: str) -> str:
    """The stem with the first number that no file in `folder` has: results are never replaced."""
    number = 1
    while any(folder.glob(f"{stem}_{number:05}*")):
        number += 1
    return f"{stem}_{number:05}"


def read_video(path: Path) -> tuple[list[Image.Image], float]:
    """All frames in order and the frame rate."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_image() for frame in container.decode(stream)]
        return frames, float(stream.average_rate or 0)


def draw_rows(rows: list[tuple[str, list[Image.Image]]], note: str) -> Image.Image:
    """Pictures in rows, each with its words below it, the note above all of them."""
    tile = TILE // 2
    columns = max(len(pictures) for _, pictures in rows)
    size = GAP + columns * (tile + GAP), GAP + LINE + len(rows) * (tile + GAP + LINE)
    sheet = Image.new("RGB", size, (24, 24, 24))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=20)
    draw.text((GAP, 4), note, font=font, fill=(230, 230, 230))
    for number, (words, pictures) in enumerate(rows):
        y = GAP + LINE + number * (tile + GAP + LINE)
        for column, picture in enumerate(pictures):
            small = picture.resize((tile, tile), Image.Resampling.BICUBIC)
            sheet.paste(small, (GAP + column * (tile + GAP), y))
        draw.text((GAP, y + tile + 4), words, font=font, fill=(200, 200, 200))
    return sheet


def draw_sheet(frames: list[Image.Image]) -> Image.Image:
    """Frames in a grid, each with its number below it."""
    last, shown = len(frames) - 1, min(len(frames), MOST)
    indexes = [round(i * last / max(1, shown - 1)) for i in range(shown)]
    scale = max(1, -(-TILE // frames[0].width))  # whole, so that pixels stay pixels
    width, height = frames[0].width * scale, frames[0].height * scale
    columns = math.ceil(math.sqrt(shown))
    rows = -(-shown // columns)
    size = GAP + columns * (width + GAP), GAP + rows * (height + GAP + LINE)
    sheet = Image.new("RGB", size, (24, 24, 24))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=20)
    for place, index in enumerate(indexes):
        x = GAP + place % columns * (width + GAP)
        y = GAP + place // columns * (height + GAP + LINE)
        sheet.paste(frames[index].resize((width, height), Image.Resampling.NEAREST), (x, y))
        caption = f"frame {index + 1} of {len(frames)}"
        draw.text((x, y + height + 4), caption, font=font, fill=(200, 200, 200))
    return sheet


def collect(result: Result, base: Path, folder: Path) -> dict[str, Any]:
    """Copy video and mesh to `folder` and make the contact sheet.

    Returns:
        video, frames, size, fps, contact_sheet and mesh (None where the workflow saves none).

    Raises:
        Problem: the run saved no video, or it cannot be decoded.
    """
    made, mesh = saved_file(result, base, VIDEO), saved_file(result, base, MESH)
    if made is None:
        raise Problem("The workflow ended without saving a video.", code=1)
    folder.mkdir(parents=True, exist_ok=True)
    stem = free_stem(folder, "fantasyid")
    video = Path(shutil.copyfile(made, folder / f"{stem}{made.suffix}"))
    head = mesh and shutil.copyfile(mesh, folder / f"{stem}_head{mesh.suffix}")
    try:
        frames, fps = read_video(video)
        width, height = frames[0].size
    except (FFmpegError, IndexError) as error:  # damaged, or without frames
        raise Problem(f"The video {video} could not be decoded: {error}", code=1) from error
    sheet = folder / f"{stem}_contact_sheet.png"
    draw_sheet(frames).save(sheet)
    return {
        "video": str(video),
        "frames": len(frames),
        "size": [width, height],
        "fps": fps,
        "contact_sheet": str(sheet),
        "mesh": head and str(head),
    }


def show(found: dict[str, Any]) -> None:
    """Print where the results are, with their sizes."""
    width, height = found["size"]
    words = {
        "video": f"video, {found['frames']} frames of {width} x {height}, {found['fps']:g} fps",
        "contact_sheet": "contact sheet",
        "mesh": "head mesh",
    }
    for key, text in words.items():
        if found[key] is not None:
            say(f"  {found[key]}  ({text}, {in_words(Path(found[key]).stat().st_size)})")
