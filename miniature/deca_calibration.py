"""Makes a random DECA encoder answer like a trained one: codes that differ from photo to photo.

A random network gives nearly the same code for every photo. So it is shown synthetic pictures, its
batch norms take the statistics they see, and its last layer is scaled until the codes spread as
FLAME coefficients do: shape and expression of order 1, pose a few degrees.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .layouts import DECA_CODE
from .weights import draw

PICTURES = 24
# (count, spread) of the groups of a code: shape, texture, expression, pose, camera, light
SPREADS = ((100, 0.9), (50, 0.5), (50, 0.3), (3, 0.05), (3, 0.02), (3, 0.5), (27, 0.5))
DIGITS = 4  # rounding, after double precision, hides the last bits in which machines differ

State = dict[str, Tensor]


def synthetic_pictures(seed: int) -> Tensor:
    """Paint colours, blurred and with edges, weak and strong: (24, 3, 224, 224) in [0, 1]."""
    total = torch.zeros(PICTURES, 3, 224, 224, dtype=torch.float64)
    for size, mode in ((3, "nearest"), (5, "bilinear"), (11, "nearest"), (28, "bilinear")):
        noise = draw(f"deca_pictures.{size}", (PICTURES, 3, size, size), seed).double()
        noise = (
            noise.mean(1, keepdim=True) + 0.5 * noise
        )  # colours of one place resemble each other
        corners = None if mode == "nearest" else False
        total += functional.interpolate(noise, (224, 224), mode=mode, align_corners=corners)
    contrast = (0.7 * draw("deca_pictures.contrast", (PICTURES, 1, 1, 1), seed).double()).exp()
    brightness = 0.2 * draw("deca_pictures.mean", (PICTURES, 3, 1, 1), seed).double()
    return (0.45 + brightness + 0.1 * contrast * total).clamp(0.0, 1.0)


def _rounded(values: Tensor) -> Tensor:
    return torch.round(values * 10**DIGITS) / 10**DIGITS


def _observe(features: Tensor, state: State, name: str) -> Tensor:
    """Apply a batch norm after it has taken the statistics of the features (B, C, H, W)."""
    state[f"{name}.running_mean"] = _rounded(features.mean((0, 2, 3)))
    state[f"{name}.running_var"] = _rounded(features.var((0, 2, 3)) + 1e-3)
    return functional.batch_norm(
        features,
        state[f"{name}.running_mean"],
        state[f"{name}.running_var"],
        state[f"{name}.weight"],
        state[f"{name}.bias"],
    )


def _block(features: Tensor, state: State, name: str, stride: int) -> Tensor:
    residual = features
    hidden = functional.conv2d(features, state[f"{name}.conv1.weight"])
    hidden = functional.relu(_observe(hidden, state, f"{name}.bn1"))
    hidden = functional.conv2d(hidden, state[f"{name}.conv2.weight"], stride=stride, padding=1)
    hidden = functional.relu(_observe(hidden, state, f"{name}.bn2"))
    hidden = functional.conv2d(hidden, state[f"{name}.conv3.weight"])
    hidden = _observe(hidden, state, f"{name}.bn3")
    if f"{name}.downsample.0.weight" in state:
        residual = functional.conv2d(residual, state[f"{name}.downsample.0.weight"], stride=stride)
        residual = _observe(residual, state, f"{name}.downsample.1")
    return functional.relu(hidden + residual)


def calibrate(state: State, blocks: tuple[int, ...], seed: int) -> State:
    """Give the encoder's tensors with fitted batch norms and a fitted last layer.

    Args:
        state: random tensors by the names inside `E_flame`.
        blocks: blocks of the four stages.
        seed: of the pictures.

    Returns:
        A new dict with the same names and shapes.
    """
    kinds = {name: tensor.dtype for name, tensor in state.items()}
    state = {name: tensor.double() for name, tensor in state.items()}
    features = functional.conv2d(
        synthetic_pictures(seed), state["encoder.conv1.weight"], stride=2, padding=3
    )
    features = functional.relu(_observe(features, state, "encoder.bn1"))
    features = functional.max_pool2d(features, 3, 2, 1)
    for stage, count in enumerate(blocks):
        for block in range(count):
            stride = 2 if stage and not block else 1
            features = _block(features, state, f"encoder.layer{stage + 1}.{block}", stride)
    pooled = features.mean((2, 3))
    state["layers.0.bias"] = _rounded(-pooled.mean(0) @ state["layers.0.weight"].T)
    hidden = functional.relu(
        functional.linear(pooled, state["layers.0.weight"], state["layers.0.bias"])
    )
    raw = hidden @ state["layers.2.weight"].T
    wanted = torch.cat(
        [torch.full((count,), spread, dtype=torch.float64) for count, spread in SPREADS]
    )
    if len(wanted) != DECA_CODE:
        raise ValueError(f"the spreads name {len(wanted)} numbers, a DECA code has {DECA_CODE}")
    scale = _rounded(wanted / raw.std(0))
    state["layers.2.weight"] = state["layers.2.weight"] * scale[:, None]
    state["layers.2.bias"] = _rounded(-(raw * scale).mean(0))
    return {name: tensor.to(kinds[name]) for name, tensor in state.items()}
