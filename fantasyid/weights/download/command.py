"""Fetches the model files that are missing, or lists them: `python -m fantasyid.download`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ...command_line import a_path
from ..progress import MB, Lines, in_words, say
from .files import EVERYTHING, FILES, MIRRORS, ModelFile, choices, chosen
from .present import (
    Places,
    comfyui_around,
    defect_of,
    find,
    folders_below,
    missing,
    offer,
    target_of,
)
from .provide import Downloader

ALL_THERE, FAILED, USAGE, STOPPED = 0, 1, 2, 130
LINE_BYTES = 100 * MB


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fantasyid.download",
        description=__doc__,
        epilog="Proxies (HTTPS_PROXY), HF_ENDPOINT and HF_TOKEN are taken from the environment. "
        "Exit status: 0 all there, 1 something failed, 2 wrong usage or licenses not accepted.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(choices())}")
    parser.add_argument("--list", action="store_true", help="show the table and fetch nothing")
    parser.add_argument("--models", type=a_path, metavar="DIR", help="ComfyUI's folder `models`")
    parser.add_argument("--mirror", choices=MIRRORS, default=MIRRORS[0])
    parser.add_argument(
        "--accept-licenses",
        "--accept-licences",
        action="store_true",
        help="you have read the licenses and agree",
    )
    return parser


def _table(places: Places) -> str:
    rows = [("file", "size", "state", "license", "folder")]
    for item in FILES:
        there = find(item, places)
        state = "register" if item.registration else "missing"
        if there:
            state = "damaged" if defect_of(there) else "there"
        folder = (there or target_of(item, places)).parent
        rows.append((item.name, in_words(item.size), state, item.license, str(folder)))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    )


def _agreed(accepted: bool, items: Sequence[ModelFile], places: Places) -> bool:
    """Whether the licenses of what is to be fetched are accepted, asking where somebody is."""
    if accepted or not items:
        return True
    say(offer(items, places))
    if not sys.stdin.isatty():
        say("Nothing was fetched: add --accept-licences if you agree to these licenses.")
        return False
    sys.stdout.write("Do you agree to these licenses? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, fetch what is missing, and say what is there now."""
    options = _parser().parse_args(arguments)
    around = comfyui_around()
    models = options.models or (around and around / "models")
    if models is None or not models.is_dir():
        sys.stderr.write(
            "where is ComfyUI's folder `models`? Name it with --models DIR; it must exist\n"
        )
        return USAGE
    places = folders_below(models)
    if options.list:
        say(_table(places))
        return ALL_THERE
    names = options.names or [EVERYTHING]
    try:
        items = list(dict.fromkeys(item for name in names for item in chosen(name)))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return USAGE
    return _run(items, places, options, substitutes=names == [EVERYTHING])


def _run(
    items: Sequence[ModelFile], places: Places, options: argparse.Namespace, *, substitutes: bool
) -> int:
    wanted = missing([i for i in items if not i.registration], places, substitutes=substitutes)
    if not _agreed(options.accept_licenses, wanted, places):
        return USAGE
    downloader = Downloader(options.mirror, Lines(LINE_BYTES))
    try:
        outcomes = downloader.provide(items, places, substitutes=substitutes)
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command goes on from here\n")
        return STOPPED
    for outcome in outcomes:
        say(outcome.text)
    # What needs a registration stops nobody who did not ask for it by name.
    by_hand = {item.name for item in items if item.registration} if substitutes else set()
    return FAILED if any(not o.ok and o.name not in by_hand for o in outcomes) else ALL_THERE


if __name__ == "__main__":
    sys.exit(main())
