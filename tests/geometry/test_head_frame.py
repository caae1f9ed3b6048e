"""A head's own axes and the rigid fit, in every pose."""

from __future__ import annotations

import math

import pytest
import torch
from geometry.stand_in_head import posed, stand_in
from hypothesis import given, settings
from hypothesis import strategies as st

from fantasyid.geometry.files import read_mesh
from fantasyid.geometry.head_frame import LEFT_EYE, RIGHT_EYE, head_frame, rigid_fit
from fantasyid.geometry.rotations import rotation_matrix


def angle_deg(turn: torch.Tensor) -> float:
    return math.degrees(math.acos(min(1.0, float((torch.trace(turn) - 1) / 2))))


def test_a_head_that_looks_ahead_has_the_axes_of_model_space():
    frame = head_frame(stand_in()[0])
    assert angle_deg(frame.axes) < 5
    assert frame.axes[0, 0] == pytest.approx(1.0)
    torch.testing.assert_close(frame.axes @ frame.axes.T, torch.eye(3, dtype=torch.float64))
    assert torch.linalg.det(frame.axes) == pytest.approx(1.0)
    assert 0.055 < frame.eye_distance_m < 0.07
    assert frame.nose_tip[2] > 0.6
    assert frame.chin[1] < frame.nose_tip[1] - 0.8
    assert abs(float(frame.nose_tip[0])) < 0.02


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), angle=st.floats(0, math.pi))
def test_the_frame_turns_with_the_head(seed, angle):
    vertices = stand_in()[0]
    frame = head_frame(vertices)
    turned, turn = posed(vertices, seed, angle)
    other = head_frame(turned)
    torch.testing.assert_close(other.axes, frame.axes @ turn.T, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        other.points_in_head(turned), frame.points_in_head(vertices), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(other.chin, frame.chin, atol=1e-5, rtol=0)


def test_the_released_head_is_found_in_its_pose(shared):
    vertices = read_mesh(shared / "data" / "newton.ply")[0]
    frame = head_frame(vertices)
    # Facts on the released point clouds: 19 to 30 degrees from the template, mostly pitch.
    assert 10 < math.degrees(frame.angle_from_ahead_rad) < 35
    points = frame.points_in_head(vertices)
    torch.testing.assert_close(
        points[LEFT_EYE].mean(0), torch.tensor([0.5, 0, 0]).double(), atol=1e-9, rtol=0
    )
    torch.testing.assert_close(
        points[RIGHT_EYE].mean(0), torch.tensor([-0.5, 0, 0]).double(), atol=1e-9, rtol=0
    )
    assert points[:, 2].max() == pytest.approx(float(frame.nose_tip[2]), abs=0.02)


def test_what_is_no_head_is_named():
    with pytest.raises(ValueError, match=r"shape \(7, 3\), expected \(5023, 3\)"):
        head_frame(torch.zeros(7, 3))
    with pytest.raises(ValueError, match="eyeballs lie in one place"):
        head_frame(torch.zeros(5023, 3))
    with pytest.raises(ValueError, match="eyeballs lie in one place"):
        head_frame(torch.full((5023, 3), float("nan")))
    far = torch.zeros(5023, 3)
    far[LEFT_EYE], far[RIGHT_EYE] = torch.tensor([0.03, 9, 0]), torch.tensor([-0.03, 9, 0])
    with pytest.raises(ValueError, match="no skin where a nose is"):
        head_frame(far)


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), count=st.integers(4, 40), angle=st.floats(0, 3.1))
def test_a_rigid_motion_is_found_exactly(seed, count, angle):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(count, 3, generator=generator).double()
    axis = torch.nn.functional.normalize(torch.randn(3, generator=generator).double(), dim=0)
    turn, shift = rotation_matrix(axis * angle), torch.randn(3, generator=generator).double()
    found_turn, found_shift = rigid_fit(points, points @ turn.T + shift)
    torch.testing.assert_close(found_turn, turn, atol=1e-6, rtol=0)
    torch.testing.assert_close(found_shift, shift, atol=1e-6, rtol=0)


def test_a_mirror_image_is_met_by_a_rotation_not_a_reflection():
    points = torch.randn(30, 3, generator=torch.Generator().manual_seed(1)).double()
    turn, _ = rigid_fit(points, points * torch.tensor([-1.0, 1, 1]))
    assert torch.linalg.det(turn) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="one shape"):
        rigid_fit(points, points[1:])
