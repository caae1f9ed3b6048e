"""Guidance: how far the prompt and the identity pull, constant or changing over the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.conds
import comfy.samplers
import torch
from torch import Tensor

from ..cogvideox.schedule import dynamic_cfg_scale
from ..injection.steering import Steering
from .cogvideox import require_cogvideox_i2v
from .injection import IDENTITY_FREE, injection_of
from .record import share_of_schedule


@dataclass(frozen=True, slots=True)
class IdentityGuidance:
    """Guidance away from the video that the same prompt gives without the identity."""

    # Added times the difference that the identity makes; 0 is off and costs nothing, anything else
    # one more call of the model per step.
    scale: float = 0.0
    start_percent: float = 0.0  # share of the schedule at which it begins
    end_percent: float = 1.0  # share at which it ends

    def __post_init__(self) -> None:
        if self.start_percent >= self.end_percent:
            raise ValueError(
                f"identity_start is {self.start_percent:g} and identity_end {self.end_percent:g}: "
                "identity guidance would never act; identity_end must be larger"
            )

    def acts_at(self, model_sampling: Any, sigma: Tensor) -> bool:
        """Whether it takes part at a sigma `(B,)`."""
        if self.scale == 0.0:
            return False
        span = Steering(start_percent=self.start_percent, end_percent=self.end_percent)
        return span.at(share_of_schedule(model_sampling, float(sigma[0]))) != 0.0


@dataclass(frozen=True, slots=True)
class PromptGuidance:
    """When CFG acts; outside of its span the negative prompt costs nothing."""

    dynamic: bool = False  # grows over the run
    start_percent: float = 0.0  # share of the schedule at which it begins
    end_percent: float = 1.0  # share at which it ends

    def __post_init__(self) -> None:
        if self.start_percent >= self.end_percent:
            raise ValueError(
                f"cfg_start is {self.start_percent:g} and cfg_end {self.end_percent:g}: cfg would "
                "never act; cfg_end must be larger, or set cfg to 1"
            )

    @property
    def is_plain(self) -> bool:
        """Whether the host's own guider does the same."""
        return not self.dynamic and (self.start_percent, self.end_percent) == (0.0, 1.0)

    def scale(self, cfg: float, model_sampling: Any, sigma: float, step_share: float) -> float:
        """CFG at a step."""
        span = Steering(start_percent=self.start_percent, end_percent=self.end_percent)
        if span.at(share_of_schedule(model_sampling, sigma)) == 0.0:
            return 1.0
        return dynamic_cfg_scale(cfg, step_share) if self.dynamic else cfg


class Guider(comfy.samplers.CFGGuider):
    """The host's CFG, which may change over the run, with the identity as an axis of its own.

    denoised = cfg(positive, negative) + scale * (positive - positive without identity)
    """

    def __init__(self, model: Any, prompt: PromptGuidance, identity: IdentityGuidance) -> None:
        super().__init__(model)
        self._prompt, self._identity = prompt, identity

    def set_conds(self, positive: list, negative: list) -> None:
        """Take the prompts; the branch without identity is the positive one with a mark."""
        conds = {"positive": positive, "negative": negative}
        if self._identity.scale != 0.0:
            conds["identity_free"] = [_without_identity(*item) for item in positive]
        self.inner_set_conds(conds)

    def predict_noise(
        self,
        x: Tensor,
        timestep: Tensor,
        model_options: dict[str, Any] | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """One prediction with the scales of its step; called by the host."""
        options = model_options or {}
        sigmas = options["transformer_options"]["sample_sigmas"]
        step = int((sigmas.to(timestep) - timestep[0]).abs().argmin())
        sampling, share = self.inner_model.model_sampling, step / max(len(sigmas) - 1, 1)
        cfg = self._prompt.scale(self.cfg, sampling, float(timestep[0]), share)
        if self._identity.acts_at(sampling, timestep):
            after = [*options.get("sampler_post_cfg_function", []), self._towards_identity(options)]
            options = {**options, "sampler_post_cfg_function": after}
        return comfy.samplers.sampling_function(
            self.inner_model,
            x,
            timestep,
            self.conds.get("negative"),
            self.conds.get("positive"),
            cfg,
            model_options=options,
            seed=seed,
        )

    def _towards_identity(self, options: dict[str, Any]) -> Callable[[dict[str, Any]], Tensor]:
        """What the host calls after CFG; the third branch runs last, for step caches that take
        the first branch of a step as their measure."""

        def add(step: dict[str, Any]) -> Tensor:
            conds = [self.conds["identity_free"]]
            (free,) = comfy.samplers.calc_cond_batch(
                self.inner_model, conds, step["input"], step["sigma"], options
            )
            return step["denoised"] + self._identity.scale * (step["cond_denoised"] - free)

        return add


def _without_identity(embedding: Any, values: dict[str, Any]) -> list:
    mark = comfy.conds.CONDRegular(torch.ones(1, 1))
    conds = {**values.get("model_conds", {}), IDENTITY_FREE: mark}
    return [embedding, {**values, "model_conds": conds}]


def check_conditioning(model: Any, positive: list, negative: list) -> None:
    """Refuse a text encoder of another width before anything is sampled.

    Raises:
        ValueError: Names both widths.
    """
    expected = require_cogvideox_i2v(model).patch_embed.text_proj.in_features
    for name, conditioning in (("positive", positive), ("negative", negative)):
        for tensor, _ in conditioning:
            if tensor.shape[-1] != expected:
                raise ValueError(
                    f"the {name} prompt is encoded {tensor.shape[-1]} wide, the model takes "
                    f"{expected}: load the T5 of this model with CLIPLoader, type cogvideox "
                    "(tiny and real parts mixed?)"
                )


def make_guider(
    model: Any,
    positive: list,
    negative: list,
    cfg: float,
    prompt: PromptGuidance,
    identity: IdentityGuidance | None = None,
) -> comfy.samplers.CFGGuider:
    """GUIDER with constant or changing CFG, and identity guidance where it is asked for.

    Raises:
        ValueError: The MODEL is no CogVideoX image-to-video, the prompts do not fit it, or
            identity guidance is asked for and the MODEL carries no identity.
    """
    check_conditioning(model, positive, negative)
    identity = identity or IdentityGuidance()
    if identity.scale != 0.0 and injection_of(model) is None:
        raise ValueError(
            f"identity_scale is {identity.scale:g}, but the model input carries no identity: "
            "connect the MODEL out of FantasyID Apply Identity (where that node says NO IDENTITY, "
            "it says why), or set identity_scale to 0"
        )
    plain = prompt.is_plain and identity.scale == 0.0
    guider = comfy.samplers.CFGGuider(model) if plain else Guider(model, prompt, identity)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    return guider
