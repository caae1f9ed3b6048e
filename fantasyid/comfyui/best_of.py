"""Several seeds for a few steps, the best of them to the end."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..evaluation.best_of import Take, best, scores
from ..evaluation.metrics.measure import recognizer_if_there
from ..face.draw import draw_sheet
from .metrics import MeasureRequest, measure_clip, recognizer_folders
from .sampler import ReleasedSampler, SamplerState, run

LEAST_SIDE = 4  # latent cells of a preview


@dataclass(frozen=True, slots=True)
class Contest:
    """How takes are compared."""

    first_seed: int  # the takes have this seed and the ones after it
    takes: int  # how many
    probe_steps: int  # steps of each before one is chosen; at most one less than the schedule's
    likeness: float  # 1 goes by likeness alone, 0 by motion alone
    preview_scale: float  # size of the decoded previews, as a share of the video's


def best_of(
    guider: Any,
    sampler: Any,
    sigmas: Tensor,
    latent: dict[str, Any],
    vae: Any,
    contest: Contest,
    request: MeasureRequest,
) -> tuple[dict[str, Any], int, Tensor, str]:
    """Probe every seed, decode what the model expects of it, go on with the best.

    The chosen seed's steps are not done again: its state is taken up where it was left, so the
    latent is that of sampling the seed alone, bit for bit.

    Args:
        guider: GUIDER.
        sampler: SAMPLER of FantasyID Sampler Select.
        sigmas: The whole schedule.
        latent: LATENT.
        vae: For the previews.

    Returns:
        LATENT, the chosen seed, the contact sheet `(1, H, W, 3)`, and words.

    Raises:
        ValueError: Another sampler, a schedule of one step, a latent that does not fit, or
            likeness without a recogniser or reference. All of it before the first step.
    """
    steps = sigmas.shape[-1] - 1
    if not isinstance(sampler, ReleasedSampler):
        raise ValueError(
            "the sampler input is not from FantasyID Sampler Select: only those can be stopped and "
            "taken up again without a difference"
        )
    if steps < 2:
        raise ValueError("the schedule has one step: nothing is left after a probe, take more")
    contest = replace(contest, probe_steps=max(1, min(contest.probe_steps, steps - 1)))
    if contest.likeness > 0.0:
        _require_likeness(request)
    takes: list[Take] = []
    states: list[SamplerState] = []
    stills: list[Tensor] = []
    for seed in range(contest.first_seed, contest.first_seed + contest.takes):
        probe = ReleasedSampler(sampler.rule, stop=contest.probe_steps)
        run(guider, seed, probe, sigmas, latent)
        state = _on_cpu(probe.reached)
        frames = _preview(guider, vae, state, contest.preview_scale)
        measured = measure_clip(frames, request)
        takes.append(Take(seed, _known(measured.rs), _known(measured.fm)))
        states.append(state)
        stills.append(_square(frames[len(frames) // 2]))
    chosen = best(takes, contest.likeness)
    sheet, words = _tell(takes, stills, chosen, contest)
    device = guider.model_patcher.load_device
    rest = ReleasedSampler(sampler.rule, resume=_moved(states[chosen], device))
    seed = takes[chosen].seed
    return run(guider, seed, rest, sigmas, latent), seed, sheet, words


def _require_likeness(request: MeasureRequest) -> None:
    """Refuse a choice by likeness that nobody could measure."""
    if request.reference is None:
        reason = "no reference is connected"
    else:
        try:
            _, reason = recognizer_if_there(request.recognizer, recognizer_folders())
        except ValueError as error:
            reason = str(error)
    if reason:
        raise ValueError(
            f"likeness cannot be measured: {reason}. Set that right, or set "
            "likeness to 0 to go by motion alone"
        )


def _preview(guider: Any, vae: Any, state: SamplerState, scale: float) -> Tensor:
    """The expected video `(F, H, W, 3)` of a state, decoded at a smaller size."""
    denoised = guider.model_patcher.model.process_latent_out(state.history.denoised[:1].float())
    frames, height, width = denoised.shape[-3:]
    size = [max(LEAST_SIDE, round(side * scale / 2) * 2) for side in (height, width)]
    small = interpolate(denoised, (frames, *size), mode="area")
    pictures = vae.decode(small)  # (1, F, H, W, 3)
    return pictures.reshape(-1, *pictures.shape[-3:])


def _on_cpu(state: SamplerState | None) -> SamplerState:
    if state is None:
        raise RuntimeError("the sampler kept nothing of its probe")
    return _moved(state, torch.device("cpu"))


def _moved(state: SamplerState, device: torch.device) -> SamplerState:
    """A state elsewhere; values do not change on the way."""
    history = type(state.history)(state.history.denoised.to(device), state.history.alpha)
    return SamplerState(state.step, state.sample.to(device), history, state.noise)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _square(picture: Tensor) -> Tensor:
    """A picture `(H, W, 3)` with black bars to its longer side."""
    height, width = picture.shape[:2]
    side = max(height, width)
    canvas = picture.new_zeros(side, side, 3)
    top, left = (side - height) // 2, (side - width) // 2
    canvas[top : top + height, left : left + width] = picture
    return canvas.clamp(0.0, 1.0).cpu()


def _tell(
    takes: list[Take], stills: list[Tensor], chosen: int, contest: Contest
) -> tuple[Tensor, str]:
    """Contact sheet and sentences."""
    rated = scores(takes, contest.likeness)
    lines = [
        f"seed {take.seed}: likeness {_shown(take.likeness)}, motion {_shown(take.motion)}, "
        f"score {score:.2f}"
        for take, score in zip(takes, rated, strict=True)
    ]
    captions = [line.replace(": ", "\n").replace(", ", "\n") for line in lines]
    sheet = draw_sheet(stills, captions, chosen)
    words = f"Went on with seed {takes[chosen].seed} of {len(takes)}. " + "; ".join(lines) + "."
    if all(take.likeness is None and take.motion is None for take in takes):
        words += " No preview shows a face, so the first seed was taken: raise probe_steps."
    return sheet[None], words


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"
