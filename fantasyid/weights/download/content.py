"""Whether a fetched file is of the right kind, by our own readers: pages, pointers and other
models are published and saved under every name.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from ..describe import describe_keys
from ..header import Form, read_header, sniff
from ..third_party import read_deca, read_eva, read_flame, read_mesh_tables


def _shard(path: Path) -> None:
    """A piece of the transformer, or one of the small tables beside it."""
    form = sniff(path)
    if form is Form.SAFETENSORS:
        read_header(path)
    elif form is not Form.TORCH_ZIP and not isinstance(json.loads(path.read_text("utf-8")), dict):
        raise ValueError(f"{path} holds no table")


def _looks_like(words: str) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        looks = describe_keys(read_header(path).shapes())
        if looks != f"it looks like {words}":
            raise ValueError(f"expected {words}, {looks}")

    return check


CHECKS: dict[str, Callable[[Path], object]] = {
    "transformer": _shard,
    "eva": read_eva,
    "mesh tables": read_mesh_tables,
    "t5": _looks_like("a T5 text encoder"),
    "vae": _looks_like("the CogVideoX VAE"),
    "deca": read_deca,
    "flame": read_flame,
}


def why_wrong(path: Path, kind: str) -> str | None:
    """What is wrong with a file, or None.

    Args:
        path: The file.
        kind: A key of `CHECKS`.
    """
    try:
        sniff(path)
        CHECKS[kind](path)
    except (ValueError, OSError, RecursionError) as error:
        return str(error)
    return None
