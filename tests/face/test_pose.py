"""Head pose: the signs, exact inverses, and accuracy on a head that is not the generic one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from turning_head import place, render_head, stand_in_head, turning

from fantasyid.face.crop import FACE_TEMPLATE_PX
from fantasyid.face.pose import (
    FIVE_POINTS_MM,
    LANDMARKS_MM,
    Pose,
    fit_face,
    pose_from_landmarks,
    pose_from_rotation,
    rotation_from_pose,
)
from fantasyid.views.track import follow, pyramid, surface_mm

pytestmark = pytest.mark.slow

poses = st.tuples(st.floats(-80, 80), st.floats(-80, 80), st.floats(-179, 179))
GRID = [(y, p, r) for y in range(-60, 61, 20) for p in (-30, 0, 30) for r in (-45, 0, 45)]


def projected(points_mm: NDArray, pose: tuple[float, float, float]) -> NDArray:
    return (points_mm @ rotation_from_pose(*pose).T)[:, :2] * [2.0, -2.0] + [300, 200]


@given(pose=poses)
def test_angles_and_rotations_are_inverse(pose: tuple[float, float, float]) -> None:
    rotation = rotation_from_pose(*pose)
    assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert pose_from_rotation(rotation) == pytest.approx(pose, abs=1e-6)


def test_signs_are_those_of_the_picture() -> None:
    right, up, over = (rotation_from_pose(*p) for p in ((30, 0, 0), (0, 30, 0), (0, 0, 30)))
    assert right[0, 2] > 0  # the nose goes to the right
    assert up[1, 2] > 0  # and up
    assert over[0, 1] > 0  # the crown goes to the right: clockwise


@given(
    pose=st.tuples(st.floats(-65, 65), st.floats(-35, 35), st.floats(-179, 179)),
    scale=st.floats(0.2, 20),
    x=st.floats(-500, 500),
)
def test_the_generic_face_is_measured_exactly(
    pose: tuple[float, float, float], scale: float, x: float
) -> None:
    points = (FIVE_POINTS_MM @ rotation_from_pose(*pose).T)[:, :2] * [scale, -scale] + [x, 7]
    fit = fit_face(points, FIVE_POINTS_MM)
    assert fit.pose.degrees == pytest.approx(pose, abs=0.2)
    assert fit.scale == pytest.approx(scale, rel=1e-2)
    assert np.allclose(fit.project(FIVE_POINTS_MM), points, atol=scale)


def test_the_released_template_looks_into_the_camera() -> None:
    pose = fit_face(FACE_TEMPLATE_PX).pose
    assert abs(pose.yaw) < 2
    assert abs(pose.pitch) < 3
    assert abs(pose.roll) < 1


def test_five_points_of_another_head_are_right_within_five_degrees() -> None:
    *_, points = stand_in_head()
    errors = [
        np.abs(np.array(fit_face(projected(points, pose)).pose.degrees) - pose) for pose in GRID
    ]
    assert (np.mean(errors, axis=0) < 5).all(), np.mean(errors, axis=0)


def test_face_mesh_landmarks_give_the_pose() -> None:
    for pose in GRID:
        mesh = np.random.default_rng(1).uniform(0, 500, (478, 2))
        mesh[list(LANDMARKS_MM)] = projected(np.array(list(LANDMARKS_MM.values())), pose)
        mesh[list(LANDMARKS_MM)] += np.random.default_rng(2).normal(0, 1.5, (len(LANDMARKS_MM), 2))
        assert pose_from_landmarks(mesh).degrees == pytest.approx(pose, abs=4)


def test_the_surface_goes_through_the_five_points() -> None:
    x, y, z = FIVE_POINTS_MM.T
    assert np.abs(surface_mm(x, y) - z).max() < 5


def test_a_head_that_turns_is_followed_within_five_degrees() -> None:
    *_, points = stand_in_head()
    wanted = [(p, 15 * np.sin(i / 8)) for i, p in enumerate(turning(40))]
    start, shift = wanted[0]
    face = fit_face(place(points, start, 280, 0.9, shift))
    before, errors = pyramid(render_head(start, 280, 0.9, shift)), []
    for pose, shift in wanted[1:]:
        now = pyramid(render_head(pose, 280, 0.9, shift))
        followed = follow(face, before, now)
        assert followed is not None
        face, before = followed, now
        errors.append(np.abs(np.array(face.pose.degrees) - pose))
        assert np.abs(face.points - place(points, pose, 280, 0.9, shift)).max() < 10
    assert (np.mean(errors, axis=0) < 5).all(), np.mean(errors, axis=0)


def test_a_face_that_vanishes_is_lost() -> None:
    *_, points = stand_in_head()
    face = fit_face(place(points, (0, 0, 0), 280, 0.9, 0))
    picture = render_head((0, 0, 0), 280, 0.9)
    blank = np.full_like(picture, 120)
    assert follow(face, pyramid(blank), pyramid(blank)) is None
    noise = np.random.default_rng(0).uniform(0, 255, picture.shape).astype(np.float32)
    assert follow(face, pyramid(picture), pyramid(noise)) is None
    outside = fit_face(place(points, (0, 0, 0), 280, 0.9, 0) + 900)
    assert follow(outside, pyramid(picture), pyramid(picture)) is None


def test_a_face_that_stays_stays() -> None:
    *_, points = stand_in_head()
    face = fit_face(place(points, (10, 5, 0), 280, 0.9, 0))
    picture = pyramid(render_head((10, 5, 0), 280, 0.9))
    same = follow(face, picture, picture)
    assert same is not None
    assert np.abs(same.points - face.points).max() < 0.05


@given(a=poses, b=poses, c=poses)
def test_pose_difference_is_a_metric(a: tuple, b: tuple, c: tuple) -> None:
    x, y, z = Pose(*a), Pose(*b), Pose(*c)
    assert x.distance(x) == 0
    assert x.distance(y) == pytest.approx(y.distance(x))
    assert x.distance(z) <= x.distance(y) + y.distance(z) + 1e-9


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (np.zeros((5, 2)), "coincide"),
        (np.full((5, 2), np.nan), "finite"),
        (np.zeros((3, 2)), r"expected \(N, 2\)"),
    ],
)
def test_points_that_are_no_face_are_named(points: NDArray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fit_face(points, FIVE_POINTS_MM[: len(points)])
