"""One identity with its dials: what is injected, with which factors, or why nothing is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import torch
from torch import Tensor

from ..identity import Identity
from .layers import InjectionConfig, injected_blocks, weigh_values
from .steering import OWN, Steering


@dataclass(frozen=True, slots=True, eq=False)
class AppliedIdentity:
    """One identity, ready for the hooks."""

    injectors: Any  # the host's patcher of `LayerInjectors`
    keys_values: Tensor  # `(L, 2, 1, K, C)` of L injectors, on the CPU, in the model's dtype
    num_face_tokens: int  # how many of the K are face tokens
    steering: Steering  # the dials
    factors: tuple[float, ...]  # constant factor of each injector

    def weighed(self, device: torch.device, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
        """Keys and values per injector on a device, with the constant dials in the values."""
        own, shared = self.keys_values, self.steering.shared_layer
        moved = (own if shared == OWN else own[shared].expand_as(own)).to(device, dtype)
        pairs = []
        for (keys, values), factor in zip(moved, self.factors, strict=True):
            values = weigh_values(
                values, self.num_face_tokens, self.steering.looks, self.steering.shape
            )
            pairs.append((keys, values if factor == 1.0 else values * factor))
        return pairs


class NothingApplied(Enum):
    """Why an identity adds nothing."""

    EMPTY_IDENTITY = auto()
    NO_STRENGTH = auto()
    NEITHER_LOOKS_NOR_SHAPE = auto()
    NO_LAYER = auto()


def nothing_applied(
    identity: Identity, steering: Steering, config: InjectionConfig
) -> NothingApplied | None:
    """Why these dials inject nothing; None where they inject something.

    Raises:
        ValueError: The layer weights do not fit the injectors.
    """
    factors = steering.per_layer(config.num_injectors)
    if identity.is_empty:
        return NothingApplied.EMPTY_IDENTITY
    if steering.strength == 0.0:
        return NothingApplied.NO_STRENGTH
    if steering.looks == 0.0 and steering.shape == 0.0:
        return NothingApplied.NEITHER_LOOKS_NOR_SHAPE
    return None if any(factors) else NothingApplied.NO_LAYER


def check_fit(config: InjectionConfig, source: str, dim: int, num_blocks: int) -> None:
    """An adapter must be made for a transformer of this width and depth.

    Args:
        config: Sizes of the adapter's injectors.
        source: Where the adapter comes from, for the error.
        dim: Width of the transformer.
        num_blocks: Blocks of the transformer.

    Raises:
        ValueError: Names both sizes.
    """
    if dim != config.dim:
        raise ValueError(
            f"the model is {dim} wide, the adapter {source} is made for {config.dim}: they come "
            "from different checkpoints (tiny and real parts mixed?)"
        )
    injected_blocks(num_blocks, config.num_injectors)
