"""Rotary positions at sizes that can be told by hand (golden tests: tests/golden)."""

from __future__ import annotations

import math

import torch

from fantasyid.cogvideox.positions import crop_region, rotary_table, sincos_table


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


def test_a_row_of_the_sine_table_is_that_of_the_plain_loop():
    """Time, column, row; space is counted 1.875 times more finely, time is not."""
    got = sincos_table(2, 3, 4, 32)[1 * 12 + 2 * 4 + 3]
    expected: list[float] = []
    for width, place in ((8, 1.0), (12, 3 / 1.875), (12, 2 / 1.875)):
        angles = [place / 10000 ** (i / (width / 2)) for i in range(width // 2)]
        expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    torch.testing.assert_close(got, torch.tensor(expected))
