"""The released samplers as the host's SAMPLER and SIGMAS, and the all-in-one run.

The host's own k-diffusion samplers cannot be used: they multiply the first noise by sigma, which
is 4518 for this schedule, while CogVideoX reads unit-variance states.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from torch import Tensor
from tqdm.auto import trange

from ..cogvideox.positions import MAX_LATENT_FRAMES
from ..cogvideox.schedule import (
    TRAINING_STEPS,
    DpmHistory,
    Preset,
    add_noise,
    ddim_step,
    dpm_step,
    run_alphas,
    trailing_timesteps,
)
from .cogvideox import check_learned_size, frames_at_once, require_cogvideox_i2v
from .injection import injection_of
from .previews import preview_sender

RULES = ("dpm", "ddim")
CACHED_SPAN = (0.15, 0.95)  # share of the schedule in which a step may be skipped: the host's own


@dataclass(frozen=True, slots=True, eq=False)
class SamplerState:
    """A run between two steps: everything that the next step depends on."""

    step: int  # steps done
    sample: Tensor  # `(B, 16, T, H, W)`, noisy
    history: DpmHistory  # what the second-order rule keeps, its `denoised` included
    noise: Tensor  # state of the generator of the noise


class ReleasedSampler(comfy.samplers.Sampler):
    """DPM (the released pipeline's) or DDIM on unit-variance states.

    A run may be stopped after some steps and taken up again, bit for bit: sigmas stay the whole
    schedule, and what the sampler of the first run `reached` is given to that of the second.

    Args:
        rule: "dpm", second order with fresh noise at each step, or "ddim", deterministic.
        stop: Steps after which to stop, or None for all.
        resume: Where to go on from, or None for the beginning.
    """

    def __init__(
        self, rule: str, stop: int | None = None, resume: SamplerState | None = None
    ) -> None:
        if rule not in RULES:
            raise ValueError(f'the sampler is "{rule}", expected one of {", ".join(RULES)}')
        self.rule, self._stop, self._resume = rule, stop, resume
        self.reached: SamplerState | None = None

    def sample(
        self,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Callable[..., None] | None,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        """Run the steps; called by the host, see `comfy.samplers.Sampler`.

        Args:
            noise: `(B, 16, T, H, W)` standard normal.
            latent_image: Clean latents to start from, like `noise`; zeros when there are none.
            denoise_mask: 1 where the video is made anew, 0 where `latent_image` stays.
        """
        check_latent(model_wrap.model_patcher, tuple(noise.shape))
        table = model_wrap.inner_model.model_sampling.sigmas.to(sigmas)
        alphas, targets = run_alphas(sigmas, table)
        generator = torch.Generator("cpu").manual_seed(((extra_args.get("seed") or 0) + 1) % 2**64)
        clean = torch.zeros_like(noise) if latent_image is None else latent_image
        sample = add_noise(clean, noise, alphas[0])
        sigma_batch = sigmas[:, None] * noise.new_ones(1, noise.shape[0])
        history: DpmHistory | None = None
        first, steps = 0, len(sigmas) - 1
        if self._resume is not None:
            first, sample, history = self._resume.step, self._resume.sample, self._resume.history
            generator.set_state(self._resume.noise)
        last = steps if self._stop is None else min(self._stop, steps)
        show = preview_sender(model_wrap, steps)
        for i in trange(first, last, disable=disable_pbar):
            comfy.model_management.throw_exception_if_processing_interrupted()
            denoised = model_wrap(
                sample,
                sigma_batch[i],
                model_options=extra_args.get("model_options", {}),
                seed=extra_args.get("seed"),
            )
            if alphas[i] == 0.0:
                # The host keeps sigma finite (4518.76) where the schedule has alpha = 0 and so
                # leaves 1/4519 of the noise in its estimate; take it out.
                denoised = denoised - sample / (1.0 + sigma_batch[i, 0] ** 2) ** 0.5
            if not bool(denoised.isfinite().all()):
                raise ValueError(
                    f"step {i + 1} of {steps} gives values that are not numbers (NaN or infinity), "
                    "which would be a black video: the base weights, the adapter, a LoRA or the "
                    "prompt's encoding holds such values, or the precision is too low for them. "
                    "FantasyID Doctor looks at the files"
                )
            if denoise_mask is not None:
                denoised = denoised * denoise_mask + clean * (1.0 - denoise_mask)
            if callback is not None:
                callback(i, denoised, sample, steps)
            show(i, denoised)
            if self.rule == "ddim":
                sample = ddim_step(sample, denoised, alphas[i], targets[i])
            else:
                fresh = self._noise(sample, generator)
                sample = dpm_step(sample, denoised, fresh, alphas[i], targets[i], history)
            history = DpmHistory(denoised, alphas[i])
            if denoise_mask is not None:
                known = add_noise(clean, noise, alphas[i + 1])
                sample = sample * denoise_mask + known * (1.0 - denoise_mask)
        identities = injection_of(model_wrap.model_patcher)
        logging.info(
            "FantasyID: %d steps, %s.",
            last - first,
            identities.words()
            if identities
            else "no identity: Apply Identity is not in this MODEL",
        )
        if self._stop is not None and history is not None:
            self.reached = SamplerState(last, sample, history, generator.get_state())
        return sample

    @staticmethod
    def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
        """Fresh noise of a step, drawn on the CPU: the same on every device for one seed."""
        return torch.randn(like.shape, generator=generator).to(like)


def check_latent(model: Any, shape: tuple[int, ...]) -> None:
    """Refuse latents that the model cannot place.

    Raises:
        ValueError: Not a video latent, a height or width that the model has no positions for, or
            more frames than were trained without context windows on the MODEL.
    """
    if len(shape) != 5 or shape[1] != 16:
        raise ValueError(
            f"the latent is {shape}, expected (batch, 16, frames, height, width): make it with "
            "the FantasyID Face Latent node"
        )
    frames, height, width = shape[2:]
    if height % 2 or width % 2:
        raise ValueError(
            f"the latent is {width}x{height} cells ({width * 8}x{height * 8} pixels): width and "
            "height in pixels must be multiples of 16"
        )
    check_learned_size(model, height, width)
    at_once = frames_at_once(model, frames)
    if at_once > MAX_LATENT_FRAMES:
        raise ValueError(
            f"the model would see {at_once} latent frames at once; positions beyond "
            f"{MAX_LATENT_FRAMES} (49 frames of video) were never trained: use at most 49 frames, "
            "or a Context Windows (Manual) node on the model with dim 2, context_length "
            f"{MAX_LATENT_FRAMES} or less, causal_window_fix off and cond_retain_index_list 0"
        )


def trailing_sigmas(model: Any, steps: int, denoise: float) -> Tensor:
    """SIGMAS of the released schedule: `(steps + 1,)`, from pure noise (or less) down to 0.

    Args:
        model: MODEL, for the host's sigma of each timestep.
        steps: Steps that are run.
        denoise: 1 starts from pure noise; less starts later, from the latent that is given.

    Raises:
        ValueError: The MODEL is no CogVideoX image-to-video, or the numbers are out of range.
    """
    require_cogvideox_i2v(model)
    if not 0.0 < denoise <= 1.0:
        raise ValueError(f"denoise is {denoise}, expected more than 0 and at most 1")
    whole = max(steps, int(steps / denoise))
    if whole > TRAINING_STEPS:
        raise ValueError(
            f"{steps} steps at denoise {denoise} are the end of a run of {whole} steps; the "
            f"schedule has {TRAINING_STEPS}: raise denoise or lower steps"
        )
    timesteps = trailing_timesteps(whole)[-steps:]
    table = model.get_model_object("model_sampling").sigmas
    return torch.cat([table[timesteps].float().cpu(), torch.zeros(1)])


def with_step_cache(model: Any, preset: Preset) -> Any:
    """The MODEL, or a clone of it with the host's EasyCache where a preset asks for that.

    A MODEL that has one already keeps its own.
    """
    own = "easycache" in model.model_options.get("transformer_options", {})
    if preset.reuse_threshold == 0.0 or own:
        return model
    from comfy_extras.nodes_easycache import EasyCacheNode  # at the top it would be a circle

    start, end = CACHED_SPAN
    return EasyCacheNode.execute(model, preset.reuse_threshold, start, end, False).args[0]


def run(
    guider: comfy.samplers.CFGGuider,
    seed: int,
    sampler: comfy.samplers.Sampler,
    sigmas: Tensor,
    latent: dict[str, Any],
) -> dict[str, Any]:
    """Sample a LATENT with progress, previews and interrupt, as the host's own nodes do.

    Raises:
        ValueError: The latent does not fit the model; said before the first step.
    """
    model = guider.model_patcher
    start = comfy.sample.fix_empty_latent_channels(model, latent["samples"])
    check_latent(model, tuple(start.shape))
    samples = guider.sample(
        comfy.sample.prepare_noise(start, seed, latent.get("batch_index")),
        start,
        sampler,
        sigmas,
        denoise_mask=latent.get("noise_mask"),
        callback=latent_preview.prepare_callback(model, sigmas.shape[-1] - 1),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )
    device = comfy.model_management.intermediate_device()
    return {**latent, "samples": samples.to(device, comfy.model_management.intermediate_dtype())}
