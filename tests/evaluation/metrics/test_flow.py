"""Dense flow: known shifts, a slow oracle, and OpenCV's own numbers where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, shift
from torch import Tensor

from fantasyid.evaluation.metrics.flow import POLY_RADIUS, POLY_SIGMA, _polynomials, dense_flow


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Fine and coarse patterns, as pictures have them."""
    rng, picture = np.random.default_rng(seed), np.full((height, width), 128.0)
    for sigma, strength in ((1.5, 15), (4.0, 25), (12.0, 30)):
        noise = gaussian_filter(rng.normal(size=(height, width)), sigma)
        picture += strength * noise / noise.std()
    return picture.clip(0, 255)


def as_batch(*pictures: np.ndarray) -> Tensor:
    return torch.from_numpy(np.stack(pictures)).float()


@settings(max_examples=12, deadline=None)
@given(dx=st.floats(-6, 6), dy=st.floats(-6, 6), seed=st.integers(0, 9))
def test_a_shift_is_found(dx: float, dy: float, seed: int) -> None:
    before = texture(96, 128, seed)
    now = shift(before, (dy, dx), order=3, mode="reflect")
    (flow,) = dense_flow(as_batch(before), as_batch(now))
    middle = flow[24:-24, 24:-24]
    assert middle[..., 0].mean().item() == pytest.approx(dx, abs=0.1)
    assert middle[..., 1].mean().item() == pytest.approx(dy, abs=0.1)


def test_equal_pictures_do_not_move_and_a_batch_is_its_members() -> None:
    a, b = texture(70, 90, 1), texture(70, 90, 2)
    moved = shift(a, (2, -3), order=1, mode="nearest")
    first, second = as_batch(a, b, a), as_batch(a, b, moved)
    copies = first.clone(), second.clone()
    flow = dense_flow(first, second)
    assert flow.shape == (3, 70, 90, 2)
    assert not flow[:2].any()
    assert torch.allclose(flow[2:], dense_flow(as_batch(a), as_batch(moved)), atol=1e-4)
    assert torch.equal(first, copies[0])
    assert torch.equal(second, copies[1])


def test_a_polynomial_is_the_weighted_least_squares_fit() -> None:
    picture = texture(31, 33)
    got = _polynomials(torch.from_numpy(picture)[None, None].float())[0]
    axis = np.arange(-POLY_RADIUS, POLY_RADIUS + 1)
    y, x = (a.ravel() for a in np.meshgrid(axis, axis, indexing="ij"))
    basis = np.stack([np.ones(len(x)), y, x, y * y, x * x, x * y], axis=1)
    root = np.exp(-0.25 * (x**2 + y**2) / POLY_SIGMA**2)
    for row, column in ((15, 16), (8, 20), (22, 9)):
        window = picture[row - 5 : row + 6, column - 5 : column + 6].ravel()
        fit = np.linalg.lstsq(basis * root[:, None], window * root, rcond=None)[0]
        assert np.allclose(got[:, row, column], fit[1:], atol=1e-3)


@pytest.mark.parametrize(
    "matrix",
    [
        [[1, 0, 2], [0, 1, 0]],
        [[1, 0, -11], [0, 1, 6]],
        [[1.01, 0.02, 2], [-0.02, 1.01, -3]],
    ],
    ids=["small step", "large step", "zoom and turn"],
)
def test_the_numbers_are_opencvs(matrix: list[list[float]]) -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: it is compared with only")
    before = texture(240, 320).astype(np.uint8)
    size = (320, 240)
    warp = np.array(matrix, float)
    now = cv2.warpAffine(before, warp, size, borderMode=cv2.BORDER_REFLECT)
    expected = cv2.calcOpticalFlowFarneback(before, now, None, 0.5, 3, 15, 3, 5, 1.2, 0)
    (flow,) = dense_flow(as_batch(before), as_batch(now))
    difference = np.abs(flow.numpy() - expected)
    assert np.quantile(difference, 0.99) < 1e-2
    lengths = [np.hypot(*f.transpose(2, 0, 1)).mean() for f in (flow.numpy(), expected)]
    assert lengths[0] == pytest.approx(lengths[1], rel=1e-3)


@pytest.mark.parametrize(
    ("before", "now"), [((1, 20, 20), (1, 20, 21)), ((20, 20), (20, 20)), ((1, 5, 20), (1, 5, 20))]
)
def test_pictures_that_do_not_fit_are_refused(before: tuple, now: tuple) -> None:
    with pytest.raises(ValueError, match=r"optical flow of pictures .*at least 8 pixels"):
        dense_flow(torch.zeros(before), torch.zeros(now))
