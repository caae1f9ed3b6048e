"""`python -m miniature`: tiny stand-ins for tests, and the parts of the mini model.

docs/miniature.md has the whole recipe. `files` needs nothing but torch; the rest needs the packages
of `pip install .[training]` and, for the VAE, `COMFYUI_PATH`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .models import NOTE, write_tiny_models

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Parse the command line and run one of the commands."""
    parser = argparse.ArgumentParser(prog="python -m miniature", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    files = commands.add_parser("files", help=NOTE)
    files.add_argument("--out", required=True, help="a ComfyUI models folder, made if missing")
    files.add_argument("--seed", type=int, default=0, help="draws other weights")
    files.add_argument(
        "--learned", action="store_true", help="add a learned position table to the transformer"
    )
    for name, words in {
        "world": "draw the films and photos of the training into WORK/curated",
        "readers": "train the DECA-shaped encoder, the recognizer and the reader of frames",
        "vae": "train the VAE on the films; goes on where it stopped",
        "prepare": "write the encoders as files that recipes/miniature.toml names",
        "shares": "print what the variance of the latents is made of",
        "ship": "put the trained files into models/miniature",
        "evaluate": "measure the shipped files on people and words that nothing has seen",
        "ablations": "train the rows of the paper's Table 3 on the shipped base; goes on",
    }.items():
        one = commands.add_parser(name, help=words, description=words)
        one.add_argument(
            "--work", type=Path, default=ROOT / "work" / "miniature", help="folder of the training"
        )
        if name in ("evaluate", "ablations"):
            one.add_argument("--config", type=Path, default=ROOT / "recipes" / "miniature.toml")
            one.add_argument("--cast", choices=("tune", "test"), default="test")
        if name == "ablations":
            one.add_argument("--steps", type=int, default=300, help="of every row and seed")
            one.add_argument("--seeds", type=int, default=2)
        if name == "evaluate":
            one.add_argument("--cfg", type=float, help="guidance; default: the chosen one")
            one.add_argument("--sheet", type=Path, help="save a picture of some of the videos")
    given = sys.argv[1:]
    if given[:1] and given[0].startswith("--") and given[0] != "--help":
        given = ["files", *given]  # as the command was before it had others beside it
    options = parser.parse_args(given)
    if options.command == "files":
        models = write_tiny_models(options.out, seed=options.seed, learned=options.learned)
        found = [path for path in models.directory.rglob("*") if path.is_file()]
        total = sum(path.stat().st_size for path in found) / 1e6
        print(NOTE)
        print(f"{models.directory}: {len(found)} files, {total:.1f} MB")
        return
    from . import making

    sys.exit(getattr(making, options.command)(options))


if __name__ == "__main__":
    main()
