"""Which take is finished."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fantasyid.evaluation.best_of import Take, best, scores

values = st.one_of(st.none(), st.floats(-1, 1, width=16))
takes = st.lists(st.builds(Take, st.integers(0, 9), values, values), min_size=1, max_size=6)


def test_the_dial_decides_between_likeness_and_motion():
    given_takes = [Take(1, 0.9, 0.1), Take(2, 0.5, 0.6), Take(3, 0.1, 0.9)]
    assert [given_takes[best(given_takes, share)].seed for share in (1.0, 0.0)] == [1, 3]
    assert scores(given_takes, 0.5) == pytest.approx([0.5, 0.5625, 0.5])
    assert given_takes[best(given_takes, 0.5)].seed == 2


def test_a_take_without_a_face_comes_last():
    given_takes = [Take(1, None, 0.5), Take(2, -0.3, 0.1), Take(3, 0.2, None)]
    assert scores(given_takes, 1.0) == [0.0, 0.0, 1.0]
    assert scores(given_takes, 0.0) == [1.0, 0.0, 0.0]
    assert scores([Take(1, None, None)] * 2, 0.5) == [0.0, 0.0]


@given(takes, st.floats(0, 1))
def test_scores_stay_between_zero_and_one_and_follow_the_take(some, share):
    rated = scores(some, share)
    assert all(-1e-9 <= score <= 1 + 1e-9 for score in rated)
    backwards = scores(some[::-1], share)
    assert rated == backwards[::-1]


@given(takes, st.floats(0, 1), st.floats(0.125, 8))
def test_units_do_not_matter(some, share, unit):
    scaled = [Take(t.seed, t.likeness, None if t.motion is None else t.motion * unit) for t in some]
    assert scores(scaled, share) == pytest.approx(scores(some, share), abs=1e-6)


def test_impossible_requests_are_named():
    with pytest.raises(ValueError, match="no take"):
        scores([], 0.5)
    with pytest.raises(ValueError, match=r"likeness is 1\.5"):
        scores([Take(1, 0.1, 0.1)], 1.5)
