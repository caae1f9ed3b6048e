"""Checkpoints of a run: there whole or not at all, and enough to go on bit for bit.

A checkpoint is a folder `checkpoint-000250` with the trained weights, their moving average, the
optimizer's state and a few numbers. It is written under another name and renamed when all of it
is on the disk, so that a kill at any moment leaves the one before as the newest.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.optim import Optimizer

from .manifest import DataError

# Whole tensors on the CPU, whatever the devices hold; the frozen base stays where it came from.
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
LOAD = StateDictOptions(full_state_dict=True, strict=False)
WEIGHTS, EMA, OPTIMIZER, STATE = (
    "weights.safetensors",
    "ema.safetensors",
    "optimizer.pt",
    "state.json",
)


class Average:
    """The exponential moving average of the trained weights, on the weights' own devices."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters = [p for p in network.parameters() if p.requires_grad and decay > 0]
        self.shadow = [p.detach().clone().float() for p in self.parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step; early steps count more, so that it starts unbiased."""
        if not self.parameters:
            return
        decay = min(self.decay, (1 + step) / (10 + step))
        weights = [parameter.detach().float() for parameter in self.parameters]
        torch._foreach_lerp_(self.shadow, weights, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the weights and their average; twice is as before."""
        for parameter, average in zip(self.parameters, self.shadow, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(kept)


def averaged_weights(network: nn.Module, average: Average) -> dict[str, Tensor]:
    """The trained weights' average under the network's names, whole and on the CPU."""
    average.swap()
    try:
        # Copies: on a CPU the state dict shares the memory of the weights, which are swapped back.
        state_dict: Any = get_model_state_dict(network, options=WHOLE)
        return {name: tensor.clone() for name, tensor in state_dict.items()}
    finally:
        average.swap()


def save_checkpoint(
    out: Path,
    step: int,
    network: nn.Module,
    optimizer: Optimizer,
    average: Average,
    state: dict[str, Any],
    is_main: bool,
    keep: int,
) -> Path:
    """Write a checkpoint; every process takes part, the main one writes.

    Raises:
        DataError: The disk is full; nothing is left under the final name.
    """
    weights: Any
    weights, moments = get_state_dict(network, optimizer, options=WHOLE)
    averaged = averaged_weights(network, average)
    target = out / f"checkpoint-{step:06d}"
    if not is_main:
        return target
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        save_file({k: v.contiguous() for k, v in weights.items()}, partial / WEIGHTS)
        save_file({k: v.contiguous() for k, v in averaged.items()}, partial / EMA)
        torch.save(moments, partial / OPTIMIZER)
        (partial / STATE).write_text(json.dumps(state, indent=1), "utf-8")
        if target.exists():
            _remove(target)
        os.replace(partial, target)
    except (OSError, SafetensorError, RuntimeError) as error:  # RuntimeError: torch.save's
        shutil.rmtree(partial, ignore_errors=True)
        raise DataError(
            f"{target} cannot be written ({error}): free some space and start again; the "
            "run goes on from the checkpoint before"
        ) from error
    for old in checkpoints(out)[: -max(1, keep)]:
        with contextlib.suppress(OSError):
            _remove(old)
    return target


def _remove(checkpoint: Path) -> None:
    """Under a name that the next start clears away: a kill leaves no half of it as a checkpoint."""
    gone = checkpoint.with_name(f"{checkpoint.name}.old.partial")
    shutil.rmtree(gone, ignore_errors=True)
    os.replace(checkpoint, gone)
    shutil.rmtree(gone, ignore_errors=True)


def checkpoints(out: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    found = out.glob("checkpoint-" + "[0-9]" * 6)
    return sorted(path for path in found if (path / STATE).is_file())


def load_checkpoint(
    path: Path, network: nn.Module, optimizer: Optimizer, average: Average
) -> dict[str, Any]:
    """Put a checkpoint into a network, its optimizer and its average; returns its state.

    Raises:
        DataError: A file of it is damaged.
    """
    try:
        state = json.loads((path / STATE).read_text("utf-8"))
        moments = torch.load(path / OPTIMIZER, map_location="cpu", weights_only=True)
        weights: Any = load_file(path / WEIGHTS)
        averaged: Any = load_file(path / EMA)
    except Exception as error:
        raise DataError(
            f"{path} is damaged ({type(error).__name__}): delete the folder; the run then goes on "
            "from the one before"
        ) from error
    set_state_dict(
        network, optimizer, model_state_dict=averaged, optim_state_dict=moments, options=LOAD
    )
    with torch.no_grad():
        for shadow, parameter in zip(average.shadow, average.parameters, strict=True):
            shadow.copy_(parameter)
    set_state_dict(
        network, optimizer, model_state_dict=weights, optim_state_dict=moments, options=LOAD
    )
    return state
