"""From a checkpoint to files that the nodes load: released key names, and where they come from."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..weights.content import TRAINED
from ..weights.fingerprint import sha256_of_file
from ..weights.keys import to_released
from .checkpoint import EMA, STATE, WEIGHTS, checkpoints
from .config import Config, as_plain
from .manifest import MANIFEST, DataError
from .progress import METRICS

PART_OF = {
    "abstractor": "abstractor",
    "fusion": "fusion",
    "keys_values": "injection",
    "injectors": "injection",
}


def export(config: Config, target: Path, raw: bool, dtype: torch.dtype) -> Path:
    """Write the adapter of the newest checkpoint, and beside it the base where it was trained.

    Args:
        target: `.safetensors` file of the adapter; a trained base goes to `<name>_base`, a LoRA to
            `<name>_lora`.
        raw: The weights as they are, in place of their moving average.
        dtype: To store in.

    Raises:
        DataError: There is no checkpoint, or the target is there already.
    """
    found = checkpoints(config.train.out)
    if not found:
        raise DataError(f"there is no checkpoint in {config.train.out}: train first")
    if target.exists():
        raise DataError(f"{target} is there already: give another name, or move it away")
    weights = load_file(found[-1] / (WEIGHTS if raw else EMA))
    metadata = {TRAINED: json.dumps(provenance(config, found[-1], raw), sort_keys=True)}
    for suffix, tensors in split_weights(weights).items():
        if tensors:
            path = target.with_name(f"{target.stem}{suffix}.safetensors")
            _write({k: v.to(dtype).contiguous() for k, v in tensors.items()}, path, metadata)
    return target


def split_weights(weights: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Trained weights by the file they belong to, under the names that are read again.

    Returns:
        By suffix of the file's name: "" the adapter in released names, "_base" the transformer in
        diffusers' names, "_lora" its LoRA.
    """
    files: dict[str, dict[str, Tensor]] = {"": {}, "_base": {}, "_lora": {}}
    for name, tensor in weights.items():
        part, _, key = name.partition(".")
        if part != "transformer":
            files[""] |= to_released(PART_OF[part], {key: tensor})
        elif "lora_" in key:
            files["_lora"][f"transformer.{key.replace('.default.', '.')}"] = tensor
        else:
            files["_base"][key] = tensor
    return files


def provenance(config: Config, checkpoint: Path, raw: bool) -> dict[str, object]:
    """What a file says of its training: configuration, data, steps, the last validation."""
    state = json.loads((checkpoint / STATE).read_text("utf-8"))
    manifest = config.work / "curated" / MANIFEST
    metrics = config.train.out / METRICS
    rows = (
        [json.loads(line) for line in metrics.read_text("utf-8").splitlines()]
        if (metrics.is_file())
        else []
    )
    measured = [row for row in rows if "validation" in row]
    return {
        "config": as_plain(config.model) | as_plain(config.train) | {"out": config.train.out.name},
        "config_fingerprint": config.fingerprint(),
        "data_fingerprint": sha256_of_file(manifest) if manifest.is_file() else "",
        "step": state["progress"]["step"],
        "weights": "raw" if raw else "ema",
        "validation": measured[-1]["validation"] if measured else None,
    }


def _write(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    try:
        save_file(tensors, partial, metadata)
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise DataError(f"{path} cannot be written: {error}") from error
