"""The converter on a model of the real widths: memory, seconds, and how it compares with a copy.

    python benchmarks/convert.py [--folder DIR] [--gb 4.2] [--bin]

Writes a synthetic released folder (real key names and widths, random bytes, as many transformer
blocks as the size asks for, with their injectors), splits it in a process of its own, and copies
the same files plainly. Everything is removed at the end.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from host import ROOT, arguments

KEYS = ROOT / "tests" / "golden" / "released_transformer_keys.json"
GB = 1e9
NAME = "diffusion_pytorch_model"
BLOCK = re.compile(r"^(?:transformer_blocks|layer_attention)\.(\d+)\.")

# The process that is measured: first what the imports alone take, then the conversion.
PROBE = """
import resource, sys
import fantasyid.weights.convert.command as command
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
code = command.main(sys.argv[1:])
print("RSS", before, peak())
sys.exit(code)
"""


def key_sizes(blocks: int) -> dict[str, tuple[list[int], int]]:
    """Released name -> shape and bytes in bf16, of a model with so many blocks."""
    groups = json.loads(KEYS.read_text("utf-8"))["groups"].values()
    found: dict[str, tuple[list[int], int]] = {}
    for name, shape in ((n, s) for group in groups for n, s in group.items()):
        block = BLOCK.match(name)
        if block is None or int(block[1]) < blocks:
            found[name] = shape, 2 * math.prod(shape)
    return found


def blocks_for(num_bytes: float) -> int:
    """The smallest depth whose files have at least so many bytes."""
    return next(
        (n for n in range(1, 43) if sum(s for _, s in key_sizes(n).values()) >= num_bytes), 42
    )


def write_released_folder(
    folder: Path, sizes: dict[str, tuple[list[int], int]], as_bin: bool
) -> int:
    """Random bf16 weights, well inside the range of every precision; returns the bytes.

    In a process of its own: a child inherits the highest memory of its parent.
    """
    import torch
    from huggingface_hub import save_torch_state_dict

    noise = (torch.randn(max(size for _, size in sizes.values()) // 2) * 0.01).bfloat16()
    made = {n: noise[: size // 2].view(shape).clone() for n, (shape, size) in sizes.items()}
    folder.mkdir(parents=True)
    if as_bin:
        torch.save(made, folder / f"{NAME}.bin")
    else:
        pattern = NAME + "{suffix}.safetensors"
        save_torch_state_dict(made, folder, filename_pattern=pattern, max_shard_size="2500MB")
    return sum(path.stat().st_size for path in folder.iterdir())


def forget(folder: Path) -> None:
    """Drop a folder's files from the system's cache, where that can be asked for."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in folder.rglob("diffusion_*"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def plain_copy(source: Path, target: Path) -> float:
    """Seconds for copying every file, to the disk."""
    target.mkdir()
    forget(source)
    start = time.perf_counter()
    for path in source.iterdir():
        copied = shutil.copyfile(path, target / path.name)
        with open(copied, "rb+") as file:
            os.fsync(file.fileno())
    seconds = time.perf_counter() - start
    shutil.rmtree(target)
    return seconds


def convert(source: Path, target: Path, dtype: str) -> tuple[float, int, int]:
    """Seconds, and the peak memory in KB after the imports and at the end."""
    target.mkdir()
    forget(source)
    arguments = ["split", str(source), "--dtype", dtype, "--base", str(target / "b.safetensors")]
    arguments += ["--adapter", str(target / "a.safetensors")]
    start = time.perf_counter()
    run = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    seconds = time.perf_counter() - start
    sys.stdout.write(run.stdout)
    run.check_returncode()
    before, peak = (int(n) for n in run.stdout.splitlines()[-1].split()[1:])
    shutil.rmtree(target)
    return seconds, before, peak


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__, folder="", gb=4.2, bin=False)
    if options.folder:
        Path(options.folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.folder or None) as temporary:
        root = Path(temporary)
        blocks = blocks_for(options.gb * GB)
        source = root / "released"
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            size = pool.apply(write_released_folder, (source, key_sizes(blocks), options.bin))
        files = [path.suffix for path in source.glob("diffusion_*") if path.suffix != ".json"]
        print(
            f"model: {size / GB:.2f} GB in {len(files)} {files[0]} files, {blocks} of 42 blocks",
            flush=True,
        )
        copied = plain_copy(source, root / "copy")
        print(f"plain copy: {copied:.1f} s, {size / GB / copied:.2f} GB/s", flush=True)
        for dtype in ("keep", "fp8_e4m3fn"):
            seconds, before, peak = convert(source, root / "out", dtype)
            print(
                f"split {dtype}: {seconds:.1f} s with start, {size / GB / seconds:.2f} GB/s, "
                f"{seconds / copied:.2f} x the copy; peak memory {peak / 1e6:.2f} GB, "
                f"{(peak - before) / 1e6:.2f} GB more than the imports alone",
                flush=True,
            )


if __name__ == "__main__":
    main()
