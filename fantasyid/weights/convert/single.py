"""Converts one published pickle to safetensors, with the part of it that is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..third_party import plain_tensors
from .plan import Plan
from .sources import in_memory
from .split import describe_sources
from .stream import Step, Written, ignore, write_files


def convert_file(
    path: Path,
    to: Path | None = None,
    *,
    overwrite: bool = False,
    report: Callable[[Step], None] = ignore,
) -> Written:
    """Write EVA02-CLIP, DECA, FLAME or the mesh transforms as safetensors.

    Nothing in the file is run. The loaders read the result as they read the original.

    Args:
        path: The published file.
        to: Where the result goes; by default beside it, with its name.
        overwrite: Replace a file that is there.
        report: Called with the progress; may raise to stop.

    Raises:
        ValueError: The file is none of the four, damaged, or asks to run something.
        OSError: A file is in the way, or the disk is full; see `write_files`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    to = path.with_suffix(".safetensors") if to is None else to
    if to.suffix != ".safetensors":
        raise ValueError(f"{to} must end in .safetensors: ComfyUI goes by the name")
    kind, tensors = plain_tensors(path)
    metadata = {"fantasyid_kind": kind, "fantasyid_sources": describe_sources([path])}
    plan = Plan(to, in_memory(tensors), metadata)
    (written,) = write_files([plan], overwrite=overwrite, report=report)
    return written
