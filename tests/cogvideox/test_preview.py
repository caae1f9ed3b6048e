"""The latent-to-RGB map: exact where the relation is linear, bounded where it is not."""

from __future__ import annotations

import torch
from torch.nn.functional import interpolate

from fantasyid.cogvideox.preview import RIDGE, fit_rgb_factors, latent_to_rgb


def test_a_linear_vae_is_recovered():
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(16, 12, 18, generator=generator)
    factors = torch.randn(17, 3, generator=generator) * 0.05
    factors[16] = 0.5
    picture = latent_to_rgb(latent, factors)
    image = interpolate(picture.movedim(-1, 0)[None], scale_factor=8, mode="nearest")[0]
    got = latent_to_rgb(latent, fit_rgb_factors(latent, image.movedim(0, -1)))
    assert (got - picture).abs().max() < 0.02


def test_a_flat_picture_does_not_blow_up():
    factors = fit_rgb_factors(torch.zeros(16, 8, 8), torch.full((64, 64, 3), 0.25))
    assert torch.isfinite(factors).all()
    picture = latent_to_rgb(torch.randn(16, 8, 8), factors)
    torch.testing.assert_close(picture, torch.full((8, 8, 3), 0.25), rtol=0, atol=0.01)


def test_the_picture_is_in_range():
    picture = latent_to_rgb(1e3 * torch.randn(16, 4, 5), torch.randn(17, 3))
    assert picture.shape == (4, 5, 3)
    assert 0 <= picture.min() <= picture.max() <= 1


def test_the_fit_is_least_squares_with_a_row_more_for_each_factor():
    """Damped by a share of the mean square of the features, whatever the size of the latents."""
    latent = 30 * torch.randn(16, 12, 18, generator=torch.Generator().manual_seed(1)).double()
    image = torch.rand(12, 18, 3, generator=torch.Generator().manual_seed(2)).double()
    features = torch.cat([latent.flatten(1).T, torch.ones(216, 1).double()], 1)
    damping = RIDGE * features.square().sum(0).mean()
    rows = torch.cat([features, damping.sqrt() * torch.eye(17).double()])
    targets = torch.cat([image.flatten(0, 1), torch.zeros(17, 3).double()])
    expected = torch.linalg.lstsq(rows, targets).solution.float()
    got = fit_rgb_factors(latent.float(), image.float())
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
