"""Blocks of the frozen base that wait in main memory and are copied to the device when they run.

One way only: the weights do not change, so nothing is ever copied back. With gradient
checkpointing a block runs twice, and the tensors that its backward needs live until it is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


def keep_on_host(blocks: Sequence[nn.Module], device: torch.device) -> None:
    """Let blocks wait in (pinned) main memory; each comes to the device for its own call.

    Args:
        blocks: Frozen; their forward hooks run while their weights are on the device.
        device: Where they compute.

    Raises:
        ValueError: A block has parameters that are trained.
    """
    for number, block in enumerate(blocks):
        if any(parameter.requires_grad for parameter in block.parameters()):
            raise ValueError(f"block {number} is trained: only a frozen base can be swapped")
        waiting = {}
        for parameter in block.parameters():
            home = parameter.data.to("cpu")
            waiting[parameter] = home.pin_memory() if device.type == "cuda" else home
            parameter.data = waiting[parameter]

        def fetch(_block: nn.Module, _inputs: Any, waiting: dict = waiting) -> None:
            for parameter, home in waiting.items():
                parameter.data = home.to(device, non_blocking=True)

        def leave(_block: nn.Module, _inputs: Any, _output: Any, waiting: dict = waiting) -> None:
            for parameter, home in waiting.items():
                parameter.data = home

        block.register_forward_pre_hook(fetch)
        block.register_forward_hook(leave, always_call=True)
