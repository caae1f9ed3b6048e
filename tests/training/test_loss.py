"""The loss against the formula in float64, at the timesteps where peers go wrong."""

from __future__ import annotations

import pytest
import torch

from fantasyid.cogvideox.schedule import alphas_cumprod
from fantasyid.training.loss import draw_timesteps, frame_weights, noised, velocity_loss

TIMESTEPS = (0, 1, 2, 3, 5, 9, 17, 40, 80, 120, 200, 300, 400, 500, 600, 700, 800, 900, 990, 999)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("timestep", TIMESTEPS)
def test_noise_and_target_equal_float64(timestep, dtype):
    generator = torch.Generator().manual_seed(timestep)
    clean, noise = torch.randn(2, 1, 3, 4, 5, 6, generator=generator).to(dtype)
    alpha = alphas_cumprod()[timestep]
    noisy, target = noised(clean, noise, torch.tensor([timestep]))
    x, e = clean.double(), noise.double()
    for got, expected in (
        (noisy, alpha.sqrt() * x + (1 - alpha).sqrt() * e),
        (target, alpha.sqrt() * e - (1 - alpha).sqrt() * x),
    ):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), expected, rtol=1e-6, atol=1e-6)


def test_every_timestep_has_noise_and_gives_a_gradient():
    """In bf16 the peers' schedule gives the first two none."""
    clean, noise = torch.randn(2, 3, 1, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    predicted = torch.zeros_like(clean, requires_grad=True)
    noisy, target = noised(clean, noise, torch.tensor([0, 1, 5]))
    assert ((noisy - clean).abs().amax((1, 2, 3, 4)) > 1e-3).all()
    velocity_loss(predicted, target, torch.ones(3)).backward()
    assert predicted.grad is not None
    assert (predicted.grad.abs().amax((1, 2, 3, 4)) > 1e-3).all()


@pytest.mark.parametrize("timestep", TIMESTEPS[:-1])
def test_it_is_the_peers_weighted_loss_on_x0(timestep):
    """MSE on v equals `1 / (1 - alpha)` times MSE on x0, in exact arithmetic."""
    g = torch.Generator().manual_seed(timestep)
    clean, noise, wrong = torch.randn(3, 1, 2, 2, 4, 4, generator=g, dtype=torch.float64)
    alpha = alphas_cumprod()[timestep]
    noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
    velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean + 0.1 * wrong
    x0 = alpha.sqrt() * noisy - (1 - alpha).sqrt() * velocity
    theirs = ((x0 - clean).square() / (1 - alpha)).mean()
    _, target = noised(clean, noise, torch.tensor([timestep]))
    ours = velocity_loss(velocity, target, torch.ones(1))
    assert float(ours) == pytest.approx(float(theirs), rel=1e-5)


def test_an_unreadable_sample_counts_as_nothing():
    predicted, target = torch.zeros(4, 1, 1, 2, 2), torch.ones(4, 1, 1, 2, 2)
    assert float(velocity_loss(predicted, target, torch.tensor([1.0, 0, 1, 1]))) == 0.75


def test_a_mask_looks_inside_only():
    target = torch.zeros(1, 1, 2, 2, 2)
    target[..., 0] = 3.0
    mask = torch.zeros(1, 1, 1, 2, 2)
    mask[..., 1] = 1.0
    loss = velocity_loss(torch.zeros_like(target), target, torch.ones(1), mask)
    assert float(loss) == 0.0
    assert float(velocity_loss(torch.zeros_like(target), target, torch.ones(1))) == 4.5


def test_late_frames_weigh_more_and_the_mean_stays():
    weights = frame_weights(4, 3.0, torch.zeros(1)).flatten()
    assert float(weights.mean()) == pytest.approx(1.0)
    assert float(weights[-1] / weights[0]) == pytest.approx(3.0)
    error = torch.zeros(1, 4, 1, 1, 1)
    error[:, 3] = 1.0
    loss = velocity_loss(error, torch.zeros_like(error), torch.ones(1), late_frames=3.0)
    assert float(loss) == pytest.approx(float(weights[-1]) / 4)


def test_timesteps_are_even_or_late():
    uniform = torch.linspace(0, 1, 100_001)[:-1]
    even, late = draw_timesteps(uniform), draw_timesteps(uniform, 0.5)
    assert int(even.min()) == 0
    assert int(even.max()) == int(late.max()) == 999
    assert torch.bincount(even, minlength=1000).float().std() < 1
    assert float(late.float().mean()) == pytest.approx(1000 * 2 / 3, rel=0.01)
