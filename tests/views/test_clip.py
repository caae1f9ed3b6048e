"""Views from a clip: a head that turns, cuts, two people, and a bounded amount of memory."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor
from turning_head import ASTRONAUT_POINTS, Portrait, as_frame, turning

from fantasyid.face.cascade import detect_quickly
from fantasyid.face.crop import cut_crop, cut_view
from fantasyid.face.faces import DetectedFace, make_face
from fantasyid.face.points import points_from_box
from fantasyid.face.quality import color_histogram, covered, describe_quality, sharpness
from fantasyid.views.clip import collect_clip
from fantasyid.views.collect import Collection, ViewRules, describe_collection
from fantasyid.views.frames import ClipFrame, is_cut
from fantasyid.views.select import least_difference
from fantasyid.views.track import pyramid

pytestmark = pytest.mark.slow

SIZE = (360, 640)


@pytest.fixture(scope="module")
def portrait(astronaut: Tensor) -> Portrait:
    return Portrait(astronaut, ASTRONAUT_POINTS)


@pytest.fixture(scope="module")
def clip(portrait: Portrait) -> list[tuple[Tensor, tuple[float, float, float]]]:
    """Frames of a turning head and their true poses."""
    return [(portrait.render(p, *SIZE, 1.3, (320, 150)), p) for p in turning(40)]


def collect(
    frames: list[Tensor],
    detect: Callable = detect_quickly,
    same: Callable | None = None,
    **rules: object,
) -> tuple[Collection, str]:
    given = ViewRules(**rules)  # type: ignore[arg-type]
    pictures = (as_frame(number, picture) for number, picture in enumerate(frames))
    found = collect_clip(pictures, detect, given, same)
    return found, describe_collection(found, given)


def test_six_different_views_of_a_turning_head(clip: list) -> None:
    found, words = collect([f for f, _ in clip])
    assert len(found.views) == 6
    assert found.kept_frames == 40
    errors = [np.abs(np.array(v.pose.degrees) - clip[v.frame][1]) for v in found.views]
    assert np.mean(errors) < 5
    yaws = [v.pose.yaw for v in found.views]
    assert yaws == sorted(yaws)
    assert yaws[0] < -20 < 20 < yaws[-1]
    assert least_difference([v.pose for v in found.views], range(6)) > 10
    frontal = found.views[found.frontal]
    assert frontal.pose.turned < 6
    assert found.photo is not None
    assert torch.allclose(found.photo.float() / 255, clip[frontal.frame][0], atol=1 / 255)
    assert "40 frames, 0 cuts, a face in 40" in words
    assert f"frame {frontal.frame} " in words
    assert "(most frontal)" in words


def test_a_clip_without_a_face_says_so() -> None:
    noise = [torch.rand(*SIZE, 3, generator=torch.Generator().manual_seed(i)) for i in range(9)]
    found, words = collect(noise)
    assert not found.views
    assert words.startswith("No view found: 9 frames")
    assert "looks into the camera" in words


def test_after_a_cut_another_person_is_kept_apart(clip: list, portrait: Portrait) -> None:
    other = [portrait.render((0, 0, 0), *SIZE, 1.3, (420, 180)).pow(2.2) for _ in range(16)]
    found, words = collect([f for f, _ in clip[:24]] + other)
    assert found.cuts == 1
    assert found.people == 2
    assert all(v.frame < 24 for v in found.views)
    assert "1 cuts" in words
    assert "2 people or shots: kept the one seen longest" in words


def test_who_can_tell_people_apart_joins_shots(clip: list, portrait: Portrait) -> None:
    dark = [portrait.render((-30, 0, 0), *SIZE, 1.3, (420, 180)).pow(2.2) for _ in range(16)]
    frames = [f for f, _ in clip[:24]] + dark
    for same in (True, False):
        found, _ = collect(frames, same=lambda *_, s=same: s, most_covered=1.0)
        assert found.people == (1 if same else 2)
        assert found.kept_frames == (40 if same else 24)


def two_faces(photo: Tensor) -> list[DetectedFace]:
    """A detector with points that sees both halves of a picture."""
    height, width = photo.shape[:2]
    faces = []
    for x, side in ((width * 0.25, 60), (width * 0.7, 80)):
        box = (x - side, height * 0.45 - side, x + side, height * 0.45 + side)
        faces.append(make_face(box, points_from_box(box), 0.9, "a test"))
    return faces


def test_of_two_people_one_is_followed(astronaut: Tensor) -> None:
    picture = astronaut[:360].repeat(1, 2, 1)[:, :640]
    for rule, left in (("largest", False), ("left to right", True)):
        found, words = collect(
            [picture] * 17, two_faces, choose=rule, least_sharpness=0.0, most_covered=1.0
        )
        assert found.people == 1
        assert all((v.box[0] < 160) == left for v in found.views)
        assert "Several faces at once in 3 looks" in words


def beside(left: Tensor, right: Tensor) -> Tensor:
    """The left half of one picture beside the right half of another."""
    middle = left.shape[1] // 2
    return torch.cat([left[:, :middle], right[:, middle:]], dim=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("after", "light"),
    [
        ("they swap places", 1.0),
        ("only the other", 0.55),
        ("the other in front", 0.55),
    ],
)
def test_two_people_and_a_cut_give_views_of_one(
    astronaut: Tensor, portrait: Portrait, after: str, light: float
) -> None:
    """By the looks of the faces alone: nothing recognises anybody.

    With the same light and ground on both sides the cut itself goes unnoticed.
    """
    other = Portrait(astronaut.flip(2).roll(1, 0), ASTRONAUT_POINTS)  # a blue face
    places = {"left": (150, 150), "right": (490, 150), "front": (320, 150)}

    def shot(who: Portrait, where: str, pose: tuple[float, float, float]) -> Tensor:
        return who.render(pose, *SIZE, 1.3, places[where])

    poses = list(turning(30))
    frames = [
        beside(shot(portrait, "left", p), shot(other, "right", q))
        for p, q in zip(poses[:18], poses[2:20], strict=True)
    ]
    for p, q in zip(poses[:9], poses[12:21], strict=True):
        if after == "they swap places":
            picture = beside(shot(other, "left", p), shot(portrait, "right", q))
        else:
            picture = shot(other, "left" if after == "only the other" else "front", p)
        frames.append(picture * light)
    found, _ = collect(frames, least_sharpness=0.0, most_covered=1.0)
    blue = [
        float((v.crop[..., 2].float() - v.crop[..., 0].float()).mean()) > 0 for v in found.views
    ]
    assert len(set(blue)) == 1
    assert len(blue) > 1


def test_a_track_that_the_detector_denies_is_given_up(clip: list) -> None:
    looks = 0

    def once(photo: Tensor) -> list[DetectedFace]:
        nonlocal looks
        looks += 1
        return detect_quickly(photo) if looks == 1 else []

    found, _ = collect([clip[0][0]] * 50, once)
    assert found.with_face <= 24
    assert looks == 7


def test_small_blurred_and_covered_views_are_left_out(clip: list) -> None:
    frames = [f for f, _ in clip[:20]]
    found, words = collect(frames, least_face_px=400)
    assert not found.views
    assert found.too_small == 20
    assert "20 too small" in words
    found, words = collect(frames, least_sharpness=0.9)
    assert not found.views
    assert found.too_blurred > 0
    masked = [f.clone() for f in frames]
    for picture in masked[10:]:
        picture[190:260, 270:370] = torch.tensor([0.1, 0.3, 0.9])
    found, words = collect(masked, most_covered=0.3)
    assert found.too_covered > 0
    assert all(v.frame < 10 for v in found.views)


def test_a_cut_is_told_from_motion_and_from_a_fade(clip: list, astronaut: Tensor) -> None:
    gray = [pyramid(as_frame(0, f).gray)[-1] for f, _ in clip[:3]]
    assert not is_cut(gray[0], gray[2])
    assert not is_cut(gray[0], gray[0] * 0.95)
    other = pyramid(as_frame(0, astronaut[:360, :].repeat(1, 2, 1)[:, :640]).gray)[-1]
    assert is_cut(gray[0], other)
    assert is_cut(gray[0], other[:-1])


@pytest.mark.parametrize("factor", [1, 3])
def test_a_view_is_cut_as_a_photo_is(astronaut: Tensor, factor: int) -> None:
    large = torch.nn.functional.interpolate(
        astronaut.permute(2, 0, 1)[None], scale_factor=factor, mode="bilinear"
    )[0].permute(1, 2, 0)
    points = (ASTRONAUT_POINTS + 0.5) * factor - 0.5
    ours, theirs = cut_view(large, points), cut_crop(large, points.tolist())
    assert (ours - theirs).abs().mean() < (1e-6 if factor == 1 else 0.02)
    corner = ASTRONAUT_POINTS - [170, 60]
    assert (
        cut_view(astronaut[60:, 170:], corner) - cut_crop(astronaut[60:, 170:], corner.tolist())
    ).abs().max() < 2 / 255


def living_bytes() -> int:
    """Memory of all tensors and arrays that are alive."""
    gc.collect()
    values = [v for v in gc.get_objects() if type(v) is Tensor]
    return sum(v.nbytes for v in values) + tracemalloc.get_traced_memory()[0]


def test_memory_does_not_grow_with_the_clip(clip: list) -> None:
    """60 frames, made one at a time: the head looks around and half way back."""
    pictures = [picture for picture, _ in [*clip, *clip[::-1]]]
    living = []

    def frames() -> Iterator[ClipFrame]:
        for number in range(60):
            yield as_frame(number, pictures[number % len(pictures)].clone())
            if number in (20, 59):
                living.append(living_bytes())

    tracemalloc.start()
    found = collect_clip(frames(), detect_quickly, ViewRules())
    tracemalloc.stop()
    assert found.with_face > 50
    # 39 frames in between would be 108 MB.
    assert living[1] < living[0] + 16 * 512 * 512 * 3


def test_sharpness_falls_with_blur_and_not_with_light_or_size(astronaut: Tensor) -> None:
    crop = cut_crop(astronaut, ASTRONAUT_POINTS.tolist())
    planes = crop.permute(2, 0, 1)[None]
    values = [sharpness(crop)]
    for radius in (2, 4, 8):
        kernel = torch.ones(3, 1, 2 * radius + 1, 2 * radius + 1)
        kernel /= kernel[0].sum()
        blurred = torch.nn.functional.conv2d(planes, kernel, padding=radius, groups=3)
        values.append(sharpness(blurred[0].permute(1, 2, 0)))
    assert values == sorted(values, reverse=True)
    assert values[0] > 5 * values[-1]
    assert sharpness(crop * 0.5 + 0.2) == pytest.approx(values[0], rel=0.05)
    assert sharpness(torch.full((512, 512, 3), 0.5)) == 0
    assert describe_quality(crop, ASTRONAUT_POINTS.tolist()) == ""


def test_a_mask_covers_and_a_mirror_or_dimmer_light_does_not(astronaut: Tensor) -> None:
    crop = cut_crop(astronaut, ASTRONAUT_POINTS.tolist())
    usual = color_histogram(crop)
    assert usual.sum() == pytest.approx(1)
    assert covered(crop, usual) == pytest.approx(0, abs=1e-6)
    assert covered(crop.flip(1), usual) < 0.05
    assert covered(crop * 0.8, usual) < 0.2
    mask = crop.clone()
    mask[320:450, 130:380] = torch.tensor([0.2, 0.4, 0.9])
    assert covered(mask, usual) > 0.3
