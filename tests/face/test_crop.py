"""Alignment: OpenCV's numbers, the properties of a similarity fit, and typed points."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from turning_head import ASTRONAUT_POINTS

from fantasyid.face.crop import (
    BORDER_RGB,
    FACE_TEMPLATE_PX,
    align_crop,
    reduce_long_side,
    similarity_lmeds,
    warp_affine,
)

ASTRONAUT = ASTRONAUT_POINTS.astype(int).tolist()

# cv2.estimateAffinePartial2D(points, FACE_TEMPLATE_PX, method=cv2.LMEDS)[0] of OpenCV 5.0.0;
# 5, 4, 4, 3, 3 and 5 of the points are inliers.
RECORDED_FITS = [
    (
        [[109.7, 356.3], [350.6, 361.9], [229.0, 500.7], [122.2, 607.3], [334.5, 610.4]],
        [[0.524786, 0.0093764, 131.7234423], [-0.0093764, 0.524786, 53.7547028]],
    ),
    (
        [[252.0, 235.2], [307.5, 234.5], [284.1, 261.5], [256.0, 292.6], [307.9, 290.4]],
        [[2.266221, -0.0632421, -363.2658142], [0.0632421, 2.266221, -308.4986787]],
    ),
    (
        [[295.5, 211.8], [445.2, 287.5], [329.6, 338.0], [230.1, 376.5], [366.5, 440.3]],
        [[0.6728229, 0.3166467, -72.68784], [-0.3166467, 0.6728229, 190.9738883]],
    ),
    (
        [[227.7, 326.1], [403.6, 373.0], [249.7, 434.9], [178.1, 474.2], [273.8, 524.6]],
        [[0.7607057, 0.4285792, -119.9062892], [-0.4285792, 0.7607057, 89.7010125]],
    ),
    (
        [[171.7, 122.5], [327.7, 200.6], [236.2, 280.4], [98.3, 293.3], [294.5, 326.9]],
        [[0.6390758, 0.3173621, 45.1825678], [-0.3173621, 0.6390758, 215.7706936]],
    ),
    (
        ASTRONAUT,
        [[2.8733668, -0.036646, -389.7232566], [0.036646, 2.8733668, -77.9453853]],
    ),
]

# OpenCV 5.0.0 on `pattern()`: resize to 6 x 4 with INTER_LANCZOS4, and
# warpAffine([[0.8, -0.3, 2], [0.3, 0.8, -1]], 6 x 6, border 132); one channel, 8 bit.
RECORDED_LANCZOS = [
    [15, 94, 145, 124, 179, 64],
    [216, 107, 143, 217, 43, 203],
    [31, 133, 211, 56, 205, 71],
    [170, 83, 196, 163, 62, 207],
]
RECORDED_WARP = [
    [132, 134, 121, 131, 131, 136],
    [132, 96, 204, 94, 193, 45],
    [131, 92, 124, 179, 154, 205],
    [156, 123, 98, 99, 150, 123],
    [132, 123, 143, 219, 136, 89],
    [132, 132, 132, 132, 139, 98],
]


def pattern() -> torch.Tensor:
    """`(6, 9, 3)`, hard edges, exact in 8 bit."""
    y, x = torch.meshgrid(torch.arange(6), torch.arange(9), indexing="ij")
    return ((x * 37 + y * 91 + x * y * 13) % 256)[..., None].repeat(1, 1, 3) / 255


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points through a `(2, 3)` matrix."""
    return points @ matrix[:, :2].T + matrix[:, 2]


@pytest.mark.parametrize(("points", "matrix"), RECORDED_FITS)
def test_the_fit_is_that_of_opencv(points: list, matrix: list) -> None:
    got = apply(similarity_lmeds(points, FACE_TEMPLATE_PX), np.array(points, float))
    expected = apply(np.array(matrix), np.array(points, float))
    assert np.abs(got - expected).max() < 2e-3  # pixels


def test_the_fit_drops_points_that_do_not_belong() -> None:
    """Released behavior: not the least-squares fit of all five."""
    points = np.array(RECORDED_FITS[3][0])
    got = apply(similarity_lmeds(points, FACE_TEMPLATE_PX), points)
    error = np.hypot(*(got - FACE_TEMPLATE_PX).T)
    assert sorted(np.argsort(error)[:3].tolist()) == [0, 2, 4]
    assert error[1] > 3 * error[0]


@given(
    angle=st.floats(-3, 3),
    scale=st.floats(0.05, 20),
    shift=st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
)
def test_an_exact_similarity_is_recovered(
    angle: float, scale: float, shift: tuple[float, float]
) -> None:
    turn = scale * np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    truth = np.column_stack([turn, shift])
    points = (FACE_TEMPLATE_PX - np.array(shift)) @ np.linalg.inv(turn).T
    assert np.abs(apply(similarity_lmeds(points, FACE_TEMPLATE_PX) - truth, points)).max() < 0.01


@given(angle=st.floats(-3, 3), seed=st.integers(0, 10_000))
def test_turning_the_points_turns_the_fit(angle: float, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 6, (5, 2))
    points = FACE_TEMPLATE_PX + noise
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    straight = similarity_lmeds(points, FACE_TEMPLATE_PX)
    turned = similarity_lmeds(points @ turn.T, FACE_TEMPLATE_PX)
    assert np.abs(turned[:, :2] @ turn - straight[:, :2]).max() < 1e-3
    assert np.abs(turned[:, 2] - straight[:, 2]).max() < 0.2


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (np.ones((5, 2)), "coincide"),
        (np.full((5, 2), np.nan), "finite"),
        (FACE_TEMPLATE_PX[:4], r"\(4, 2\), template is \(5, 2\)"),
    ],
)
def test_impossible_points_are_named(points: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        similarity_lmeds(points, FACE_TEMPLATE_PX)


def test_the_warp_is_that_of_opencv() -> None:
    matrix = [[0.8, -0.3, 2.0], [0.3, 0.8, -1.0]]
    got = warp_affine(pattern(), matrix, 6, (132 / 255,) * 3)[..., 0] * 255
    assert (got - torch.tensor(RECORDED_WARP)).abs().max() <= 1


def test_the_identity_warp_changes_nothing_and_fills_with_the_border() -> None:
    photo = pattern()
    before = photo.clone()
    got = warp_affine(photo, [[1, 0, 0], [0, 1, 0]], 10)
    assert torch.allclose(got[:6, :9], photo, atol=1e-6)
    assert torch.allclose(got[6:], torch.tensor(BORDER_RGB), atol=1e-6)
    assert torch.equal(photo, before)
    with pytest.raises(ValueError, match="cannot be inverted"):
        warp_affine(photo, [[1, 1, 0], [1, 1, 0]], 10)


def test_the_reduction_is_that_of_opencv() -> None:
    photo = pattern()
    reduced, scale = reduce_long_side(photo, 6)
    assert scale == pytest.approx(2 / 3)
    assert (reduced[..., 0] * 255 - torch.tensor(RECORDED_LANCZOS)).abs().max() <= 1


def test_the_reduction_goes_only_down_and_keeps_flat_color() -> None:
    photo = pattern()
    same, scale = reduce_long_side(photo, 9)
    assert same is photo
    assert scale == 1
    flat, scale = reduce_long_side(torch.full((300, 2048, 3), 0.2), 1024)
    assert flat.shape == (150, 1024, 3)
    assert scale == 0.5
    assert torch.allclose(flat, torch.tensor(0.2), atol=1e-6)


def test_the_crop_puts_the_points_on_the_template() -> None:
    """A dot at each eye lands where the template has the eyes, at every size."""
    photo = torch.zeros(512, 512, 3)
    for x, y in ASTRONAUT[:2]:
        photo[y, x] = 1
    for size in (512, 256):
        crop, matrix = align_crop(photo, ASTRONAUT, size)
        assert crop.shape == (size, size, 3)
        template = FACE_TEMPLATE_PX * size / 512
        placed = apply(matrix, np.array(ASTRONAUT, float))
        assert np.abs(placed - template).max() < 15 * size / 512
        for x, y in placed[:2].round().astype(int):
            assert crop[y - 1 : y + 2, x - 1 : x + 2].max() > 0.3


def test_padding_shows_more_of_the_photo_around_the_same_middle() -> None:
    """Twice the padding, half the scale: the middle half of the crop is the released one."""
    photo = torch.rand(200, 201, 3, generator=torch.manual_seed(0))
    points = np.array(ASTRONAUT) - [130, 30]
    _, plain = align_crop(photo, points)
    crop, wide = align_crop(photo, points, padding=2.0)
    assert crop.shape == (512, 512, 3)
    assert np.allclose(wide, plain / 2 + [[0, 0, 128], [0, 0, 128]])
    with pytest.raises(ValueError, match="the padding is 0, expected a positive number"):
        align_crop(photo, points, padding=0)


def test_the_crop_is_eight_bit_and_bordered_outside_the_photo() -> None:
    photo = torch.rand(60, 60, 3, generator=torch.manual_seed(0))
    crop, _ = align_crop(photo, np.array(ASTRONAUT) - [190, 100])
    assert torch.allclose((crop * 255).round() / 255, crop, atol=1e-7)
    assert torch.allclose(crop[-1, -1], torch.tensor(BORDER_RGB), atol=1e-6)
    with pytest.raises(ValueError, match=r"\(1, 60, 60, 3\), expected \(H, W, 3\)"):
        align_crop(photo[None], ASTRONAUT)
