"""What the commands share."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

MOST_NAME_BYTES = 255  # of one part of a path, on every usual file system


def a_path(text: str) -> Path:
    """A path as somebody typed it: `type=` of an argument.

    Raises:
        argparse.ArgumentTypeError: No file can have that name; every look at it would fail.
    """
    path = Path(text)
    long = next((part for part in path.parts if len(os.fsencode(part)) > MOST_NAME_BYTES), None)
    if long is not None or "\0" in text:
        name = (text if long is None else long)[:40]
        raise argparse.ArgumentTypeError(
            f"{name!r}... cannot be the name of a file: give at most {MOST_NAME_BYTES} bytes"
        )
    return path
