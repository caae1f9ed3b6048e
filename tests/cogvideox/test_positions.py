"""Rotary positions at sizes that can be told by hand (golden tests: tests/golden)."""

from __future__ import annotations

import math

from fantasyid.cogvideox.positions import crop_region, rotary_table


def test_the_trained_size_counts_in_whole_numbers():
    assert crop_region(30, 45) == ((0, 0), (30, 45))
    cos, _ = rotary_table(1, 30, 45, 64)
    # First frequency of the rows is 1: cos(row).
    assert math.isclose(float(cos[45 * 7 + 3, 16]), math.cos(7), abs_tol=1e-5)
    assert math.isclose(float(cos[45 * 7 + 3, 40]), math.cos(3), abs_tol=1e-5)


def test_a_square_is_centred_in_the_base_grid():
    """docs/released-model.md: 32x32 gives h 0..29.0625, w 8..36.81."""
    cos, _ = rotary_table(1, 32, 32, 64)
    for token, channel, angle in ((31 * 32, 16, 29.0625), (0, 40, 8.0), (31, 40, 36.8125)):
        assert math.isclose(float(cos[token, channel]), math.cos(angle), abs_tol=2e-3)
