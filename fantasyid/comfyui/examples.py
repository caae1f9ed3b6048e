"""The portrait and the clip that the templates open with, in the host's input folder."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import folder_paths

EXAMPLES = Path(__file__).resolve().parents[2] / "web" / "examples"


def place_examples() -> None:
    """Copy the public-domain pictures to where Load Image looks; what is there is left alone.

    An input folder that cannot be written to is no reason to stop: the drop-downs are empty then.
    """
    folder = Path(folder_paths.get_input_directory())
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        for source in EXAMPLES.iterdir():
            if not (folder / source.name).exists():
                shutil.copyfile(source, folder / source.name)
