"""Layer-aware injection into a transformer: a forward hook behind each block with an injector.

Any blocks do that return `(hidden_states, encoder_hidden_states)`: those of the host's CogVideoX
and those of diffusers' `CogVideoXTransformer3DModel`. Nothing else of the transformer is touched.

Source: paper section 3.5, equation 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .layers import InjectedIdentity, LayerInjector, injected_blocks

# Small videos are measured at all video tokens, large ones at every seventh: a seventh shares no
# factor with the usual numbers of columns, and the cost stays far below 1 % of a block.
MEASURED_ALL, MEASURED_EVERY = 4096, 7


class BlockHook:
    """The hook behind one block, and what it adds there.

    The object is made once and filled before each call of the transformer, so that a compiled
    transformer sees the same callable at every step.

    Attributes:
        groups: Per injector, the identities for it; without any the block is left alone.
        measure: Whether to keep `norms`.
        norms: `(2, B)` of the last call: length of the residual and of the hidden states.
    """

    def __init__(self) -> None:
        self.groups: list[tuple[LayerInjector, list[InjectedIdentity]]] = []
        self.measure = False
        self.norms: Tensor | None = None

    def add(self, injector: LayerInjector, identity: InjectedIdentity) -> None:
        """One more identity; those of one injector share its queries and its output projection."""
        for known, identities in self.groups:
            if known is injector:
                identities.append(identity)
                return
        self.groups.append((injector, [identity]))

    def clear(self) -> None:
        """Let go of every tensor."""
        self.groups, self.norms = [], None

    def __call__(self, _block: nn.Module, _inputs: Any, output: Any) -> tuple[Tensor, Tensor]:
        """Called by torch with what the block returned."""
        if not isinstance(output, (tuple, list)) or len(output) != 2:
            raise ValueError(
                f"a block of the transformer returned a {type(output).__name__}, expected video "
                "and text hidden states as a pair: update ComfyUI-FantasyID, or take the ComfyUI "
                "(in training, the diffusers) that its README names"
            )
        hidden_states, encoder_hidden_states = output  # (B, N, dim), (B, L, dim)
        (injector, identities), *others = self.groups
        residual = injector(hidden_states, identities)  # (B, N, dim)
        for injector, identities in others:
            residual = residual + injector(hidden_states, identities)
        if self.measure:
            step = MEASURED_EVERY if hidden_states.shape[1] > MEASURED_ALL else 1
            lengths = [
                torch.linalg.vector_norm(part[:, ::step], dim=(1, 2), dtype=torch.float32)
                for part in (residual, hidden_states)
            ]
            self.norms = torch.stack(lengths)
        if residual.requires_grad or residual.dtype != hidden_states.dtype:
            return hidden_states + residual, encoder_hidden_states
        return residual.add_(hidden_states), encoder_hidden_states  # nobody else holds it


@contextmanager
def injected(
    blocks: Sequence[nn.Module] | nn.ModuleList, hooks: Sequence[BlockHook]
) -> Iterator[None]:
    """Inject behind the blocks of a transformer for the length of a `with` block.

    With gradient checkpointing a block runs again in the backward pass, so `backward` belongs
    inside the `with` too.

    Args:
        blocks: All blocks, in order.
        hooks: One per injector; those without an identity are left out.

    Raises:
        ValueError: The blocks are not a multiple of the hooks.
    """
    numbers = injected_blocks(len(blocks), len(hooks))
    handles = []
    try:
        for hook, number in zip(hooks, numbers, strict=True):
            if hook.groups:
                handles.append(blocks[number].register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()
