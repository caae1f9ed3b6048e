"""The bootstrap: where its interval lies, how it shrinks, and a slow loop beside it."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fantasyid.evaluation.protocol.statistics import bootstrap_mean

VALUES = st.lists(st.floats(-100, 100), min_size=2, max_size=30)


@given(values=VALUES, seed=st.integers(0, 5))
def test_the_interval_holds_the_mean_and_lies_among_the_values(values, seed):
    found = bootstrap_mean(values, 500, seed=seed)
    assert found.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert found.mean is not None
    assert found.low is not None
    assert found.high is not None
    assert min(values) - 1e-9 <= found.low <= found.mean <= found.high <= max(values) + 1e-9


@given(values=VALUES)
def test_the_same_seed_gives_the_same_interval(values):
    assert bootstrap_mean(values, 300, seed=4) == bootstrap_mean(values, 300, seed=4)


def test_another_seed_gives_another_interval():
    values = list(np.random.default_rng(0).normal(size=20))
    assert bootstrap_mean(values, 300, seed=4) != bootstrap_mean(values, 300, seed=5)


@given(values=VALUES, shift=st.floats(-10, 10), factor=st.floats(0.1, 10))
def test_it_moves_and_grows_with_the_values(values, shift, factor):
    plain = bootstrap_mean(values, 300)
    moved = bootstrap_mean([factor * v + shift for v in values], 300)
    for name in ("mean", "low", "high"):
        expected = factor * getattr(plain, name) + shift
        assert getattr(moved, name) == pytest.approx(expected, abs=1e-6)


def test_more_videos_give_a_narrower_interval():
    values = np.random.default_rng(1).normal(size=1600)
    widths = []
    for count in (25, 100, 400, 1600):
        found = bootstrap_mean(list(values[:count]), 2000)
        assert found.low is not None
        assert found.high is not None
        widths.append(found.high - found.low)
    assert widths == sorted(widths, reverse=True)
    # As one over the root: a fourfold number halves it.
    assert widths[0] / widths[-1] == pytest.approx(8, rel=0.4)


def test_it_is_what_a_slow_loop_gives():
    values = list(np.random.default_rng(2).gamma(2.0, size=12))
    dice = random.Random(7)
    means = sorted(sum(dice.choice(values) for _ in values) / len(values) for _ in range(20_000))
    found = bootstrap_mean(values, 20_000)
    assert found.low == pytest.approx(means[500], rel=0.02)
    assert found.high == pytest.approx(means[-500], rel=0.02)


def test_it_covers_the_truth_about_as_often_as_it_says():
    rng, hits = np.random.default_rng(3), 0
    for _ in range(200):
        found = bootstrap_mean(list(rng.normal(5, 2, size=40)), 400)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 5 <= found.high
    assert 0.88 <= hits / 200 <= 0.99


def test_what_nobody_measured_is_left_out_and_never_a_zero():
    assert bootstrap_mean([1.0, None, 3.0], 100) == bootstrap_mean([1.0, 3.0], 100)
    none, one = bootstrap_mean([None, None]), bootstrap_mean([None, 2.5])
    assert (none.count, none.mean, none.low) == (0, None, None)
    assert (one.count, one.mean, one.low, one.high) == (1, 2.5, None, None)
