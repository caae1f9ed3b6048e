"""FM of a rendered head against the flow of its vertices, with and without a moving camera."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from evaluation.metrics.moving_head import SIDE, Moment, camera_flow, face_box, scene, true_flow
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from fantasyid.evaluation.metrics.motion import (
    FaceMotion,
    face_motion,
    face_region,
    surroundings,
    texture,
)

pytestmark = pytest.mark.slow

START = Moment()


def true_fm(second: Moment) -> tuple[float, float]:
    """Mean flow in the face in pixels: as it is, and without the camera's."""
    region = face_region(face_box(START), SIDE, SIDE)
    flow = true_flow(START, second)[region]
    rest = flow - camera_flow(second)[region]
    return flow.norm(dim=-1).mean().item(), rest.norm(dim=-1).mean().item()


def measured(second: Moment, wall: bool = True) -> FaceMotion:
    motion = face_motion(scene(START, wall), scene(second, wall), face_box(START), "cpu")
    assert motion is not None
    return motion


@pytest.mark.parametrize(
    "second",
    [
        Moment(pose=(4, 0, 0)),
        Moment(pose=(0, -3, 0)),
        Moment(pose=(0, 0, 3)),
        Moment(pose=(-8, 2, 0), shift=2),
        Moment(shift=-5),
    ],
    ids=["yaw", "pitch", "roll", "yaw and shift", "shift"],
)
def test_fm_is_the_flow_of_the_vertices(second: Moment) -> None:
    expected, _ = true_fm(second)
    assert measured(second, wall=False).px == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    "second",
    [
        Moment(camera=(-4, 3)),
        Moment(pose=(3, 0, 3), shift=3, camera=(3, 2)),
        Moment(zoom=1.03),
        Moment(pose=(0, 0, 3)),
    ],
    ids=["pan over a still head", "head and camera", "zoom", "camera at rest"],
)
def test_the_cameras_motion_is_taken_off(second: Moment) -> None:
    expected, without = true_fm(second)
    motion = measured(second)
    assert motion.px == pytest.approx(expected, rel=0.05, abs=0.05)
    assert motion.still_px == pytest.approx(without, rel=0.05, abs=0.05)


def test_a_head_that_moves_with_the_camera_only_moves_by_nothing_else() -> None:
    motion = measured(Moment(shift=5, camera=(5, 0)))
    assert motion.px == pytest.approx(5, rel=0.05)
    assert motion.still_px == pytest.approx(0, abs=0.1)


def test_a_still_picture_does_not_move_at_all() -> None:
    motion = measured(START)
    assert (motion.px, motion.still_px, motion.percent) == (0, 0, 0)


def test_without_texture_around_nobody_knows_the_camera() -> None:
    motion = measured(Moment(shift=3), wall=False)
    assert motion.still_px is None
    assert motion.still_percent is None


def twice_as_large(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    planes = torch.from_numpy(picture)[None, None]
    return interpolate(planes, scale_factor=2, mode="bilinear")[0, 0].numpy()


def test_fm_does_not_depend_on_the_size_of_the_picture() -> None:
    second = Moment(pose=(6, 0, 4))
    small = measured(second)
    before, now = (twice_as_large(scene(m)) for m in (START, second))
    x0, y0, x1, y1 = face_box(START)
    large = face_motion(before, now, (2 * x0, 2 * y0, 2 * x1, 2 * y1), "cpu")
    assert large is not None
    assert large.px == pytest.approx(2 * small.px, rel=0.05)
    assert large.percent == pytest.approx(small.percent, rel=0.05)
    assert small.face_px == pytest.approx((80 * 96) ** 0.5)


def test_a_face_outside_the_picture_has_no_motion() -> None:
    picture = scene(START)
    assert face_motion(picture, picture, (-90, -90, -10, -10), "cpu") is None


def test_the_region_is_the_ellipse_of_the_box_and_the_surroundings_are_not_the_person() -> None:
    region = face_region((20, 10, 60, 70), 100, 90)
    assert region.sum().item() == pytest.approx(np.pi * 20 * 30, rel=0.01)
    assert region[40, 40]
    assert not region[12, 22]
    around = surroundings((20, 10, 60, 70), 100, 200)
    assert not (around[:, :90] & face_region((20, 10, 60, 70), 100, 90)).any()
    assert not around[99, 40]  # the body
    assert around[99, 150]


def test_only_corners_and_patterns_count_as_texture() -> None:
    flat, edge = torch.full((60, 60), 90.0), torch.zeros(60, 60)
    edge[:, 30:] = 255
    assert texture(flat).max() == 0
    assert texture(edge)[30, 30] == pytest.approx(0, abs=1e-3)
    corner = edge.clone()
    corner[30:] = 0
    assert texture(corner)[30, 30] > 100
