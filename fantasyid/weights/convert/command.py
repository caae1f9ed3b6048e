"""`python -m fantasyid.convert split FOLDER ...` and `... safetensors FILE`."""

from __future__ import annotations

import argparse
import sys

from ...command_line import a_path
from ..progress import GB, Lines, say
from .split import PRECISIONS, convert_file, split_model
from .write import Written


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fantasyid.convert", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    split = commands.add_parser("split", help="a released folder into a base and an adapter")
    split.add_argument("folder", type=a_path, help="a released folder or a single file")
    split.add_argument("--base", type=a_path, help="goes into models/diffusion_models")
    split.add_argument("--adapter", type=a_path, help="goes into models/fantasyid")
    split.add_argument(
        "--dtype",
        choices=list(PRECISIONS),
        default="keep",
        help="fp8_e4m3fn concerns the matrices of the base's blocks alone",
    )
    single = commands.add_parser(
        "safetensors", help="EVA02-CLIP, DECA, FLAME or mesh transforms into safetensors"
    )
    single.add_argument("file", type=a_path, help="the file as its makers publish it")
    single.add_argument("--to", type=a_path, help="by default beside it, with its name")
    for command in (split, single):
        command.add_argument("--overwrite", action="store_true", help="replace what is there")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, convert, and say what was written."""
    options = _parser().parse_args(arguments)
    written: list[Written]
    try:
        if options.command == "split":
            written = split_model(
                options.folder,
                options.base,
                options.adapter,
                dtype=options.dtype,
                overwrite=options.overwrite,
                report=Lines(GB),
            )
        else:
            single = convert_file(
                options.file, options.to, overwrite=options.overwrite, report=Lines(GB)
            )
            written = [single]
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command goes on from here\n")
        return 130
    for file in written:
        how = "was there already, unchanged" if file.was_there else "written and checked"
        say(f"{file.path}: {file.num_tensors} tensors, {file.num_bytes / GB:.3f} GB, {how}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
