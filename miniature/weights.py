"""Random weights that are drawn from the name of each tensor, at scales that keep signals alive."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import torch
from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]

# Factors on the standard deviation of a matrix, by a part of its name. The defaults keep the size
# of activations; these make attention choose instead of averaging, and make an injected identity
# visible: it adds 5 to 20 percent to the hidden states.
GAINS = {
    "layer_attention.": {"to_q.weight": 1.6, "to_out.weight": 0.2},
    "attn1.": {"to_out.0.weight": 1.4},
    "vertex_spiral_net.transformer.": {"to_qkv.weight": 1.5},
}
NORM_GAINS = {"attn1.norm_q.weight": 1.6, "attn1.norm_k.weight": 1.6}
TABLES = {"vtx_query": 1.0, "pos_embedding": 0.25, "latents": 0.1}


def draw(name: str, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Draw standard normal numbers that depend on the name, the shape and the seed only."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return torch.randn(shape, generator=generator, dtype=torch.float32)


def _gain(name: str) -> float:
    for group, rules in GAINS.items():
        if group in name:
            for ending, factor in rules.items():
                if name.endswith(ending):
                    return factor
    return 1.0


def tiny_weight(name: str, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Make one tensor by the released name of a parameter or buffer.

    Norm weights lie near 1, biases near 0, variances above 0; matrices keep the size of what flows
    through them; bare tables get the size that `TABLES` names, else 0.1.
    """
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    noise = draw(name, shape, seed)
    if leaf == "running_var":
        return 1.0 + 0.1 * noise.abs()
    if len(shape) <= 1:
        if leaf != "weight":
            return 0.02 * noise
        factor = next((f for ending, f in NORM_GAINS.items() if name.endswith(ending)), 1.0)
        return factor * (1.0 + 0.1 * noise)
    if leaf == "weight":
        return _gain(name) * noise / math.sqrt(math.prod(shape[1:]))
    if len(shape) == 2:  # a bare matrix, used as `x @ matrix`
        return noise / math.sqrt(shape[0])
    return TABLES.get(leaf, 0.1) * noise


def tiny_state_dict(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Make a state dict by released names: see `tiny_weight`."""
    return {name: tiny_weight(name, tuple(shape), seed) for name, shape in shapes.items()}
