"""Rotation matrices against scipy and the properties of rotations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from fantasyid.geometry.rotations import rotation_matrix

angles = st.lists(st.floats(-6, 6), min_size=3, max_size=3)


@given(angles)
def test_it_equals_scipy(axis_angle_rad):
    got = rotation_matrix(torch.tensor(axis_angle_rad, dtype=torch.float64))
    # The released quirk shifts the axis-angle by 1e-8.
    np.testing.assert_allclose(
        got.numpy(), Rotation.from_rotvec(axis_angle_rad).as_matrix(), atol=1e-7
    )


def test_the_released_shift_of_the_angle_is_kept():
    axis_angle_rad = torch.tensor([3e-8, 0.0, 0.0], dtype=torch.float64)
    angle_rad = torch.linalg.vector_norm(axis_angle_rad + 1e-8)
    sine = (axis_angle_rad[0] / angle_rad) * torch.sin(angle_rad)
    assert rotation_matrix(axis_angle_rad)[2, 1] == sine
    assert torch.equal(rotation_matrix(torch.zeros(3)), torch.eye(3))


def test_it_takes_any_leading_axes_and_has_gradients_at_rest():
    axis_angle_rad = torch.zeros(2, 4, 3, requires_grad=True)
    matrices = rotation_matrix(axis_angle_rad)
    assert matrices.shape == (2, 4, 3, 3)
    (gradient,) = torch.autograd.grad(matrices[..., 2, 1].sum(), axis_angle_rad)
    assert torch.isfinite(gradient).all()
    assert gradient[..., 0].abs().min() > 0.5


def test_a_wrong_shape_is_named():
    with pytest.raises(ValueError, match=r"expected the shape \(\.\.\., 3\), got \(2, 4\)"):
        rotation_matrix(torch.zeros(2, 4))
