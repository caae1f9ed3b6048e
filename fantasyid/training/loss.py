"""The training loss: mean squared error on v, schedule and loss in float32.

Peers write it as a weighted loss on x0, `w = 1 / (1 - alpha)`; both are the same function, and
this form is exact at every timestep, also in reduced precision. Sources: paper 3.1 and 4.1,
docs/released-model.md, section 7; Salimans and Ho, arXiv 2202.00512, for v.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..cogvideox.schedule import TRAINING_STEPS, alphas_cumprod


def draw_timesteps(uniform: Tensor, power: float = 1.0) -> Tensor:
    """Timesteps 0..999 from uniform numbers in [0, 1); a power below 1 draws late ones more."""
    return (uniform.double() ** power * TRAINING_STEPS).long().clamp(max=TRAINING_STEPS - 1)


def noised(clean: Tensor, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """The network's input and its target.

    Args:
        clean: `(B, ...)` latents x0.
        noise: Standard normal, like `clean`.
        timesteps: `(B,)` 0..999.

    Returns:
        `sqrt(alpha) x0 + sqrt(1 - alpha) noise` and
        `v = sqrt(alpha) noise - sqrt(1 - alpha) x0`, float32.
    """
    alpha = alphas_cumprod().to(clean.device)[timesteps]
    shape = (-1, *[1] * (clean.ndim - 1))
    # Roots of float64 numbers: near t = 0, 1 - alpha is far below float32's spacing around 1.
    signal = alpha.sqrt().float().view(shape)
    spread = (1.0 - alpha).sqrt().float().view(shape)
    clean, noise = clean.float(), noise.float()
    return signal * clean + spread * noise, signal * noise - spread * clean


def frame_weights(num_frames: int, late: float, like: Tensor) -> Tensor:
    """`(F, 1, 1, 1)` weights with mean 1, the last latent frame `late` times the first."""
    weights = torch.linspace(1.0, late, num_frames, device=like.device)
    return (weights / weights.mean()).view(-1, 1, 1, 1)


def velocity_loss(
    predicted: Tensor,
    target: Tensor,
    weight: Tensor,
    mask: Tensor | None = None,
    late_frames: float = 1.0,
) -> Tensor:
    """Mean squared error per sample, then the mean over the batch.

    Args:
        predicted: `(B, F, C, H, W)` in any dtype.
        target: Like it.
        weight: `(B,)`; 0 for a sample that could not be read, so that it counts as nothing.
        mask: `(B, F, 1, H, W)` in [0, 1]: the error is averaged inside it; rows of ones are plain.
        late_frames: Weight of the last latent frame against the first.

    Returns:
        A float32 scalar.
    """
    error = (predicted.float() - target.float()).square()
    if late_frames != 1.0:
        error = error * frame_weights(error.shape[1], late_frames, error)
    axes = tuple(range(1, error.ndim))
    if mask is None:
        each = error.mean(axes)
    else:
        inside = mask.float().expand_as(error)
        each = (error * inside).sum(axes) / inside.sum(axes).clamp_min(1.0)
    return (each * weight.float()).mean()
