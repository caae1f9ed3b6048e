"""What the host gets wrong about CogVideoX, measured on what is connected, not told by a version.

Measured on ComfyUI 0.30. A host that has been repaired is found right here, and what this
extension would correct is then left alone.
"""

from __future__ import annotations

from typing import Any

import torch

from ..cogvideox.positions import rotary_table
from ..doctor.findings import NOTE, OK, WARNING, Finding
from ..doctor.memory import TEXT_TOKENS
from .cogvideox import has_released_positions, needs_learned_positions, own_transformer

# Frames, rows and columns of video tokens: the size that was trained, and another one.
PROBE_GRIDS = ((2, 30, 45), (2, 20, 20))
ROTARY_TOLERANCE = 1e-4
LONG_PROMPT = "word " * 300
PROBE_PIXELS = 32


def _finding(topic: str, present: bool, corrected: bool, text: str, **facts: Any) -> Finding:
    level = OK if not present or corrected else WARNING
    return Finding(level, topic, text, {"present": present, "corrected": corrected, **facts})


def model_defects(model: Any) -> list[Finding]:
    """Positions and samplers of a MODEL that is a CogVideoX."""
    return [rotary_scale(model), rotary_beside_learned(model), raw_noise(model)]


def rotary_scale(model: Any) -> Finding:
    """Whether the host's rotary grid is not that of the released pipeline."""
    transformer = own_transformer(model.model)
    trained, other = (_rotary_error(transformer, grid) for grid in PROBE_GRIDS)
    present, corrected = max(trained, other) > ROTARY_TOLERANCE, has_released_positions(model)
    scale = getattr(transformer, "spatial_interpolation_scale", None)
    where = f"scaled by {scale}" if trained > ROTARY_TOLERANCE else "at sizes other than 720x480"
    if not present:
        text = "ComfyUI's rotary positions are those of the released pipeline."
    elif corrected:
        text = f"ComfyUI's rotary positions are wrong ({where}); this MODEL corrects them."
    else:
        text = (
            f"ComfyUI's rotary positions are wrong ({where}) and this MODEL does not correct them: "
            "put FantasyID Apply Identity behind it, or load it with Load FantasyID Model."
        )
    facts = {"largest_difference": trained, "at_other_sizes": other, "scale": scale}
    return _finding("rotary", present, corrected, text, **facts)


def _rotary_error(transformer: Any, grid: tuple[int, int, int]) -> float:
    """Largest difference between the host's cosines and sines and the released ones."""
    frames, rows, columns = grid
    host = transformer._get_rotary_emb(rows, columns, frames, device=torch.device("cpu"))
    ours = rotary_table(frames, rows, columns, host[0].shape[-1])
    return max(float((a - b).abs().max()) for a, b in zip(host, ours, strict=True))


def rotary_beside_learned(model: Any) -> Finding:
    """Whether the host leaves rotary out because the checkpoint has a learned table too."""
    transformer = own_transformer(model.model)
    learned = bool(transformer.patch_embed.use_learned_positional_embeddings)
    present, corrected = needs_learned_positions(transformer), has_released_positions(model)
    if not learned:
        text = "The checkpoint has no learned positions; nothing to correct there."
    elif not present:
        text = "ComfyUI uses both kinds of positions of the checkpoint."
    elif corrected:
        text = "ComfyUI drops rotary beside learned positions; this MODEL corrects it."
    else:
        text = (
            "ComfyUI drops rotary beside the learned positions of this checkpoint and this MODEL "
            "does not correct it: put FantasyID Apply Identity behind it."
        )
    return _finding("learned positions", present, corrected, text, learned=learned)


def raw_noise(model: Any) -> Finding:
    """Whether KSampler would feed the model noise at a size that it never saw."""
    sampling = model.get_model_object("model_sampling")
    noise = torch.linspace(-1.7, 1.7, 256).reshape(1, 1, 16, 16)  # standard deviation near 1
    sigma = sampling.sigma_max.reshape(1).float().cpu()
    latent = sampling.noise_scaling(sigma, noise, torch.zeros_like(noise), True)
    given = float(sampling.calculate_input(sigma, latent).std() / noise.std())
    present = not 0.5 < given < 2.0
    text = (
        f"KSampler cannot sample this MODEL (its first input would be {given:.0f} times too "
        "large): use FantasyID Sampler, or FantasyID Sampler Select with SamplerCustomAdvanced."
        if present
        else "KSampler gives this MODEL noise of the right size."
    )
    # The samplers of this extension stand beside KSampler; there is nothing to do to the MODEL.
    return Finding(
        NOTE if present else OK,
        "sampler",
        text,
        {"present": present, "corrected": True, "input_scale": given},
    )


def long_prompt(clip: Any) -> Finding:
    """Whether the host lets a prompt grow beyond the tokens that the model was trained with."""
    rows = next(iter(clip.tokenize(LONG_PROMPT).values()))
    longest = max(len(row) for row in rows)
    present = longest > TEXT_TOKENS
    text = (
        f"ComfyUI does not cut prompts at {TEXT_TOKENS} tokens (300 words gave {longest}): keep "
        "prompts below about 170 words."
        if present
        else f"ComfyUI cuts prompts at {TEXT_TOKENS} tokens, as the model was trained."
    )
    facts = {"present": present, "corrected": False, "tokens": longest}
    return Finding(NOTE if present else OK, "prompt", text, facts)


def mean_encoding(vae: Any) -> Finding:
    """Whether the host's VAE gives the mean, where the released pipeline draws a sample."""
    ramp = torch.linspace(0.0, 1.0, PROBE_PIXELS)
    pixels = ramp[:, None, None].expand(PROBE_PIXELS, PROBE_PIXELS, 3)[None]
    first, second = (vae.encode(pixels.clone()) for _ in range(2))
    present = torch.equal(first, second)
    text = (
        "ComfyUI's VAE encodes a face to the mean of its distribution; the released pipeline draws "
        "a sample. The difference is small, and the same for every seed."
        if present
        else "ComfyUI's VAE draws a sample, as the released pipeline does."
    )
    facts = {"present": present, "corrected": False}
    return Finding(NOTE if present else OK, "VAE", text, facts)
