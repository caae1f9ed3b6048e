"""The face in the image-to-video channels, and the latent video of the right size."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.utils
import node_helpers
import torch
from torch import Tensor

from ..cogvideox.preview import fit_rgb_factors
from ..identity import FaceCrops
from ..weights.describe import in_print
from .images import check_photos
from .previews import FACTORS_KEY

LATENT_CHANNELS = 16
SIDE_STEP, SIDE_MAX, LENGTH_MAX = 16, 2048, 1017


def validate_size(width: int, height: int, length: int) -> str | None:
    """Why the model cannot make a video of a size, in a sentence; None when it can."""
    for name, value in (("width", width), ("height", height), ("length", length)):
        if not isinstance(value, int):  # the host asks also about what it could not convert
            return f"{name} is {in_print(value)}: expected a whole number"
    for name, side in (("width", width), ("height", height)):
        if side % SIDE_STEP or not SIDE_STEP <= side <= SIDE_MAX:
            near = min(max(round(side / SIDE_STEP), 1) * SIDE_STEP, SIDE_MAX)
            return (
                f"{name} is {side}: the model needs multiples of {SIDE_STEP} up to {SIDE_MAX} "
                f"pixels; the nearest is {near}"
            )
    if length % 8 != 1 or not 1 <= length <= LENGTH_MAX:
        near = min(max(round((length - 1) / 8), 0) * 8 + 1, LENGTH_MAX)
        # An even number of latent frames decodes to three frames too many in ComfyUI, and fails in
        # its tiled decoder: said here, not after the sampling.
        return (
            f"length is {length} frames: ComfyUI decodes 8 k + 1 of them (1, 9, ..., 49) up to "
            f"{LENGTH_MAX}; the nearest is {near}"
        )
    return None


def _start_frames(image: Tensor, length: int) -> Tensor:
    """The first 4 k + 1 frames, RGB, no more than the video has."""
    frames = check_photos(image)[..., :3]
    count = (min(frames.shape[0], length) - 1) // 4 * 4 + 1
    return frames[:count]


def face_latent(
    positive: list,
    negative: list,
    vae: Any,
    face: FaceCrops,
    width: int,
    height: int,
    length: int,
    start_image: Tensor | None = None,
) -> tuple[list, list, dict[str, Tensor]]:
    """Conditioning with the face in latent frame 0, and an empty latent video.

    Released behavior: the square crop is stretched to the size of the video (Lanczos), its
    proportions are not kept; frames after the first stay zero. The host scales the latent as the
    model was trained. The host's VAE gives the mean of the encoding, the released pipeline draws
    a sample from it. Where memory is short the host encodes in tiles by itself.

    Args:
        start_image: `(F, H, W, 3)`, what the video starts from in place of the crop; of a clip the
            first 4 k + 1 frames that fit. Cut to the video's proportions around the middle. Not
            released: training saw face crops only.

    Raises:
        ValueError: An impossible size, a VAE of another family, or an unusable start image.
    """
    problem = validate_size(width, height, length)
    if problem:
        raise ValueError(problem)
    if getattr(vae, "latent_channels", None) != LATENT_CHANNELS or vae.latent_dim != 3:
        raise ValueError(
            f"the vae input has {getattr(vae, 'latent_channels', 'no')} latent channels in "
            f"{getattr(vae, 'latent_dim', 2)} dimensions, the CogVideoX VAE has "
            f"{LATENT_CHANNELS} in 3: load the CogVideoX VAE"
        )
    shape = (1, LATENT_CHANNELS, (length - 1) // 4 + 1, height // 8, width // 8)
    device = comfy.model_management.intermediate_device()
    latent = {"samples": torch.zeros(shape, device=device)}
    if start_image is not None:
        first, cut = _start_frames(start_image, length), "center"
    else:
        if face.empty_reason:
            return positive, negative, latent
        if face.images.shape[0] != 1:
            raise ValueError(
                f"the face input holds {face.images.shape[0]} images, FantasyID reads one: choose "
                "it with Get Image from Batch"
            )
        first, cut = face.images, "disabled"
    pixels = comfy.utils.common_upscale(
        first.movedim(-1, 1), width, height, "lanczos", cut
    ).movedim(1, -1)
    encoded = vae.encode(pixels)  # (1, 16, 1 or more, height / 8, width / 8)
    factors = fit_rgb_factors(encoded[0, :, 0].cpu(), pixels[0].cpu())
    values = {"concat_latent_image": encoded, FACTORS_KEY: factors}
    return (
        node_helpers.conditioning_set_values(positive, values),
        node_helpers.conditioning_set_values(negative, values),
        latent,
    )
