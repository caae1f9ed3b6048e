"""The noise schedule and the two update rules of CogVideoX, as pure functions.

Source: paper section 3.1; docs/released-model.md, section 7. `alpha` is the cumulative product
"alpha-bar": a sample is `sqrt(alpha) * x0 + sqrt(1 - alpha) * noise`. The host counts in
`sigma = sqrt((1 - alpha) / alpha)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

TRAINING_STEPS = 1000


@dataclass(frozen=True, slots=True)
class Preset:
    """How a run saves calls of the transformer; chosen by measurement, see docs/performance.md."""

    steps_share: float = 1.0  # of the steps that are asked for
    reuse_threshold: float = 0.0  # of the host's step cache; 0 is without one

    def steps(self, asked: int) -> int:
        """Steps that are run in place of `asked`."""
        return max(1, round(asked * self.steps_share))


EXACT = "exact"
PRESETS = {EXACT: Preset(), "balanced": Preset(1.0, 0.9), "fast": Preset(0.5, 0.9)}


def alphas_cumprod() -> Tensor:
    """`(1000,)` float64 zero-SNR schedule: scaled-linear betas, last entry shifted to 0."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, TRAINING_STEPS, dtype=torch.float64) ** 2
    root = torch.cumprod(1.0 - betas, dim=0).sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


def trailing_timesteps(steps: int) -> list[int]:
    """Timesteps of a run from pure noise: 999 first, evenly spaced, e.g. 999, 979, ..., 19.

    Raises:
        ValueError: `steps` is not in 1..1000.
    """
    if not 1 <= steps <= TRAINING_STEPS:
        raise ValueError(f"steps is {steps}, expected 1 to {TRAINING_STEPS}")
    stride = TRAINING_STEPS / steps
    return [round(TRAINING_STEPS - i * stride) - 1 for i in range(steps)]


def previous_timesteps(steps: int) -> list[int]:
    """Where each step of a run from pure noise lands; a negative number stands for no noise.

    Released behavior: a step goes `1000 // steps` down, which is not the next timestep of the
    run where `steps` does not divide 1000.
    """
    stride = TRAINING_STEPS // steps
    return [timestep - stride for timestep in trailing_timesteps(steps)]


def alpha_from_sigma(sigma: float) -> float:
    """alpha-bar of a host sigma."""
    return 1.0 / (1.0 + sigma * sigma)


def run_alphas(sigmas: Tensor, table: Tensor) -> tuple[list[float], list[float]]:
    """alpha-bar at which each step of a run begins, and to which it goes.

    A whole released run steps `1000 // steps` down, which is not its next sigma where `steps` does
    not divide 1000. That a run is a whole released one is told by its values: of what a schedule
    node knows, only the values reach the sampler, for the host moves sigmas between devices, and
    its nodes split and join them. Any other run goes from sigma to sigma.

    Args:
        sigmas: `(steps + 1,)` of the run.
        table: `(1000,)` the host's sigma of each timestep, like `sigmas`.

    Returns:
        `steps + 1` numbers, the last where the run ends, and `steps` numbers.
    """
    # The schedule ends in alpha = 0; the host writes that as its highest sigma.
    highest, steps = float(table[-1]) * (1 - 1e-6), len(sigmas) - 1
    alphas = [0.0 if sigma >= highest else alpha_from_sigma(sigma) for sigma in sigmas.tolist()]
    targets = alphas[1:]
    if 1 <= steps <= TRAINING_STEPS and torch.equal(sigmas[:-1], table[trailing_timesteps(steps)]):
        landings = previous_timesteps(steps)
        targets = [alpha_from_sigma(float(table[t])) if t >= 0 else 1.0 for t in landings]
    return alphas, targets


def _half_log_snr(alpha: float) -> float:
    if alpha <= 0.0:
        return -math.inf
    return math.inf if alpha >= 1.0 else 0.5 * (math.log(alpha) - math.log1p(-alpha))


@dataclass(frozen=True, slots=True)
class DpmHistory:
    """What the second-order rule keeps of the step before."""

    denoised: Tensor  # the estimate of x0 of that step
    alpha: float  # alpha-bar at which it was made


def dpm_step(
    sample: Tensor,
    denoised: Tensor,
    noise: Tensor,
    alpha: float,
    alpha_next: float,
    history: DpmHistory | None,
) -> Tensor:
    """One step of the released DPM rule (second-order SDE multistep).

    Args:
        sample: State at `alpha`.
        denoised: Estimate of x0 at `alpha`, like `sample`.
        noise: Standard normal, like `sample`; unused in the last step.
        alpha: alpha-bar of the state; 0 is allowed (pure noise).
        alpha_next: alpha-bar to go to; 1 ends the run.
        history: The step before, or None in the first step.

    Returns:
        State at `alpha_next`.
    """
    if alpha_next >= 1.0:
        return denoised
    h = _half_log_snr(alpha_next) - _half_log_snr(alpha)
    decay = math.exp(-h)  # 0 in the first step from pure noise, where h is infinite
    estimate = denoised
    if history is not None and math.isfinite(h):
        ratio = (_half_log_snr(alpha) - _half_log_snr(history.alpha)) / h
        # Infinite after a first step from pure noise: the weight is then 0.
        weight = 0.0 if math.isinf(ratio) else 1.0 / (2.0 * ratio)
        estimate = (1.0 + weight) * denoised - weight * history.denoised
    spread = 1.0 - decay * decay
    return (
        math.sqrt((1.0 - alpha_next) / (1.0 - alpha)) * decay * sample
        + spread * math.sqrt(alpha_next) * estimate
        + math.sqrt(1.0 - alpha_next) * math.sqrt(spread) * noise
    )


def ddim_step(sample: Tensor, denoised: Tensor, alpha: float, alpha_next: float) -> Tensor:
    """One deterministic DDIM step (Song et al., arXiv 2010.02502, eq. 12 with sigma = 0)."""
    if alpha_next >= 1.0:
        return denoised
    direction = (sample - math.sqrt(alpha) * denoised) / math.sqrt(1.0 - alpha)
    return math.sqrt(alpha_next) * denoised + math.sqrt(1.0 - alpha_next) * direction


def add_noise(clean: Tensor, noise: Tensor, alpha: float) -> Tensor:
    """The state at `alpha` of a known clean sample."""
    return math.sqrt(alpha) * clean + math.sqrt(1.0 - alpha) * noise


def dynamic_cfg_scale(scale: float, progress: float, power: float = 5.0) -> float:
    """The guidance of a step when it grows over the run, as in CogVideoX.

    Args:
        scale: The full guidance, reached at the end (`1 + scale`, as there).
        progress: Share of the steps that are done, 0 to 1.
        power: How late it grows.

    Source: CogVideoX (arXiv 2408.06072), the dynamic guidance of its sampler.
    """
    return 1.0 + scale * (1.0 - math.cos(math.pi * progress**power)) / 2.0
