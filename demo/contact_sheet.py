"""Run by the environment's Python: `contact_sheet.py VIDEO PNG [NOTE]` puts frames in a grid.

Prints one JSON line about the video: frames, size, fps.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import av
from PIL import Image, ImageDraw, ImageFont

MOST = 16  # frames shown
TILE = 320  # least width of one frame on the sheet, in pixels
GAP = 8
LINE = 32  # height of the note and of the caption


def read_video(path: Path) -> tuple[list[Image.Image], float]:
    """All frames in order and the frame rate."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_image() for frame in container.decode(stream)]
        return frames, float(stream.average_rate or 0)


def chosen(count: int) -> list[int]:
    """Indexes of at most MOST frames, spread from the first to the last."""
    if count <= MOST:
        return list(range(count))
    return [round(i * (count - 1) / (MOST - 1)) for i in range(MOST)]


def draw_sheet(frames: list[Image.Image], note: str) -> Image.Image:
    """The grid, each frame with its number, the note in a band of its own above it."""
    indexes = chosen(len(frames))
    scale = max(1, -(-TILE // frames[0].width))  # whole, so that pixels stay pixels
    width, height = frames[0].width * scale, frames[0].height * scale
    columns = math.ceil(math.sqrt(len(indexes)))
    rows = -(-len(indexes) // columns)
    top = GAP + (LINE if note else 0)
    sheet = Image.new(
        "RGB", (GAP + columns * (width + GAP), top + rows * (height + GAP + LINE)), (24, 24, 24)
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=20)
    for place, index in enumerate(indexes):
        x = GAP + place % columns * (width + GAP)
        y = top + place // columns * (height + GAP + LINE)
        sheet.paste(frames[index].resize((width, height), Image.Resampling.NEAREST), (x, y))
        caption = f"frame {index + 1} of {len(frames)}"
        draw.text((x, y + height + 4), caption, font=font, fill=(200, 200, 200))
    if note:
        draw.rectangle((0, 0, sheet.width, LINE), fill=(150, 30, 30))
        draw.text((GAP, 4), note, font=font, fill=(255, 255, 255))
        # Also over the pictures: a cut-out of the sheet still says it.
        for row in range(rows):
            y = top + row * (height + GAP + LINE) + height - LINE
            draw.rectangle((GAP, y, sheet.width - GAP, y + LINE), fill=(150, 30, 30))
            draw.text((2 * GAP, y + 4), note, font=font, fill=(255, 255, 255))
    return sheet


def main(arguments: list[str]) -> int:
    """Draw the sheet and describe the video."""
    frames, fps = read_video(Path(arguments[0]))
    if not frames:
        sys.stderr.write("it has no frames\n")
        return 1
    draw_sheet(frames, arguments[2] if len(arguments) > 2 else "").save(arguments[1])
    facts = {"frames": len(frames), "size": list(frames[0].size), "fps": fps}
    sys.stdout.write(json.dumps(facts) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
