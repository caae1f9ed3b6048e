"""`python -m miniature --out DIR` writes a models folder of tiny stand-ins."""

from __future__ import annotations

import argparse

from .models import NOTE, write_tiny_models


def main() -> None:
    """Parse the command line and write the folder."""
    parser = argparse.ArgumentParser(prog="python -m miniature", description=NOTE)
    parser.add_argument("--out", required=True, help="a ComfyUI models folder, made if missing")
    parser.add_argument("--seed", type=int, default=0, help="draws other weights")
    parser.add_argument(
        "--learned", action="store_true", help="add a learned position table to the transformer"
    )
    options = parser.parse_args()
    models = write_tiny_models(options.out, seed=options.seed, learned=options.learned)
    files = [path for path in models.directory.rglob("*") if path.is_file()]
    total = sum(path.stat().st_size for path in files) / 1e6
    print(NOTE)
    print(f"{models.directory}: {len(files)} files, {total:.1f} MB")


if __name__ == "__main__":
    main()
