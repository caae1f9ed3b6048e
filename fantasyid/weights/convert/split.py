"""Splits a released model into a base for `models/diffusion_models` and an adapter."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from ...cogvideox.config import check_base
from ..adapter import adapter_parts
from ..keys import sort_released_keys
from ..read import model_files
from .plan import Plan
from .sources import FP8, Stored, cast, open_source
from .stream import Step, Written, ignore, write_files

KEEP = "keep"
PRECISIONS = {
    KEEP: None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8_e4m3fn": FP8,
}
MIN_ADAPTER_BYTES = 2


def split_model(
    path: Path,
    base: Path | None,
    adapter: Path | None,
    *,
    dtype: str = KEEP,
    overwrite: bool = False,
    report: Callable[[Step], None] = ignore,
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
    shapes = {name: tensor.shape for name, tensor in stored.items()}
    keys = sort_released_keys(shapes)
    plans = []
    sources = {"fantasyid_dtype": dtype, "fantasyid_sources": describe_sources(files)}
    if base is not None:
        check_base(path, keys, shapes)
        tensors = {ours: stored[key] for ours, key in in_order(keys.base.items(), stored)}
        lowered = {name: _base_precision(name, tensors[name], dtype) for name in tensors}
        plans.append(Plan(base, lowered, {"fantasyid_kind": "base"} | sources))
    if adapter is not None:
        parts = adapter_parts(keys, shapes, str(path))
        live = {key for part in parts for key in part.names.values()}
        lowered = {
            key: _adapter_precision(key, stored[key], dtype) for key in stored if key in live
        }
        plans.append(Plan(adapter, lowered, {"fantasyid_kind": "adapter"} | sources))
    return write_files(plans, overwrite=overwrite, report=report)


def in_order(names: Iterable[tuple[str, str]], stored: dict[str, Stored]) -> list[tuple[str, str]]:
    """Pairs of our name and the file's name, in the order of the files' bytes."""
    position = {key: number for number, key in enumerate(stored)}
    return sorted(names, key=lambda pair: position[pair[1]])


def _base_precision(name: str, stored: Stored, dtype: str) -> Stored:
    wanted = PRECISIONS[dtype]
    if wanted is None:
        return stored
    if wanted is FP8 and not (name.startswith("blocks.") and len(stored.shape) == 2):
        return stored
    return cast(stored, wanted, name)


def _adapter_precision(name: str, stored: Stored, dtype: str) -> Stored:
    wanted = PRECISIONS[dtype]
    if wanted is None or wanted is FP8:
        too_small = stored.dtype.itemsize < MIN_ADAPTER_BYTES
        return cast(stored, torch.bfloat16, name) if too_small else stored
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
