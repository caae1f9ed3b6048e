"""Pictures during sampling: the host has none for this latent format, so we bring our own.

The map from latent to RGB rides on the conditioning, next to the face latent that it was fitted
to, and so reaches the sampler of every graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.utils
import latent_preview
import numpy as np
from comfy.cli_args import LatentPreviewMethod
from PIL import Image
from torch import Tensor

from ..cogvideox.preview import latent_to_rgb

FACTORS_KEY = "fantasyid_rgb_factors"
LONGEST_SIDE_PX = 512


def preview_sender(model_wrap: Any, steps: int) -> Callable[[int, Tensor], None]:
    """What to call after each step with its number and its denoised latents `(B, 16, T, h, w)`.

    Sends nothing where the user has switched previews off, or where there was no face to fit
    the map to.
    """
    conditioning = model_wrap.conds.get("positive") or [{}]
    factors = conditioning[0].get(FACTORS_KEY)
    off = latent_preview.args.preview_method == LatentPreviewMethod.NoPreviews
    if factors is None or off:
        return lambda _step, _denoised: None
    progress = comfy.utils.ProgressBar(steps)

    def send(step: int, denoised: Tensor) -> None:
        latents = model_wrap.inner_model.process_latent_out(denoised[:1].float())
        rgb = latent_to_rgb(latents[0, :, latents.shape[2] // 2], factors)
        picture = Image.fromarray((rgb * 255).round().cpu().numpy().astype(np.uint8))
        progress.update_absolute(step + 1, steps, ("JPEG", picture, LONGEST_SIDE_PX))

    return send
