"""Says what is missing, damaged or in the wrong folder, and whether a size fits into memory."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from ..command_line import a_path
from ..weights.download.present import Places, comfyui_around
from .command import examine
from .findings import as_json, as_text, exit_code
from .memory import VideoSize
from .packages import host_version
from .places import EXTRA_PATHS, places_of

USAGE = 2
DEFAULT_SIZE = "720x480x49"


def _size(text: str) -> VideoSize:
    match = re.fullmatch(r"(\d{2,4})x(\d{2,4})x(\d{1,4})", text)
    size = VideoSize(*map(int, match.groups())) if match else None
    if size is None or size.width % 16 or size.height % 16 or size.length % 8 != 1:
        raise argparse.ArgumentTypeError(
            f'"{text}" is no size: write WIDTHxHEIGHTxFRAMES like {DEFAULT_SIZE}, sides multiples '
            "of 16, frames 8 k + 1"
        )
    return size


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fantasyid.doctor",
        description=__doc__,
        epilog="Nothing is changed and nothing is fetched. Exit status: 0 nothing stops a run, "
        "1 something does, 2 wrong usage.",
    )
    parser.add_argument("--comfyui", type=a_path, metavar="DIR", help="the folder of ComfyUI")
    parser.add_argument("--models", type=a_path, metavar="DIR", help="ComfyUI's folder `models`")
    parser.add_argument("--json", action="store_true", help="JSON for scripts")
    parser.add_argument("--deep", action="store_true", help="compare SHA-256: reads every byte")
    parser.add_argument(
        "--size", type=_size, default=_size(DEFAULT_SIZE), metavar="WxHxFRAMES", help=DEFAULT_SIZE
    )
    return parser


def _places(comfyui: Path | None, models: Path | None) -> Places | None:
    folder = models or (comfyui / "models" if comfyui else None)
    if folder is None or not folder.is_dir():
        return None
    extra = comfyui / EXTRA_PATHS if comfyui else None
    return places_of(folder, extra if extra is not None and extra.is_file() else None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, look, and say what was found."""
    options = _parser().parse_args(arguments)
    comfyui = options.comfyui or (None if options.models else comfyui_around())
    try:
        places = _places(comfyui, options.models)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return USAGE
    if places is None:
        sys.stderr.write(
            "where is ComfyUI? Name its folder with --comfyui DIR, or its folder `models` with "
            "--models DIR; it must exist\n"
        )
        return USAGE
    version = host_version(comfyui) if comfyui else ""
    findings = examine(places, options.size, version=version, deep=options.deep)
    text = (as_json if options.json else as_text)(findings) + "\n"
    alphabet = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(alphabet, "backslashreplace").decode(alphabet))
    return exit_code(findings)


if __name__ == "__main__":
    sys.exit(main())
