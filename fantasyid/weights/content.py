"""What is in a weights file or model folder, without reading more than is needed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..face.onnx_graph import Network
from ..shapes import Shapes
from .describe import describe_keys, recognize
from .header import Form, read_header, sniff
from .read import model_files, read_torch_file
from .safe_pickle import read_pickle
from .third_party import DECA_PREFIX

# Kind of file -> tensors whose size tells real from tiny, its axis, and that size in the releases.
MEASURES: dict[str, tuple[tuple[str, ...], int, int]] = {
    "transformer": (("patch_embed.proj.weight",), 0, 3072),
    "adapter": (("layer_attention.0.to_out.weight",), 0, 3072),
    "eva": (("visual.cls_token", "cls_token"), 2, 1024),
    "t5": (("encoder.block.0.layer.0.SelfAttention.q.weight",), 1, 4096),
    "vae": (("decoder.conv_in.conv.weight",), 0, 512),
    "deca": (("encoder.conv1.weight", DECA_PREFIX + "encoder.conv1.weight"), 0, 64),
}
# Key of the metadata under which an export says how it was trained.
TRAINED = "fantasyid_training"
# For files whose counts are fixed: below this share of the released size it is no release.
REAL_SHARE = 0.75


@dataclass(frozen=True, slots=True)
class Content:
    """What is in a file, or in a model folder."""

    kind: str  # as in the table of model files; "adapter" for an adapter alone, "" for a stranger
    words: str  # in words that end a sentence
    tensors: int  # how many there are
    size: int  # bytes on disk
    shapes: Shapes  # name to shape, where the format tells it
    bytes_of: Mapping[str, int]  # name to bytes, likewise
    converted: bool = False  # whether it is safetensors, where the makers publish a pickle
    # What a file that was exported from a training says of it; empty for others.
    trained: Mapping[str, Any] = field(default_factory=dict)


def inspect_file(path: Path) -> Content:
    """Look at the tensors of a file or model folder.

    Raises:
        FileNotFoundError: A folder without weights, or with a shard missing.
        ValueError: Damaged, cut short, a page or a pointer instead of a file; named.
    """
    files = model_files(path)
    tensors: dict[str, tuple[tuple[int, ...], int]] = {}
    for file in files:
        tensors |= _tensors(file)
    shapes = {name: shape for name, (shape, _) in tensors.items()}
    safetensors = sniff(files[0]) is Form.SAFETENSORS
    return Content(
        recognize(shapes)[0],
        describe_keys(shapes),
        len(shapes),
        sum(file.stat().st_size for file in files),
        shapes,
        {name: num_bytes for name, (_, num_bytes) in tensors.items()},
        safetensors,
        trained_facts(read_header(files[0]).metadata) if safetensors else {},
    )


def trained_facts(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What `python -m fantasyid.training export` wrote into a file, or nothing."""
    try:
        facts = json.loads(metadata.get(TRAINED, "{}"))
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def is_real(content: Content, released_size: int) -> bool | None:
    """Whether a file has the sizes of the releases, or None where nothing tells.

    Args:
        content: What is in it.
        released_size: Bytes of the released file.
    """
    names, axis, expected = MEASURES.get(content.kind, ((), 0, 0))
    for name in names:
        shape = content.shapes.get(name, ())
        if len(shape) > axis:
            return shape[axis] == expected
    if content.kind == "flame" and not content.converted:  # its counts are the same in both
        return content.size >= REAL_SHARE * released_size
    return None


def _tensors(path: Path) -> dict[str, tuple[tuple[int, ...], int]]:
    """Name to shape and bytes."""
    form = sniff(path)
    if path.suffix == ".onnx":
        network = Network(path)
        named = {name: (tuple(w.shape), w.nbytes) for name, w in network.weights.items()}
        return named | dict.fromkeys(network.outputs, ((), 0))
    if form is Form.SAFETENSORS:
        return {n: (e.shape, e.num_bytes) for n, e in read_header(path).entries.items()}
    content: Any = read_pickle(path) if form is Form.PICKLE else read_torch_file(path)
    flat: dict[str, Any] = {}
    for name, value in content.items():  # entries of tables in a table stand behind a dot
        inner = value.items() if isinstance(value, Mapping) else ()
        flat |= {f"{name}.{key}": part for key, part in inner} or {str(name): value}
    return {
        name: (tuple(getattr(value, "shape", ())), getattr(value, "nbytes", 0))
        for name, value in flat.items()
    }
