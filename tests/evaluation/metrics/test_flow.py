"""Dense flow: known shifts, a slow oracle, and OpenCV's own numbers where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, map_coordinates, shift
from torch import Tensor

from fantasyid.evaluation.metrics.flow import POLY_RADIUS, POLY_SIGMA, _polynomials, dense_flow
from fantasyid.evaluation.metrics.motion import face_motion

# cv2.calcOpticalFlowFarneback(before, now, None, 0.5, 3, 15, 3, 5, 1.2, 0) of OpenCV 5.0.0 on
# `turned()`: to the right, then down, at these rows and columns; the mean length of the whole.
ROWS, COLUMNS = [0, 2, 7, 60, 131, 200, 260], [0, 3, 41, 150, 222, 302]
RECORDED_FLOW = [
    [
        [4.6854, 4.5417, 4.9698, 4.9499, 4.8232, 5.6911],
        [4.8191, 4.6339, 4.9683, 4.9441, 4.8721, 5.4647],
        [4.8473, 4.7176, 4.9219, 4.9004, 4.8772, 5.7048],
        [4.4703, 4.4516, 4.4322, 4.3952, 4.3686, 4.6706],
        [3.6916, 3.7034, 3.6712, 3.7105, 3.6386, 3.5807],
        [2.9698, 2.9881, 3.0294, 2.9943, 2.9725, 2.9321],
        [1.8189, 2.1461, 2.4773, 2.4146, 2.4447, 2.0285],
    ],
    [
        [-2.4538, -2.4447, -2.1499, 0.0439, 1.3732, 4.1658],
        [-2.5636, -2.5548, -2.1361, 0.0474, 1.4603, 4.4179],
        [-2.6304, -2.6388, -2.1359, 0.0595, 1.4778, 3.8225],
        [-2.7922, -2.7529, -2.1304, 0.1040, 1.4851, 3.3869],
        [-2.7824, -2.7534, -2.1048, 0.0472, 1.4832, 2.7991],
        [-2.8128, -2.7714, -2.0767, 0.0624, 1.5477, 3.0512],
        [-2.1665, -2.6480, -2.0757, 0.0070, 1.5623, 2.9070],
    ],
]
RECORDED_LENGTH = 4.0893


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Fine and coarse patterns, as pictures have them."""
    rng, picture = np.random.default_rng(seed), np.full((height, width), 128.0)
    for sigma, strength in ((1.5, 15), (4.0, 25), (12.0, 30)):
        noise = gaussian_filter(rng.normal(size=(height, width)), sigma)
        picture += strength * noise / noise.std()
    return picture.clip(0, 255)


def as_batch(*pictures: np.ndarray) -> Tensor:
    return torch.from_numpy(np.stack(pictures)).float()


@settings(max_examples=12)
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


def turned() -> tuple[np.ndarray, np.ndarray]:
    """A picture with odd sides and three levels of pyramid, and the next one: 8 bit."""
    before = texture(261, 303).astype(np.uint8)
    y, x = np.mgrid[:261, :303].astype(float)
    places = [y + 3 - 0.02 * x, x - 5 + 0.01 * y]
    now = map_coordinates(before.astype(float), places, order=1, mode="nearest")
    return before, now.round().astype(np.uint8)


def test_the_numbers_are_those_recorded_of_opencv() -> None:
    before, now = turned()
    if (int(before.sum()), int(now.sum())) != (10390115, 10363378):
        pytest.skip("another NumPy or SciPy draws another picture than the recorded one")
    (flow,) = dense_flow(as_batch(before), as_batch(now))
    got = flow[ROWS][:, COLUMNS].permute(2, 0, 1)
    assert torch.allclose(got, torch.tensor(RECORDED_FLOW), rtol=0, atol=1e-3)
    assert flow.norm(dim=-1).mean().item() == pytest.approx(RECORDED_LENGTH, abs=1e-3)


def test_a_large_face_in_a_wide_picture_moves_as_far_as_it_does() -> None:
    """720 x 480 has faces above the working size: there both sides are reduced and scaled back."""
    before = texture(241, 401)
    now = shift(before, (-3, 6), order=3, mode="reflect")
    box = (120.0, 40.0, 260.0, 220.0)
    motion = face_motion(before.astype(np.float32), now.astype(np.float32), box, "cpu")
    assert motion is not None
    assert motion.face_px == pytest.approx((140 * 180) ** 0.5)
    assert motion.px == pytest.approx(45**0.5, rel=0.02)
    assert motion.still_px == pytest.approx(0, abs=0.2)


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
