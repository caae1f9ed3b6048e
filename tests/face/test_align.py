"""The align stage: whose points, which face, how far each detector moves the crop, what is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from turning_head import ASTRONAUT_POINTS as ASTRONAUT

from fantasyid.face.align import (
    CONTINUE,
    SKIP,
    STOP,
    Alignment,
    FaceChoice,
    align_faces,
    summarize,
)
from fantasyid.face.cascade import turn_photo
from fantasyid.face.crop import FACE_TEMPLATE_PX, align_crop, similarity_lmeds
from fantasyid.face.faces import DetectedFace, make_face
from fantasyid.face.sources import FaceSources, at_any_roll, open_detector, open_detectors

pytestmark = pytest.mark.slow

NEWTON = np.array([[536, 246], [648, 254], [596, 324], [538, 398], [636, 406]], float)
CENTRE = FaceChoice("nearest centre")


@pytest.fixture(scope="module")
def newton(shared: Path) -> Tensor:
    from PIL import Image

    picture = np.array(Image.open(shared / "data" / "newton.jpg").convert("RGB"))
    return torch.from_numpy(picture).float() / 255


def sources(**changes: Any) -> FaceSources:
    given: dict = {"detector": "cascade"} | changes
    return FaceSources(**given)


def align(photo: Tensor, given: FaceSources) -> Alignment:
    (found,) = align_faces([photo], given, CENTRE, STOP)
    return found


def typed(points: NDArray) -> str:
    return " ".join(f"{x},{y}" for x, y in points)


def moved_px(points: NDArray, truth: NDArray) -> float:
    """How far the crop of 512 px moves, mean over the true five points."""
    by_points, by_truth = (similarity_lmeds(p, FACE_TEMPLATE_PX) for p in (points, truth))
    places = [truth @ m[:, :2].T + m[:, 2] for m in (by_points, by_truth)]
    return float(np.linalg.norm(places[0] - places[1], axis=1).mean())


@pytest.mark.parametrize("name", ["astronaut", "newton"])
def test_how_far_the_cascade_moves_the_crop(
    name: str, request: pytest.FixtureRequest, record_property
) -> None:
    photo = request.getfixturevalue(name)
    pytest.importorskip("skimage")
    found = align(photo, sources())
    assert found.crop.points is not None
    truth = {"astronaut": ASTRONAUT, "newton": NEWTON}[name]
    moved = moved_px(found.crop.points.numpy().astype(float), truth)
    record_property("moved_px", moved)
    assert 0 < moved < 35, f"{moved:.1f} px of 512"


def test_how_far_landmarks_and_hand_points_move_the_crop(astronaut: Tensor) -> None:
    mesh = np.random.default_rng(0).uniform(180, 270, (478, 2))
    mesh[[468, 473, 1, 61, 291]] = ASTRONAUT
    value = {"frames": [[{"landmarks_xy": mesh}]], "image_size": (512, 512)}
    for given in ({"landmarks": value}, {"points": typed(ASTRONAUT)}):
        found = align(astronaut, sources(**given))
        assert found.crop.points is not None
        assert moved_px(found.crop.points.numpy().astype(float), ASTRONAUT) < 1e-3
        assert torch.equal(found.crop.images[0], align_crop(astronaut, ASTRONAUT)[0])


@pytest.mark.parametrize("turn", [25.0, 180.0])
def test_a_tilted_face_is_found_and_cut_upright(astronaut: Tensor, turn: float) -> None:
    pytest.importorskip("skimage")
    turned, matrix = turn_photo(astronaut[:300, 80:380], turn)
    found = align(turned, sources())
    truth = (ASTRONAUT - [80, 0]) @ matrix[:, :2].T + matrix[:, 2]
    assert found.crop.points is not None
    assert moved_px(found.crop.points.numpy().astype(float), truth) < 40
    upright = similarity_lmeds(found.crop.points.numpy(), FACE_TEMPLATE_PX)
    assert abs(np.degrees(np.arctan2(upright[1, 0], upright[0, 0])) + turn + 180) % 360 - 180 < 15
    assert "tilted by about" in found.message


def test_points_of_a_turned_photo_come_back_to_the_photo(astronaut: Tensor) -> None:
    truth, matrix = None, None

    def only_upside_down(photo: Tensor) -> list[DetectedFace]:
        nonlocal truth, matrix
        if photo.shape[0] == 512:
            return []
        _, matrix = turn_photo(astronaut, 90.0)
        truth = (ASTRONAUT @ matrix[:, :2].T + matrix[:, 2]) * photo.shape[0] / 725
        low, high = truth.min(0), truth.max(0)
        return [make_face((*low, *high), truth, 0.9, "a test")]

    (face,) = at_any_roll(only_upside_down)(astronaut)
    assert np.allclose(np.array(face.points), ASTRONAUT, atol=1e-6)
    assert face.roll_deg == -90
    x0, y0, x1, y1 = face.box
    centre = (ASTRONAUT.min(0) + ASTRONAUT.max(0)) / 2
    assert np.allclose([(x0 + x1) / 2, (y0 + y1) / 2], centre)


def test_the_first_source_that_is_given_wins(astronaut: Tensor) -> None:
    box = {"x": 100, "y": 100, "width": 50, "height": 50}
    mesh = {"frames": [[{"landmarks_xy": np.random.default_rng(0).uniform(0, 99, (478, 2))}]]}

    def name(**given: object) -> str:
        return open_detectors(sources(**given), 1)[0](astronaut)[0].detector

    everything: dict = {"points": typed(ASTRONAUT), "landmarks": mesh, "boxes": box}
    assert name(**everything) == "points by hand"
    assert name(**everything | {"points": ""}) == "MediaPipe landmarks"
    assert name(boxes=box) == "bounding box"
    assert sources(**everything).words == "points by hand"
    assert sources(landmarker=object()).words == "MediaPipe model"


def test_auto_takes_the_cascade_where_insightface_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from fantasyid.face.cascade import detect_with_cascade

    monkeypatch.setitem(sys.modules, "insightface.app", None)
    assert open_detector(sources(detector="auto")) is detect_with_cascade
    with pytest.raises(ImportError, match="insightface"):
        open_detector(sources(detector="insightface"))


def test_host_values_of_another_size_or_number_are_refused(astronaut: Tensor) -> None:
    value = {"frames": [[]], "image_size": (100, 200)}
    with pytest.raises(ValueError, match="of a 200x100 image, this one is 512x512"):
        align(astronaut, sources(landmarks=value))
    value = {"frames": [[], [], []]}
    with pytest.raises(ValueError, match="are of 3 images, the image input holds 2"):
        align_faces([astronaut] * 2, sources(landmarks=value), CENTRE, STOP)
    box = {"x": 0, "y": 0, "width": 5, "height": 5}
    with pytest.raises(ValueError, match="are of 2 images, but there is an image 2"):
        align_faces([astronaut] * 3, sources(boxes=[[box], [box]]), CENTRE, STOP)


def boxes(*lefts: float) -> list[dict]:
    return [{"x": x, "y": 60, "width": 100, "height": 110} for x in lefts]


def test_every_image_of_a_batch_has_its_own_boxes(astronaut: Tensor) -> None:
    aligned = align_faces([astronaut] * 2, sources(boxes=[boxes(170), boxes(40)]), CENTRE, STOP)
    assert [a.crop.box[0] for a in aligned if a.crop.box] == [170, 40]
    assert not torch.equal(aligned[0].crop.images, aligned[1].crop.images)
    same = align_faces([astronaut] * 2, sources(boxes=boxes(170)), CENTRE, STOP)
    assert torch.equal(same[0].crop.images, same[1].crop.images)


def test_following_keeps_the_face_that_moves(astronaut: Tensor) -> None:
    frames = [boxes(20, 200), boxes(60, 200), boxes(100, 205), boxes(140, 300)]
    photos = [astronaut] * 4
    choice = FaceChoice("left to right", 0, follow=True)
    crossing = [boxes(200, 20), boxes(200, 60), boxes(100, 190), boxes(140, 180)]
    for batch in (frames, crossing):
        aligned = align_faces(photos, sources(boxes=batch), choice, STOP)
        assert [a.crop.box[0] for a in aligned if a.crop.box] == [20, 60, 100, 140]
    loose = align_faces(photos, sources(boxes=frames), FaceChoice("nearest centre"), STOP)
    assert [a.crop.box[0] for a in loose if a.crop.box] != [20, 60, 100, 140]


def test_policies(astronaut: Tensor) -> None:
    blank = torch.full((64, 80, 3), 0.5)
    empty = sources(boxes=[[], boxes(170)])
    photos = [blank, astronaut]
    with pytest.raises(ValueError, match="image 0: no face found in the 80x64 photo"):
        align_faces(photos, empty, CENTRE, STOP)
    aligned = align_faces(photos, empty, CENTRE, SKIP)
    assert aligned[0].crop.empty_reason
    assert "1 of 2 images have a face" in summarize(aligned, SKIP)
    assert "left out: 0" in summarize(aligned, SKIP)
    assert "black in the crops: 0" in summarize(aligned, CONTINUE)
    none = align_faces([blank], sources(boxes=[]), CENTRE, SKIP)
    with pytest.raises(ValueError, match="every image was skipped"):
        summarize(none, SKIP)
    assert summarize(none, CONTINUE).startswith("NO IDENTITY")
    with pytest.raises(ValueError, match='policy is "shrug"'):
        align_faces(photos, empty, CENTRE, "shrug")


def test_small_and_blurred_faces_are_said_to_be(astronaut: Tensor) -> None:
    def words(photo: Tensor, points: NDArray) -> Alignment:
        return align(photo, sources(points=typed(points)))

    assert "Small" not in words(astronaut, ASTRONAUT).message
    assert "Blurred" not in words(astronaut, ASTRONAUT).message
    quarter = astronaut[::4, ::4]
    small = words(quarter, ASTRONAUT / 4).message
    assert "Small: the eyes are 11 px apart, the crop is enlarged 11.4 times" in small
    kernel = torch.ones(3, 1, 9, 9) / 81
    planes = torch.nn.functional.conv2d(
        astronaut.permute(2, 0, 1)[None], kernel, padding=4, groups=3
    )
    assert "Blurred" in words(planes[0].permute(1, 2, 0), ASTRONAUT).message


def test_the_photo_is_left_alone_and_each_image_is_ticked(astronaut: Tensor) -> None:
    before, ticks = astronaut.clone(), []
    align_faces([astronaut] * 2, sources(boxes=boxes(170)), CENTRE, STOP, lambda: ticks.append(1))
    assert torch.equal(astronaut, before)
    assert len(ticks) == 2
