"""RS, IFS and the Frechet distance on numbers whose answer is known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from fantasyid.evaluation.metrics.frechet import frechet_distance
from fantasyid.evaluation.metrics.measure import likeness
from fantasyid.evaluation.metrics.measurement import FrameValues, Measurement, mean_known
from fantasyid.face.recognizer import unit

E1, E2 = np.array([1.0, 0.0]), np.array([0.0, 1.0])
BETWEEN = unit([1.0, 1.0])


def steadiness(frames: list) -> list[float | None]:
    return [likeness(now, [before]) for before, now in pairwise(frames)]


def test_likeness_of_known_angles() -> None:
    frames = [E1, BETWEEN, E2, E2]
    assert [likeness(e, [E1]) for e in frames] == pytest.approx([1, 0.5**0.5, 0, 0])
    assert [likeness(e, [E1, E2]) for e in frames] == pytest.approx([0.5, 0.5**0.5, 0.5, 0.5])
    assert steadiness(frames) == pytest.approx([0.5**0.5, 0.5**0.5, 1])


def test_what_cannot_be_compared_is_left_out_and_never_zero() -> None:
    assert likeness(None, [E1]) is likeness(E1, []) is mean_known([None, None]) is None
    assert mean_known([1.0, None, 0.5]) == 0.75


def test_likeness_by_view_takes_the_size_of_the_turn_alone() -> None:
    def frame(rs: float | None, yaw: float | None) -> FrameValues:
        return FrameValues(0, None, None, None, False, rs, None, None, None, None, yaw)

    shown = [(0.8, -14.9), (0.6, 0.0), (0.5, 15.0), (0.3, -44.0), (0.1, 45.0), (0.9, None)]
    frames = tuple(frame(*values) for values in [*shown, (None, 60.0)])
    measured = Measurement(frames, (), "", None, (0, 0), ())
    assert measured.rs_by_yaw() == pytest.approx({"frontal": 0.7, "half": 0.4, "profile": 0.1})


@given(seed=st.integers(0, 999), count=st.integers(2, 12))
def test_still_frames_are_steady_and_order_matters_for_steadiness(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    assert steadiness([unit(rng.normal(size=8))] * count) == pytest.approx([1.0] * (count - 1))
    turning = [np.array([np.cos(a), np.sin(a)]) for a in np.linspace(0, 1.5, count)]
    shuffled = [turning[i] for i in rng.permutation(count)]
    ordered, mixed = (mean_known(steadiness(frames)) for frames in (turning, shuffled))
    assert ordered is not None
    assert mixed is not None
    assert ordered >= mixed - 1e-12


@pytest.mark.parametrize("vector", [[0.0, 0.0], [np.nan, 1.0]])
def test_an_embedding_without_a_direction_is_refused(vector: list[float]) -> None:
    with pytest.raises(ValueError, match="without a direction"):
        unit(vector)


def published_fid(first: np.ndarray, second: np.ndarray) -> float:
    """The published arithmetic: means, `np.cov`, and `scipy.linalg.sqrtm` of the product."""
    difference = first.mean(0) - second.mean(0)
    covariances = [np.cov(features, rowvar=False) for features in (first, second)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    traces = [np.trace(c) for c in covariances]
    return float(difference @ difference + sum(traces) - 2 * np.trace(np.real(root)))


@given(seed=st.integers(0, 999), width=st.integers(2, 24))
def test_the_frechet_distance_is_the_published_one(seed: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(5 * width + 10, width)) @ rng.normal(size=(width, width))
    second = rng.normal(size=(4 * width + 13, width)) @ rng.normal(size=(width, width)) + 0.3
    expected = published_fid(first, second)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(second, first) == pytest.approx(expected, rel=1e-6)


def test_the_frechet_distance_of_few_pictures_needs_no_square_root() -> None:
    rng = np.random.default_rng(4)
    first, second = rng.normal(size=(9, 64)), rng.normal(size=(7, 64)) + 1
    covariances = [np.cov(f, rowvar=False) for f in (first, second)]
    eigenvalues = np.linalg.eigvals(covariances[0] @ covariances[1])
    difference = first.mean(0) - second.mean(0)
    expected = difference @ difference + sum(np.trace(c) for c in covariances)
    expected -= 2 * np.sqrt(eigenvalues.real.clip(0)).sum()
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)


def test_equal_sets_are_at_no_distance_and_a_shift_is_its_square() -> None:
    features = np.random.default_rng(0).normal(size=(40, 6))
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(features, features + 2) == pytest.approx(24)


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (np.zeros((1, 4)), np.zeros((5, 4)), "at least 2 features each"),
        (np.zeros((3, 4)), np.zeros((3, 5)), "at least 2 features each"),
        (np.full((3, 4), np.inf), np.zeros((3, 4)), "not a finite number"),
    ],
)
def test_sets_that_have_no_distance_are_refused(first, second, words) -> None:
    with pytest.raises(ValueError, match=words):
        frechet_distance(first, second)
