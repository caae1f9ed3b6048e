"""What a step minimizes and with what, and where numbers first go wrong."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .batches import Batch
from .config import Config
from .loss import noised, velocity_loss
from .manifest import DataError


def loss_of(network: nn.Module, batch: Batch, config: Config) -> Tensor:
    """The loss of a batch."""
    noisy, target = noised(batch.clean, batch.noise, batch.timesteps)
    predicted = network(noisy, batch)
    mask = batch.mask if config.train.mask_loss else None
    return velocity_loss(predicted, target, batch.weight, mask, config.train.late_frames)


def make_optimizer(network: nn.Module, config: Config) -> torch.optim.Optimizer:
    """AdamW; vectors and tables are not decayed."""
    train = config.train
    trained = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": train.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    kind: Any = partial(torch.optim.AdamW, fused=True)
    if train.optimizer == "adamw8bit":
        try:
            from bitsandbytes.optim import AdamW8bit as kind  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise DataError(
                "train.optimizer = 'adamw8bit' needs bitsandbytes: pip install bitsandbytes"
            ) from error
    return kind(groups, lr=train.learning_rate, betas=train.betas)


@torch.no_grad()
def first_bad_layer(network: nn.Module, parts: list[Batch], config: Config) -> str:
    """The name of the first module whose weights, gradient or output are not finite."""
    for name, parameter in network.named_parameters():
        for what, value in (("weights", parameter), ("gradient", parameter.grad)):
            if value is not None and not torch.isfinite(value).all():
                return f"{name} ({what})"
    found: list[str] = []

    def look(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not found and not torch.isfinite(output).all():
                found.append(f"{name} (output)")

        return hook

    with ExitStack() as stack:
        for name, module in network.named_modules():
            stack.callback(module.register_forward_hook(look(name)).remove)
        for batch in parts:
            device = next(network.parameters()).device
            loss_of(network, batch.to(device), config)
    return found[0] if found else "none alone"
