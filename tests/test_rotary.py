"""Rotary positions against the recorded table and against diffusers' rule."""

from __future__ import annotations

import math

import pytest
import torch

from fantasyid.rotary import crop_region, rotary_table


def test_table_is_the_recorded_one(golden):
    g = golden("e_transformer_rotary")
    cos, sin = rotary_table(2, 4, 6, 64)
    torch.testing.assert_close(cos, g["rope_cos"], rtol=0, atol=1e-6)
    torch.testing.assert_close(sin, g["rope_sin"], rtol=0, atol=1e-6)


def test_the_trained_size_counts_in_whole_numbers():
    assert crop_region(30, 45) == ((0, 0), (30, 45))
    cos, _ = rotary_table(1, 30, 45, 64)
    # First frequency of the rows is 1: cos(row).
    assert math.isclose(float(cos[45 * 7 + 3, 16]), math.cos(7), abs_tol=1e-5)
    assert math.isclose(float(cos[45 * 7 + 3, 40]), math.cos(3), abs_tol=1e-5)


def test_a_square_is_centred_in_the_base_grid():
    """Released-model fact: 32x32 gives h 0..29.0625, w 8..36.81."""
    cos, _ = rotary_table(1, 32, 32, 64)
    for token, channel, angle in ((31 * 32, 16, 29.0625), (0, 40, 8.0), (31, 40, 36.8125)):
        assert math.isclose(float(cos[token, channel]), math.cos(angle), abs_tol=2e-3)


@pytest.mark.parametrize(
    ("height", "width"), [(480, 720), (720, 480), (512, 512), (256, 384), (768, 1360)]
)
def test_table_equals_diffusers(height, width):
    embeddings = pytest.importorskip("diffusers.models.embeddings", reason="diffusers is absent")
    grid = (height // 16, width // 16)
    region = crop_region(*grid)
    cos, sin = embeddings.get_3d_rotary_pos_embed(64, region, grid, 3, device=torch.device("cpu"))
    ours = rotary_table(3, *grid, 64)
    torch.testing.assert_close(ours[0], cos, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours[1], sin, rtol=0, atol=1e-5)
