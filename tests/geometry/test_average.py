"""Averages of one person's heads."""

from __future__ import annotations

import math

import pytest
import torch
from geometry.stand_in_head import posed, stand_in
from hypothesis import given
from hypothesis import strategies as st

from fantasyid.geometry.average import average, average_vertices, clearness, frontality, shares
from fantasyid.geometry.edit import HeadEdit, edit_vertices
from fantasyid.geometry.rotations import rotation_matrix

pytestmark = pytest.mark.slow


def test_averages_of_numbers():
    values = torch.tensor([[1.0, 5], [2, 5], [30, 5], [3, 1]])
    assert average(values, "mean").tolist() == [9.0, 4.0]
    assert average(values, "median").tolist() == [2.5, 5.0]
    weights = shares(torch.tensor([1, 1, 0, 2], dtype=torch.float64))
    assert average(values, "weighted", weights).tolist() == [2.25, 3.0]
    with pytest.raises(ValueError, match="expected one of"):
        average(values, "mode")


def test_one_head_in_several_poses_is_that_head_in_the_first_pose():
    vertices = stand_in()[0].double()
    heads = [posed(vertices, seed)[0] for seed in range(4)]
    for method in ("mean", "median", "weighted"):
        weights = torch.tensor([0.1, 0.2, 0.3, 0.4]).double() if method == "weighted" else None
        got = average_vertices(heads, method, weights)
        torch.testing.assert_close(got, heads[0], atol=1e-7, rtol=0)


def test_the_mean_lies_between_and_the_median_drops_the_odd_one():
    vertices = stand_in()[0].double()
    long_nose = edit_vertices(vertices, HeadEdit({"nose_depth": 1.0}))
    mean = average_vertices([vertices, posed(long_nose, 1)[0]], "mean")
    expected = edit_vertices(vertices, HeadEdit({"nose_depth": 0.5}))
    assert (mean - expected).norm(dim=1).max() < 4e-4
    heads = [vertices, posed(vertices, 2)[0], posed(long_nose, 3)[0]]
    median = average_vertices(heads, "median")
    assert (median - vertices).norm(dim=1).max() < 5e-4
    assert (average_vertices(heads, "mean") - vertices).norm(dim=1).max() > 1e-3


def test_heads_that_look_away_count_less():
    vertices = stand_in()[0]
    turns = [rotation_matrix(torch.tensor([0.0, math.radians(a), 0.0])) for a in (0, 40, 85)]
    scores = frontality([vertices @ turn.T for turn in turns])
    assert scores[0] > scores[1] > scores[2] > 0
    assert scores[1] / scores[0] == pytest.approx(math.cos(math.radians(40)), abs=0.02)


def test_blurred_photos_count_less_and_noise_does_not_count_more():
    scores = clearness([0.0, 0.003, 0.006, 0.012, 0.24], enough=0.012)
    assert scores.tolist() == pytest.approx([0.05, 0.25, 0.5, 1.0, 1.0])


@given(data=st.data(), count=st.integers(1, 6))
def test_shares_and_the_weighted_mean_by_a_plain_loop(data, count):
    def scores():
        numbers = st.lists(st.floats(0.05, 1.0), min_size=count, max_size=count)
        return data.draw(numbers)

    ahead, sharp, values = scores(), scores(), scores()
    products = [a * s for a, s in zip(ahead, sharp, strict=True)]
    expected = 0.0
    for product, value in zip(products, values, strict=True):
        expected += product * value / sum(products)
    exact = [torch.tensor(numbers, dtype=torch.float64) for numbers in (ahead, sharp, values)]
    weights = shares(exact[0], exact[1])
    assert weights.tolist() == pytest.approx([p / sum(products) for p in products])
    assert float(average(exact[2], "weighted", weights)) == pytest.approx(expected)
