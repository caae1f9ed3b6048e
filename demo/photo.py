"""Run by the environment's Python: write a photo as PNG, `photo.py TARGET [SOURCE]`.

Without a source it is scikit-image's `astronaut`, a public-domain portrait that comes with that
package.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from PIL import Image, ImageOps


def read_photo(source: str | None) -> Image.Image:
    """The photo upright and in RGB."""
    if source is not None:
        with Image.open(source) as opened:
            return ImageOps.exif_transpose(opened).convert("RGB")
    from skimage import data

    return Image.fromarray(data.astronaut())


def main(arguments: list[str]) -> int:
    """Write the photo; the target appears only when it is complete."""
    target = Path(arguments[0])
    try:
        photo = read_photo(arguments[1] if len(arguments) > 1 else None)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    partial = target.with_name(target.name + ".partial")
    photo.save(partial, format="PNG")
    os.replace(partial, target)
    sys.stdout.write(f"{target.name}: {photo.width} x {photo.height}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
