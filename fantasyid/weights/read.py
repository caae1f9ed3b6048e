"""Files of weights: found, told apart by their content, and opened without running anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .describe import describe_keys
from .header import SUFFIXES, Form, read_header, read_json, sniff
from .torch_file import load_torch_file

# Of a released model.
TRANSFORMER_FOLDERS = ("transformer_ema", "transformer")


def read_weights(
    path: Path, read_safetensors: Callable[[Path], dict[str, Tensor]] | None = None
) -> dict[str, Any]:
    """Read a file of weights: safetensors or torch, told apart by its content.

    Args:
        read_safetensors: Opens a safetensors file whose header was found right; by default the
            library's own function.

    Raises:
        ValueError: The file is damaged, or holds something other than tensors.
    """
    if sniff(path) is not Form.SAFETENSORS:
        return read_torch_file(path)
    read_header(path)
    try:
        return load_file(path) if read_safetensors is None else read_safetensors(path)
    except (SafetensorError, RuntimeError, KeyError) as error:
        raise ValueError(f"{path} is a damaged safetensors file: {_first_line(error)}") from error


def read_torch_file(path: Path) -> dict[str, Any]:
    """Read a `.pt`, `.pth`, `.bin` or `.tar` of torch, tensors only.

    They are mapped into memory: pages are read when they are used.

    Raises:
        ValueError: The file is no torch file, or holds something other than tensors and plain
            containers (which is never executed).
    """
    if path.suffix in SUFFIXES and sniff(path) is not Form.SAFETENSORS:
        raise ValueError(f"{path} is no safetensors file but one of torch: rename it to .pt")
    sniff(path)  # names what is often saved instead
    try:
        content = load_torch_file(path)
    except ValueError as error:
        raise ValueError(
            f"{path} cannot be read as a torch file of plain tensors: {error}. If it is one, load "
            "it where it was made and save the tensors alone, best as safetensors"
        ) from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected a dict of tensors")
    return content


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def only_tensors(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The content of a file that must be a flat table of tensors.

    Raises:
        ValueError: Something in it is no tensor.
    """
    others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise ValueError(
            f"{path} is no table of tensors: {', '.join(others[:5])} are something else; "
            f"{describe_keys(content)}"
        )
    return dict(content)


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a transformer folder's weights.

    Raises:
        FileNotFoundError: There is none, or a shard that the index names is missing.
        ValueError: The index is no index.
    """
    for pattern in ("*.safetensors.index.json", "*.bin.index.json"):
        for index in sorted(folder.glob(pattern)):
            return _shards(index)
    # Released behavior: the .bin file wins over .safetensors where there is no index.
    for pattern in ("diffusion_pytorch_model.bin", "*.safetensors"):
        files = sorted(folder.glob(pattern))
        if files:
            return files
    raise FileNotFoundError(
        f"no weights in {folder}: expected diffusion_pytorch_model.safetensors, its shards with "
        "an index, or diffusion_pytorch_model.bin"
    )


def _shards(index: Path) -> list[Path]:
    folder = index.parent
    try:
        names = sorted(set(read_json(index)["weight_map"].values()))
        # A name that leads out of the folder would read somebody else's file.
        strange = [n for n in names if n in ("", ".", "..") or set(n) & set("/\\:")]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is no index of shards: {_first_line(error)}") from error
    if strange:
        raise ValueError(f"{index} names files outside its folder: {', '.join(strange[:5])}")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{index} names {len(names)} shards, {len(missing)} are missing in {folder}: "
            f"{', '.join(missing[:5])}"
        )
    return [folder / name for name in names]


def transformer_folder(path: Path) -> Path:
    """The folder with the weights inside a released model folder.

    Released behavior: `transformer_ema` wins over `transformer`.
    """
    for name in TRANSFORMER_FOLDERS:
        if (path / name).is_dir():
            return path / name
    return path


def model_files(path: Path) -> list[Path]:
    """All files behind a released folder, its transformer folder, or a single file."""
    folder = transformer_folder(path)
    return weight_files(folder) if folder.is_dir() else [folder]


def read_model(
    path: Path, read_safetensors: Callable[[Path], dict[str, Tensor]] | None = None
) -> dict[str, Tensor]:
    """All tensors of a released folder or single file, under the file's own names.

    Raises:
        FileNotFoundError: There are no weights, or a shard is missing.
        ValueError: A file is damaged, or a tensor stands in two files.
    """
    found: dict[str, Tensor] = {}
    for file in model_files(path):
        content = only_tensors(read_weights(file, read_safetensors), file)
        twice = sorted(found.keys() & content.keys())
        if twice:
            raise ValueError(
                f"{file} repeats {len(twice)} tensors of the files before it: "
                f"{', '.join(twice[:5])}; keep one set of weights in the folder"
            )
        found |= content
    return found
