"""Damages files of every kind and reads them: `python -m tests.fuzz --minutes 1`.

A reader may refuse a file by ValueError or OSError, within seconds and within memory; anything else
is a find. It is kept in tests/fuzz/corpus, from where every later run begins. The same seed gives
the same files. A child process reads, so that a find that hangs ends no more than itself.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from fuzz.readers import READERS, samples  # noqa: E402 (found by the line above)

CORPUS = Path(__file__).with_name("corpus")
BATCH = 40
SECONDS = 20.0  # for one file, of wall time on a busy machine


def damaged(content: bytes, dice: random.Random) -> bytes:
    """A file of the same kind, more or less."""
    from damage import mutated

    return mutated(content, dice)


def batches(seed: int, folder: Path) -> Iterator[list[tuple[str, bytes, str]]]:
    """Folders of files for ever, named `NUMBER.READER.SUFFIX`."""
    from fuzz.programs import WRAPPERS, random_program

    dice, known = random.Random(seed), samples(folder)
    for path in sorted(CORPUS.glob("*.*.*")):
        known.setdefault(path.name.split(".")[1], []).append((path.read_bytes(), path.suffix))
    yield [(name, content, suffix) for name, files in known.items() for content, suffix in files]
    while True:
        batch = []
        for _ in range(BATCH):
            name = dice.choice(list(READERS))
            if name in ("pickle", "torch") and dice.random() < 0.5:
                wrap = WRAPPERS["f.pkl" if name == "pickle" else dice.choice(("f.pt", "f.bin"))]
                batch.append((name, wrap(random_program(dice)), ".pt"))
            elif known.get(name):
                content, suffix = dice.choice(known[name])
                batch.append((name, damaged(content, dice), suffix))
        yield batch


def finds(batch: list[tuple[str, bytes, str]], folder: Path) -> list[tuple[Path, str]]:
    """Files of a batch that were not read or refused as they should be."""
    paths = []
    for number, (name, content, suffix) in enumerate(batch):
        paths.append(folder / f"{number}.{name}{suffix}")
        paths[-1].write_bytes(content)
    bad, left = [], paths
    while left:
        command = [sys.executable, "-m", "tests.fuzz.readers", *map(str, left)]
        # One file may take its time, and all of them together a little more.
        limit = SECONDS + 2.0 * len(left)
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as child:
            try:
                output, errors = child.communicate(timeout=limit)
                ending = "the reader ended: " + (errors.splitlines() or ["silently"])[-1]
            except subprocess.TimeoutExpired:
                child.kill()
                output, errors = child.communicate()
                ending = f"the reader took more than {limit:.0f} seconds"
        lines = output.splitlines()
        done = [line for line in lines if line.startswith(("ok", "bad"))]
        bad += [(left[i], line) for i, line in enumerate(done) if line.startswith("bad")]
        if len(done) < len(left):
            bad.append((left[len(done)], ending))
        left = left[len(done) + 1 :]
    return bad


def main() -> int:
    """Fuzz for some minutes; 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    end, count, found = time.monotonic() + 60 * given.minutes, 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for batch in batches(given.seed, folder):
            for path, words in finds(batch, folder):
                found += 1
                CORPUS.mkdir(exist_ok=True)
                content = path.read_bytes()
                kept = f"{hashlib.sha256(content).hexdigest()[:12]}.{path.name.split('.', 1)[1]}"
                (CORPUS / kept).write_bytes(content)
                sys.stdout.write(f"{kept}: {words}\n")
            count += len(batch)
            if time.monotonic() > end:
                break
    sys.stdout.write(f"{count} files read or refused, {found} finds, seed {given.seed}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
