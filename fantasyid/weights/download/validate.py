"""Whether a fetched file is of the right kind, by our own readers: pages, pointers and other
models are published and saved under every name.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ...face.onnx_graph import Network
from ..describe import recognize
from ..header import Form, read_header, sniff
from ..third_party import read_deca, read_eva, read_flame, read_mesh_tables


def _shard(path: Path) -> None:
    """A piece of the transformer, or one of the small tables beside it."""
    form = sniff(path)
    if form is Form.SAFETENSORS:
        read_header(path)
    elif form is not Form.TORCH_ZIP and not isinstance(json.loads(path.read_text("utf-8")), dict):
        raise ValueError(f"{path} holds no table")


def _of_kind(expected: str, path: Path) -> None:
    network = expected == "face detector"
    kind, words = recognize(Network(path).outputs if network else read_header(path).shapes())
    if kind != expected:
        raise ValueError(f"expected the weights of a {expected}, it is {words or 'a stranger'}")


CHECKS: dict[str, Callable[[Path], object]] = {
    "transformer": _shard,
    "eva": read_eva,
    "mesh tables": read_mesh_tables,
    "t5": partial(_of_kind, "t5"),
    "vae": partial(_of_kind, "vae"),
    "deca": read_deca,
    "flame": read_flame,
    "face detector": partial(_of_kind, "face detector"),
}


def validate_content(path: Path, kind: str) -> None:
    """Read a file as its kind.

    Args:
        kind: A key of `CHECKS`.

    Raises:
        ValueError: It is something else; says what.
        OSError: It cannot be read.
    """
    sniff(path)
    CHECKS[kind](path)
