"""Latent to RGB: a linear map fitted to the user's own VAE, for pictures during sampling.

The face crop is encoded anyway; its latent and its pixels, averaged over 8x8 blocks, are some
thousand pairs of 16 numbers and a color. Least squares on them gives the map, so no table of
numbers for one particular VAE is needed.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, pad

RIDGE = 1e-3  # relative to the mean square of the latents; keeps a flat crop from blowing up


def fit_rgb_factors(latent: Tensor, image: Tensor) -> Tensor:
    """Fit the map from a latent to the picture that it encodes.

    Args:
        latent: `(C, h, w)` of one frame, as the VAE gives it.
        image: `(H, W, 3)` RGB in [0, 1], what was encoded.

    Returns:
        `(C + 1, 3)`: a row per channel, and the offset last.
    """
    rows, columns = latent.shape[1:]
    colors = adaptive_avg_pool2d(rearrange(image.double(), "h w c -> c h w"), (rows, columns))
    targets = rearrange(colors, "c h w -> (h w) c")
    features = pad(rearrange(latent.double(), "c h w -> (h w) c"), (0, 1), value=1.0)
    gram = features.T @ features
    damping = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    return torch.linalg.solve(gram + damping.to(gram), features.T @ targets).float()


def latent_to_rgb(latent: Tensor, factors: Tensor) -> Tensor:
    """A small picture of one latent frame.

    Args:
        latent: `(C, h, w)` as the VAE takes it.
        factors: `(C + 1, 3)` from `fit_rgb_factors`.

    Returns:
        `(h, w, 3)` RGB in [0, 1].
    """
    features = pad(rearrange(latent.float(), "c h w -> h w c"), (0, 1), value=1.0)
    return (features @ factors.to(features)).clamp(0.0, 1.0)
