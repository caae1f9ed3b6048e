"""Views from photos that have nothing to do with each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor
from turning_head import ASTRONAUT_POINTS, Portrait

from fantasyid.face.cascade import detect_quickly
from fantasyid.face.faces import DetectedFace, make_face
from fantasyid.face.pose import FIVE_POINTS_MM, FaceFit, rotation_from_pose
from fantasyid.views.collect import (
    MOST_PEOPLE_ON_PHOTOS,
    SEARCHED_SIDE_PX,
    Collection,
    Collector,
    ViewRules,
    collect_photos,
    describe_collection,
)
from fantasyid.views.photos import Photo

pytestmark = pytest.mark.slow

SIZE, PX_PER_MM, CENTRE = (360, 480), 1.3, (240, 150)
POSES = [(0, 0, 0), (30, 0, 0), (-30, 0, 0), (0, 12, 0), (30, 0, 40), (2, 0, 0)]


@pytest.fixture(scope="module")
def portrait(astronaut: Tensor) -> Portrait:
    return Portrait(astronaut, ASTRONAUT_POINTS)


def as_photo(picture: Tensor, name: str) -> Photo:
    return Photo(name, (picture * 255).round().to(torch.uint8).numpy())


@pytest.fixture(scope="module")
def photos(portrait: Portrait) -> list[Photo]:
    made = [portrait.render(p, *SIZE, PX_PER_MM, CENTRE) for p in POSES]
    return [as_photo(picture, f"{i}.jpg") for i, picture in enumerate(made)]


def knows_poses(poses: Sequence[tuple[float, float, float]]) -> Callable:
    """A detector that was told where the heads look, photo by photo."""
    told = iter(poses)

    def detect(photo: Tensor) -> list[DetectedFace]:
        scale = photo.shape[1] / SIZE[1]
        centre = (np.array(CENTRE) + 0.5) * scale - 0.5
        fit = FaceFit(rotation_from_pose(*next(told)), PX_PER_MM * scale, centre)
        points = fit.project(FIVE_POINTS_MM)
        box = np.concatenate([points.min(0) - 40 * scale, points.max(0) + 40 * scale])
        return [make_face(box, points, 0.9, "a test")]

    return detect


def collect(
    photos: list[Photo], detect: Callable, same: Callable | None = None, **rules: object
) -> tuple[Collection, str]:
    given = ViewRules(**rules)  # type: ignore[arg-type]
    found = collect_photos(photos, detect, given, same)
    return found, describe_collection(found, given)


def test_the_most_different_photos_are_kept(photos: list[Photo]) -> None:
    found, words = collect(photos, knows_poses(POSES), count=4)
    assert [v.name for v in found.views] == ["2.jpg", "0.jpg", "3.jpg", "4.jpg"]
    assert found.views[found.frontal].name == "0.jpg"
    assert found.photo is not None
    assert np.array_equal(found.photo.numpy(), photos[0].pixels)
    for view in found.views:
        truth = POSES[int(view.name[0])]
        assert np.abs(np.array(view.pose.degrees) - truth).max() < 3
    assert "6 photos, a face in 6." in words
    assert "0.jpg: yaw" in words
    assert "(most frontal)" in words
    assert "Nothing checked that all show one person" in words


def test_the_crop_is_that_of_the_whole_photo(portrait: Portrait) -> None:
    large = portrait.render((0, 0, 0), 1080, 1440, 3.9, (720, 450))
    small = portrait.render((0, 0, 0), *SIZE, PX_PER_MM, CENTRE)
    assert max(large.shape) > SEARCHED_SIDE_PX
    (view,), (other,) = (
        found.views
        for found, _ in (
            collect([as_photo(picture, "a.jpg")], knows_poses([(0, 0, 0)]))
            for picture in (large, small)
        )
        if found is not None
    )
    assert np.allclose(view.box, np.array(other.box) * 3, atol=4)
    assert (view.crop.float() - other.crop.float()).abs().mean() < 8
    assert view.sharpness > 0


def test_a_detector_with_boxes_alone_gives_the_sharpest(photos: list[Photo]) -> None:
    blurred = photos[0].pixels.astype(np.float32)
    for _ in range(6):
        blurred = (blurred + np.roll(blurred, 1, 0) + np.roll(blurred, 1, 1)) / 3
    soft = Photo("soft.jpg", blurred.round().astype(np.uint8))
    again = Photo("again.jpg", photos[0].pixels)
    given = [soft, photos[0], again, photos[5]]
    found, words = collect(given, detect_quickly, count=2, least_sharpness=0.0)
    assert len(found.views) == 2
    assert {v.name for v in found.views} == {"0.jpg", "5.jpg"}
    assert "angles unknown" in words
    assert "(sharpest)" in words
    assert "degrees" not in words
    everything, _ = collect(given, detect_quickly, count=6, least_sharpness=0.0)
    assert sorted(v.name for v in everything.views) == ["0.jpg", "5.jpg", "soft.jpg"]


def test_who_can_tell_people_apart_keeps_one(photos: list[Photo]) -> None:
    bright = photos[:2]
    dark = [Photo(f"dark {p.name}", p.pixels // 3) for p in photos[:4]]

    def same(one: Tensor, other: Tensor) -> bool:
        return abs(float(one.mean() - other.mean())) < 0.15

    mixed = [bright[0], dark[0], dark[1], bright[1], dark[2], dark[3]]
    poses = [POSES[0], POSES[0], POSES[1], POSES[1], POSES[2], POSES[3]]
    found, words = collect(mixed, knows_poses(poses), same)
    assert all(v.name.startswith("dark") for v in found.views)
    assert found.kept_frames == 4
    assert "2 people: kept the one on most photos, 4." in words
    assert "Nothing checked" not in words
    together, words = collect(mixed, knows_poses(poses))
    assert together.kept_frames == 6
    assert "people" not in words


def test_of_very_many_people_those_seen_often_are_remembered(photos: list[Photo]) -> None:
    gray = [Photo(f"{i}.jpg", np.full_like(photos[0].pixels, 10 * i)) for i in range(20)]
    given = [gray[0], gray[0], *gray, gray[0]]

    def same(one: Tensor, other: Tensor) -> bool:
        return abs(float(one.mean() - other.mean())) < 0.01

    found, _ = collect(given, knows_poses([(0, 0, 0)] * len(given)), same, least_sharpness=0.0)
    assert found.kept_frames == 4
    assert found.people == 20
    collector = Collector(ViewRules(), same, photos=True)
    often = collector.meet()
    often.seen = 2
    for _ in range(20):
        collector.meet().seen = 1
    assert len(collector.people) == MOST_PEOPLE_ON_PHOTOS
    assert often in collector.people


def test_photos_without_a_good_face_say_why(photos: list[Photo]) -> None:
    found, words = collect(photos[:2], knows_poses(POSES), least_face_px=400)
    assert not found.views
    assert words.startswith("No view found: 2 photos, a face in 2.")
    assert "2 too small (under 400 px)" in words
    assert "Use photos in which one face is large" in words
    found, words = collect(photos[:2], knows_poses(POSES), least_sharpness=0.9)
    assert not found.views
    assert "2 too blurred" in words
    found, words = collect(photos[:2], lambda _: [])
    assert not found.views
    assert "2 photos, a face in 0" in words


def test_several_faces_on_a_photo_are_said_and_the_rule_takes_one(photos: list[Photo]) -> None:
    def both(_: Tensor) -> list[DetectedFace]:
        return [make_face((10, 20, 130, 140), None, 0.9, "a test"), wide]

    wide = make_face((150, 60, 330, 240), None, 0.5, "a test")
    for rule, left in (("largest", False), ("left to right", True)):
        found, words = collect(photos[:1], both, choose=rule, least_sharpness=0.0, least_face_px=16)
        assert (found.views[0].box[0] < 120) == left
        assert "Several faces on 1 photos: the rule took one." in words
