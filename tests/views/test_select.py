"""The choice of views against brute force, and the bounded pool."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fantasyid.face.draw import draw_sheet
from fantasyid.face.pose import Pose
from fantasyid.views.select import View, ViewPool, least_difference, select_views

angles = st.builds(Pose, st.integers(-80, 80), st.integers(-40, 40), st.integers(-60, 60))


def best_possible(poses: list[Pose], count: int) -> float:
    return max(least_difference(poses, c) for c in combinations(range(len(poses)), count))


@pytest.mark.slow
@given(poses=st.lists(angles, min_size=2, max_size=9), count=st.integers(2, 5))
def test_the_choice_is_at_least_half_as_good_as_the_best(poses: list[Pose], count: int) -> None:
    chosen = select_views(poses, count)
    assert poses[chosen[0]].turned == min(pose.turned for pose in poses)
    assert len(set(chosen)) == len(chosen)
    if len(chosen) < count:  # the others repeat a pose
        assert all(min(p.distance(poses[c]) for c in chosen) == 0 for p in poses)
        return
    assert least_difference(poses, chosen) >= best_possible(poses, count) / 2 - 1e-9


def test_the_choice_is_nearly_always_much_better_than_the_bound() -> None:
    rng, shares = np.random.default_rng(0), []
    for _ in range(40):
        poses = [Pose(*rng.uniform(-60, 60, 3)) for _ in range(9)]
        shares.append(least_difference(poses, select_views(poses, 4)) / best_possible(poses, 4))
    assert np.mean(shares) > 0.8
    assert min(shares) >= 0.5


def test_few_views_are_all_taken_and_none_gives_none() -> None:
    poses = [Pose(0, 0, 0), Pose(30, 0, 0)]
    assert sorted(select_views(poses, 6)) == [0, 1]
    assert select_views([], 6) == []
    assert select_views([Pose(1, 1, 1)] * 3, 6) == [0]


def view(frame: int, pose: Pose) -> View:
    return View(frame, None, pose, torch.zeros(1), (0, 0, 1, 1), (), 0.1)


@given(poses=st.lists(angles, min_size=1, max_size=80), size=st.integers(2, 12))
def test_the_pool_is_bounded_and_stands_for_everything(poses: list[Pose], size: int) -> None:
    pool = ViewPool(size)
    for frame, pose in enumerate(poses):
        pool.offer(view(frame, pose), 1.0)
    held = pool.views
    assert 1 <= len(held) <= size
    assert len({v.frame for v in held}) == len(held)
    for pose in poses:
        assert min(pose.distance(v.pose) for v in held) <= pool.cell_deg * 3**0.5 * 2


def test_a_clearly_sharper_view_takes_the_place() -> None:
    pool = ViewPool()
    pool.offer(view(0, Pose(0, 0, 0)), 1.0)
    pool.offer(view(1, Pose(0.5, 0, 0)), 1.1)
    assert [v.frame for v in pool.views] == [0]
    pool.offer(view(2, Pose(0.5, 0, 0)), 1.3)
    assert [v.frame for v in pool.views] == [2]
    assert not pool.wants(Pose(0, 0, 0), 1.3)
    assert pool.wants(Pose(30, 0, 0), 0.01)


def test_one_pool_takes_over_another() -> None:
    one, other = ViewPool(), ViewPool()
    one.offer(view(0, Pose(0, 0, 0)), 1.0)
    other.offer(view(1, Pose(0, 0, 0)), 0.5)
    other.offer(view(2, Pose(40, 0, 0)), 0.5)
    one.take_over(other)
    assert sorted(v.frame for v in one.views) == [0, 2]
    assert other.views == []


def test_a_sheet_shows_every_picture_with_its_words() -> None:
    pictures = [torch.full((64, 64, 3), v) for v in (0.2, 0.4, 0.6, 0.9)]
    sheet = draw_sheet(pictures, ["a", "b\nc", "d", "e"], marked=1, side=50)
    assert sheet.shape[-1] == 3
    assert 0 <= sheet.min() < sheet.max() <= 1
    bare = draw_sheet(pictures, ["", "", "", ""], side=50)
    assert not torch.equal(sheet[: bare.shape[0]], bare[: sheet.shape[0]])
    whole = {round(float(v), 1) for v in bare[20:40].unique()}
    assert {0.2, 0.4, 0.6} <= whole
    as_bytes = [(p * 255).to(torch.uint8) for p in pictures]
    assert torch.allclose(draw_sheet(as_bytes, [""] * 4, side=50), bare, atol=2 / 255)
    with pytest.raises(ValueError, match="0 pictures"):
        draw_sheet([], [])


def test_two_rolls_on_either_side_of_upside_down_are_near():
    assert Pose(0, 0, 179).distance(Pose(0, 0, -179)) == pytest.approx(0.5)  # a quarter of 2
    assert Pose(0, 3, 0).distance(Pose(4, 0, 0)) == pytest.approx(5)
