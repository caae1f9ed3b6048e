"""A released model into base and adapter; a published pickle into safetensors."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ..progress import Report
from ..read import model_files
from ..released import Released
from ..third_party import plain_tensors
from .sources import FP8, Stored, cast, in_memory, open_source
from .write import Plan, Written, write_files

KEEP = "keep"
PRECISIONS = {KEEP: None, "bf16": torch.bfloat16, "fp16": torch.float16, "fp8_e4m3fn": FP8}


def split_model(
    path: Path,
    base: Path | None,
    adapter: Path | None,
    *,
    dtype: str = KEEP,
    overwrite: bool = False,
    report: Report = lambda _: None,
) -> list[Written]:
    """Write the base under the host's key names, the adapter under the released ones.

    Args:
        path: A released folder, or a single file with transformer and adapter.
        base: Where the base goes; None leaves it out.
        adapter: Where the adapter goes, without the released keys that have no effect; None
            leaves it out.
        dtype: A key of `PRECISIONS`. "fp8_e4m3fn" concerns the matrices of the base's blocks
            alone; the adapter never goes below 16 bits.
        overwrite: Replace files that are there.
        report: Called often with the progress; may raise to stop.

    Returns:
        What is there now, base before adapter.

    Raises:
        ValueError: The folder is something else, is incomplete, or the options do not fit.
        OSError: A file is in the way, or the disk is full; see `write_files`.
    """
    targets = [target for target in (base, adapter) if target is not None]
    if not targets or dtype not in PRECISIONS:
        raise ValueError(
            f"a base file, an adapter file or both must be named, and dtype {dtype!r} must be one "
            f"of {', '.join(PRECISIONS)}"
        )
    files = model_files(path)
    _check_targets(targets, files)
    stored: dict[str, Stored] = {}
    for file in files:
        stored |= open_source(file)
    released = Released(path, stored)
    plans = []
    sources = {"fantasyid_dtype": dtype, "fantasyid_sources": describe_sources(files)}
    position = {key: number for number, key in enumerate(stored)}
    if base is not None:
        on_disk, weights = released.keys.base, released.base()
        order = sorted(weights, key=lambda name: position[on_disk[name]])
        lowered = {name: _base_precision(name, weights[name], dtype) for name in order}
        plans.append(Plan(base, lowered, {"fantasyid_kind": "base"} | sources))
    if adapter is not None:
        released.adapter_modules()  # checks them
        live = sorted(released.live().items(), key=lambda item: position[item[0]])
        lowered = {key: _adapter_precision(key, tensor, dtype) for key, tensor in live}
        plans.append(Plan(adapter, lowered, {"fantasyid_kind": "adapter"} | sources))
    return write_files(plans, overwrite=overwrite, report=report)


def convert_file(
    path: Path,
    to: Path | None = None,
    *,
    overwrite: bool = False,
    report: Report = lambda _: None,
) -> Written:
    """Write EVA02-CLIP, DECA, FLAME or the mesh transforms as safetensors.

    Nothing in the file is run. The loaders read the result as they read the original.

    Args:
        to: Where the result goes; by default beside it, with its name.
        overwrite: Replace a file that is there.
        report: Called with the progress; may raise to stop.

    Raises:
        ValueError: The file is none of the four, damaged, or asks to run something.
        OSError: A file is in the way, or the disk is full; see `write_files`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file, or it is a folder")
    to = path.with_suffix(".safetensors") if to is None else to
    if to.suffix != ".safetensors":
        raise ValueError(f"{to} must end in .safetensors: ComfyUI goes by the name")
    kind, tensors = plain_tensors(path)
    metadata = {"fantasyid_kind": kind, "fantasyid_sources": describe_sources([path])}
    plan = Plan(to, in_memory(tensors), metadata)
    (written,) = write_files([plan], overwrite=overwrite, report=report)
    return written


def _base_precision(name: str, stored: Stored, dtype: str) -> Stored:
    wanted = PRECISIONS[dtype]
    matrix = name.startswith("blocks.") and len(stored.shape) == 2
    return (
        stored if wanted is None or (wanted is FP8 and not matrix) else cast(stored, wanted, name)
    )


def _adapter_precision(name: str, stored: Stored, dtype: str) -> Stored:
    wanted = PRECISIONS[dtype]
    if wanted is None or wanted is FP8:
        return cast(stored, torch.bfloat16, name) if stored.entry.dtype.itemsize < 2 else stored
    return cast(stored, wanted, name)


def _check_targets(targets: list[Path], files: list[Path]) -> None:
    resolved = [target.resolve() for target in targets]
    if len(set(resolved)) < len(resolved):
        raise ValueError(f"base and adapter cannot both go to {targets[0]}")
    for target in targets:
        if target.suffix != ".safetensors":
            raise ValueError(f"{target} must end in .safetensors: ComfyUI goes by the name")
        if target.resolve() in {file.resolve() for file in files}:
            raise ValueError(f"{target} is one of the files that are read: choose another name")


def describe_sources(files: list[Path]) -> str:
    """Names, sizes and dates of the files that are read, for the metadata and for resuming."""
    stats = [(file.name, file.stat()) for file in files]
    return json.dumps(
        [{"name": n, "size": s.st_size, "modified_ns": s.st_mtime_ns} for n, s in stats]
    )
