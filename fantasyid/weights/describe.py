"""What a weights file really is: by its tensors, whatever its name says; tiny or of real size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .header import is_safetensors, read_header
from .keys import sort_released_keys
from .lookalikes import describe_keys
from .read import is_zip, model_files, read_torch_file, sniff
from .safe_pickle import read_pickle
from .third_party import DECA_PREFIX, LEGACY_TORCH_MAGIC

Shapes = Mapping[str, tuple[int, ...]]

# Kind of file -> a tensor whose size tells real from tiny, its axis, and that size in the releases.
MEASURES: dict[str, tuple[tuple[str, ...], int, int]] = {
    "transformer": (("patch_embed.proj.weight",), 0, 3072),
    "adapter": (("layer_attention.0.to_out.weight",), 0, 3072),
    "eva": (("visual.cls_token", "cls_token"), 2, 1024),
    "t5": (("encoder.block.0.layer.0.SelfAttention.q.weight",), 1, 4096),
    "vae": (("decoder.conv_in.conv.weight",), 0, 512),
    "deca": (("encoder.conv1.weight", DECA_PREFIX + "encoder.conv1.weight"), 0, 64),
}
# For files whose counts are fixed: below this share of the released size it is no release.
REAL_SHARE = 0.75


@dataclass(frozen=True, slots=True)
class Content:
    """What is in a file, or in a model folder.

    Attributes:
        kind: As in the table of model files; "adapter" for an adapter alone, "" for a stranger.
        words: In words that end a sentence.
        tensors: How many there are.
        size: Bytes on disk.
        real: Whether it has the sizes of the releases; None where that cannot be told.
        shapes: Name to shape, where the format tells it.
        bytes_of: Name to bytes, likewise.
        converted: Whether it is safetensors, where the makers publish a pickle.
    """

    kind: str
    words: str
    tensors: int
    size: int
    real: bool | None
    shapes: Shapes
    bytes_of: Mapping[str, int]
    converted: bool = False


def inspect_file(path: Path) -> Content:
    """Look at the tensors of a file or model folder without reading more than is needed.

    Raises:
        FileNotFoundError: A folder without weights, or with a shard missing.
        ValueError: Damaged, cut short, a page or a pointer instead of a file; named.
    """
    files = model_files(path)
    shapes: dict[str, tuple[int, ...]] = {}
    bytes_of: dict[str, int] = {}
    for file in files:
        found, found_bytes = _tensors(file)
        shapes |= found
        bytes_of |= found_bytes
    size = sum(file.stat().st_size for file in files)
    kind = kind_of(shapes)
    converted = is_safetensors(files[0])
    words = describe_keys(shapes)
    return Content(kind, words, len(shapes), size, None, shapes, bytes_of, converted)


def is_real(content: Content, released_size: int) -> bool | None:
    """Whether a file has the sizes of the releases, or None where nothing tells.

    Args:
        released_size: Bytes of the released file.
    """
    if content.kind in MEASURES:
        names, axis, expected = MEASURES[content.kind]
        for name in names:
            shape = content.shapes.get(name, ())
            if len(shape) > axis:
                return shape[axis] == expected
        return None
    if content.kind == "flame" and not content.converted:  # its counts are the same in both
        return content.size >= REAL_SHARE * released_size
    return None


def kind_of(shapes: Shapes) -> str:
    """The kind of a file by the names of its tensors; "" for a stranger."""
    keys = sort_released_keys(shapes)
    if keys.base and "patch_embed.proj.weight" in shapes and keys.has_adapter:
        return "transformer"
    if keys.has_adapter:
        return "adapter"
    looks = describe_keys(shapes)
    for words, kind in _KINDS.items():
        if looks == f"it looks like {words}":
            return kind
    return ""


_KINDS = {
    "an EVA02-CLIP checkpoint": "eva",
    "an EVA02-CLIP vision tower": "eva",
    "a T5 text encoder": "t5",
    "the CogVideoX VAE": "vae",
    "the DECA checkpoint": "deca",
    "a FLAME model": "flame",
    "the mesh transforms": "mesh tables",
    "the mesh tables": "mesh tables",
}


def _tensors(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    sniff(path)
    if is_safetensors(path):
        entries = read_header(path).entries
        return (
            {name: entry.shape for name, entry in entries.items()},
            {name: entry.end - entry.start for name, entry in entries.items()},
        )
    with path.open("rb") as file:
        legacy = file.read(len(LEGACY_TORCH_MAGIC)) == LEGACY_TORCH_MAGIC
    content = read_torch_file(path) if legacy or is_zip(path) else read_pickle(path)
    flat = {str(name): value for name, value in _flat(content)}
    shapes = {name: tuple(getattr(value, "shape", ())) for name, value in flat.items()}
    return shapes, {name: getattr(value, "nbytes", 0) for name, value in flat.items()}


def _flat(content: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Entries of a table, those of tables in it behind a dot."""
    found: list[tuple[str, Any]] = []
    for name, value in content.items():
        if isinstance(value, Mapping):
            found += [(f"{name}.{inner}", part) for inner, part in value.items()]
        else:
            found.append((name, value))
    return found
