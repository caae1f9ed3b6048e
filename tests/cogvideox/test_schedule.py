"""The schedule and the properties of the update rules (golden tests: tests/golden)."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fantasyid.cogvideox.schedule import (
    DpmHistory,
    add_noise,
    alpha_from_sigma,
    alphas_cumprod,
    ddim_step,
    dpm_step,
    dynamic_cfg_scale,
    previous_timesteps,
    run_alphas,
    trailing_timesteps,
)


@pytest.mark.parametrize("steps", [0, 1001])
def test_impossible_step_counts_are_refused(steps):
    with pytest.raises(ValueError, match=f"steps is {steps}, expected 1 to 1000"):
        trailing_timesteps(steps)


@given(st.floats(0.01, 0.98), st.floats(0.001, 0.5))
def test_ddim_keeps_an_exact_prediction_on_its_line(alpha, distance):
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 64, generator=generator, dtype=torch.float64)
    alpha_next = min(alpha + distance, 0.99)
    got = ddim_step(add_noise(clean, noise, alpha), clean, alpha, alpha_next)
    torch.testing.assert_close(got, add_noise(clean, noise, alpha_next))


@given(st.floats(0.01, 0.97), st.floats(0.002, 0.5))
def test_dpm_keeps_the_variance_of_an_exact_prediction(alpha, distance):
    """With the true x0 known, mean and spread after a step are those of the schedule."""
    alpha_next = min(alpha + distance, 0.99)
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    # The step is linear: probe how it carries the clean part, the old noise and the new noise.
    mean = dpm_step(math.sqrt(alpha) * one, one, zero, alpha, alpha_next, None)
    old = dpm_step(math.sqrt(1 - alpha) * one, zero, zero, alpha, alpha_next, None)
    new = dpm_step(zero, zero, one, alpha, alpha_next, None)
    torch.testing.assert_close(mean, math.sqrt(alpha_next) * one)
    torch.testing.assert_close(old**2 + new**2, (1 - alpha_next) * one)


def test_the_first_step_from_pure_noise_forgets_the_noise():
    sample, denoised = torch.full((4,), 7.0), torch.full((4,), 2.0)
    got = dpm_step(sample, denoised, torch.zeros(4), 0.0, 0.25, None)
    torch.testing.assert_close(got, torch.full((4,), 1.0))


def test_steps_do_not_change_their_arguments():
    tensors = [torch.randn(5) for _ in range(4)]
    copies = [t.clone() for t in tensors]
    dpm_step(tensors[0], tensors[1], tensors[2], 0.3, 0.5, DpmHistory(tensors[3], 0.1))
    ddim_step(tensors[0], tensors[1], 0.3, 0.5)
    for tensor, copy in zip(tensors, copies, strict=True):
        assert torch.equal(tensor, copy)


def test_sigma_and_alpha_are_the_same_scale(golden):
    g = golden("g_scheduler")
    # The host's last entry stands for alpha = 0 (sigma 4518.76), so it is left out.
    alphas = torch.tensor([alpha_from_sigma(s) for s in g["host_sigmas"].double().tolist()])
    torch.testing.assert_close(alphas[:-1].double(), alphas_cumprod()[:-1], rtol=1e-5, atol=1e-7)


def test_dynamic_guidance_grows_from_one_to_one_plus_scale():
    scales = [dynamic_cfg_scale(6.0, i / 10) for i in range(11)]
    assert scales[0] == 1.0
    assert scales[-1] == pytest.approx(7.0)
    assert scales == sorted(scales)
    assert scales[5] < 1.1, "it grows late"


@pytest.mark.parametrize("steps", [50, 30, 10, 7])
def test_steps_land_where_the_recorded_ones_do(golden, steps):
    assert previous_timesteps(steps) == golden("g_scheduler")[f"prev_timesteps_{steps}"].tolist()


def test_only_a_whole_released_run_lands_where_the_released_one_does(golden):
    table = golden("g_scheduler")["host_sigmas"].float()

    def run(steps: int, first: int = 0) -> torch.Tensor:
        return torch.cat([table[trailing_timesteps(steps)[first:]], torch.zeros(1)])

    alphas, targets = run_alphas(run(10), table)
    assert alphas[0] == 0.0
    assert targets == alphas[1:]  # 10 divides 1000
    alphas, targets = run_alphas(run(7), table)
    assert [a != b for a, b in zip(alphas[1:], targets, strict=True)].count(True) == 6
    alphas, targets = run_alphas(run(7, first=2), table)
    assert targets == alphas[1:]
    alphas, targets = run_alphas(run(7)[:4], table)
    assert targets == alphas[1:]


def test_the_second_order_weighs_the_step_before_by_half_its_share():
    """DPM-Solver++(2M): D = (1 + 1 / 2r) x0 - x0' / 2r, r the step before in log-SNR by this."""
    alphas = [0.2, 0.5, 0.7]
    last, here, there = (0.5 * math.log(a / (1 - a)) for a in alphas)
    r = (here - last) / (there - here)
    x0, before, zero = torch.ones(3), torch.full((3,), 3.0), torch.zeros(3)
    got = dpm_step(zero, x0, zero, 0.5, 0.7, DpmHistory(before, 0.2))
    spread = 1 - math.exp(-2 * (there - here))
    expected = spread * math.sqrt(0.7) * ((1 + 1 / (2 * r)) * 1.0 - 3.0 / (2 * r))
    torch.testing.assert_close(got, torch.full((3,), expected))
