"""From a latent video to pixels, in the steps of the released pipeline."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.utils
import torch
from comfy.ldm.cogvideo.vae import AutoencoderKLCogVideoX
from torch import Tensor

from .latents import LATENT_CHANNELS
from .numbers import is_finite

TILES = ("auto", "never", "always")
STEP = 2  # latent frames
# At the trained size four parts, each with a third of the memory of the whole.
TILE, OVERLAP = (36, 50), 8
TILED = (
    "Decoded in parts that overlap, for want of memory or because tiles is always: the released "
    "pipeline decodes the whole picture at once, and the pixels differ a little"
)


def decode_as_released(samples: Tensor, vae: Any, tiles: str = "auto") -> tuple[Tensor, bool]:
    """Decode on the host's VAE object, which stays as it is.

    Released behavior: the decoder sees two latent frames at a time, at first three. Its group norms
    are taken over what it sees, so other steps, such as those of the host's own decode, give other
    pixels.

    Args:
        samples: `(B, 16, T, H, W)`, T odd.
        vae: The host's VAE object around a CogVideoX VAE.
        tiles: "auto" takes the whole picture where the memory is enough, "never" always, "always"
            parts that overlap.

    Returns:
        The frames `(B (4 T - 3), 8 H, 8 W, 3)` in [0, 1], and whether they were decoded in parts.

    Raises:
        ValueError: Another VAE, an impossible shape, or pixels that are not numbers.
    """
    _check(samples, vae)
    vae.throw_exception_if_invalid()
    step = (1, LATENT_CHANNELS, STEP + 1, *samples.shape[-2:])
    needed = vae.memory_used_decode(step, vae.vae_dtype)
    tiled = tiles == "always"
    videos = []
    with comfy.model_management.cuda_device_context(vae.device):
        comfy.model_management.load_models_gpu(
            [vae.patcher], memory_required=needed, force_full_load=vae.disable_offload
        )
        if tiles == "auto":
            tiled = vae.patcher.get_free_memory(vae.device) < needed
        for video in samples.split(1):
            pixels = None
            if not tiled:
                try:
                    pixels = _steps(video, vae)
                except Exception as error:  # the host knows many kinds of being out of memory
                    comfy.model_management.raise_non_oom(error)
                    if tiles == "never":
                        raise
            if pixels is None:  # after the except block, whose error holds on to the memory
                tiled = True
                comfy.model_management.soft_empty_cache()
                pixels = _in_parts(video, vae)
            if not is_finite(pixels):
                raise ValueError(
                    f"the vae input decodes to values that are not numbers (NaN or infinity) in "
                    f"{vae.vae_dtype}: start ComfyUI with --fp32-vae or --bf16-vae"
                )
            videos.append(vae.process_output(pixels).movedim(1, -1).flatten(0, 1))
    return torch.cat(videos), tiled


def _check(samples: Tensor, vae: Any) -> None:
    if not isinstance(getattr(vae, "first_stage_model", None), AutoencoderKLCogVideoX):
        raise ValueError(
            "the vae input is no CogVideoX VAE, whose decoder alone knows these latents: load "
            "cogvideox_vae.safetensors"
        )
    shape = tuple(samples.shape)
    if len(shape) != 5 or shape[1] != LATENT_CHANNELS or not shape[2] % 2:
        raise ValueError(
            f"the samples input has the shape {shape}: a CogVideoX video has the shape (batch, "
            f"{LATENT_CHANNELS}, frames, height, width) with 1, 3, 5, ... latent frames, which is "
            "what FantasyID Face Latent makes"
        )


def _steps(video: Tensor, vae: Any) -> Tensor:
    """`(1, 3, 4 T - 3, 8 H, 8 W)` in [-1, 1] of one video, step by step."""
    decoder, frames = vae.first_stage_model.decoder, video.shape[2]
    starts = [0, *range(STEP + 1, frames, STEP)]
    progress = comfy.utils.ProgressBar(len(starts))
    seen, pixels = None, []
    for start, end in zip(starts, [*starts[1:], frames], strict=True):
        comfy.model_management.throw_exception_if_processing_interrupted()
        part = video[:, :, start:end].to(vae.device, vae.vae_dtype)
        made, seen = decoder(part, conv_cache=seen)
        pixels.append(made.to(vae.output_device, vae.vae_output_dtype()))
        progress.update(1)
    return torch.cat(pixels, dim=2)


def _in_parts(video: Tensor, vae: Any) -> Tensor:
    """Like `_steps`, from parts of the picture, joined by the host."""
    sides = TILE if video.shape[-1] >= video.shape[-2] else TILE[::-1]
    overlap: Any = (1, OVERLAP, OVERLAP)  # the host takes a number or one for each axis
    return comfy.utils.tiled_scale_multidim(
        video,
        lambda part: _steps(part, vae),
        tile=(video.shape[2], *sides),
        overlap=overlap,
        upscale_amount=vae.upscale_ratio,
        index_formulas=vae.upscale_index_formula,
        out_channels=3,
        output_device=vae.output_device,
    )
