"""Whole clips: still, shuffled, two people, nobody, cuts, and what is said and written of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from turning_head import ASTRONAUT_POINTS, Portrait
from video_files import write_video

from fantasyid.evaluation.metrics.measure import WORST_FRAMES, Tools, embed_reference, measure
from fantasyid.evaluation.metrics.measurement import Measurement, as_csv, as_json, describe
from fantasyid.evaluation.metrics.plot import draw_plot, draw_worst, round_ticks, tick_decimals
from fantasyid.face.faces import DetectedFace, make_face
from fantasyid.face.recognizer import Embedding, Recognizer, arcface_input, unit
from fantasyid.identity import FaceCrops
from fantasyid.views.frames import frames_of_pictures, frames_of_video

pytestmark = pytest.mark.slow

HEIGHT, WIDTH = 200, 240
CENTRE = (120.0, 90.0)
POINTS = np.array([[104, 82], [136, 82], [120, 100], [108, 118], [132, 118]], float)


def detect(photo: Tensor) -> list[DetectedFace]:
    """The face in the middle of a portrait; none in a flat picture."""
    if float(photo.std()) < 0.02:
        return []
    points = POINTS * (photo.shape[1] / WIDTH)
    low, high = points.min(0) - 14, points.max(0) + 14
    return [make_face((*low, *high), points, 0.9, "stub")]


def embed(photo: Tensor, points: object) -> Embedding:
    """Colors of the aligned face in 14 x 14 fields, without their mean."""
    picture = torch.from_numpy(arcface_input(photo, np.asarray(points)))
    fields = torch.nn.functional.avg_pool2d(picture, 8).numpy().ravel()
    return unit(fields - fields.mean())


RECOGNISER = Recognizer(Path("stub.onnx"), "stub network (licence of the stub)", embed)


def render(photo: Tensor, count: int, width_deg: float = 9.0) -> list[Tensor]:
    """Frames of somebody who turns the head slowly, and back."""
    portrait = Portrait(photo, ASTRONAUT_POINTS)
    angles = [width_deg * np.sin(np.pi * i / max(1, count - 1)) for i in range(count)]
    return [portrait.render((a, 0, 0), HEIGHT, WIDTH, 0.5, CENTRE) for a in angles]


@pytest.fixture(scope="module")
def person(astronaut: Tensor) -> list[Tensor]:
    return render(astronaut, 9)


@pytest.fixture(scope="module")
def stranger(astronaut: Tensor) -> list[Tensor]:
    """The same head with other features: upside down colors of another face's fields."""
    other = astronaut.clone()
    other[80:175, 185:265] = 0.9 - 0.8 * astronaut[80:175, 185:265].flip(0)
    return render(other.clamp(0, 1), 3)


@pytest.fixture(scope="module")
def tools(person: list[Tensor]) -> Tools:
    return Tools(detect, recognizer=RECOGNISER, references=[embed(person[0], POINTS)])


def run(pictures: list[Tensor], tools: Tools) -> Measurement:
    return measure(frames_of_pictures(pictures, 25.0), tools)


def test_identical_frames_are_steady_and_still(person: list[Tensor], tools: Tools) -> None:
    still = run([person[0]] * 5, tools)
    assert still.mean("ifs") == pytest.approx(1)
    assert still.mean("rs") == pytest.approx(1, abs=1e-3)
    assert still.mean("fm") == 0
    assert [still.count(name) for name in ("box", "rs", "ifs", "fm")] == [5, 5, 4, 4]


def test_shuffled_frames_are_less_steady_and_move_more(person: list[Tensor], tools: Tools) -> None:
    ordered, shuffled = (
        run(person, tools),
        run([person[i] for i in (0, 5, 1, 6, 2, 8, 4, 3, 7)], tools),
    )
    for name, sign in (("ifs", 1), ("fm", -1)):
        values = [m.mean(name) for m in (ordered, shuffled)]
        assert values[0] is not None
        assert values[1] is not None
        assert sign * values[0] > sign * values[1]
    assert ordered.mean("rs") == pytest.approx(shuffled.mean("rs"))


def test_rs_ranks_two_people(person: list[Tensor], stranger: list[Tensor], tools: Tools) -> None:
    own, other = (run(p, tools).mean("rs") for p in (person, stranger))
    assert own is not None
    assert other is not None
    assert own > other + 0.2


def test_frames_without_a_face_are_counted_and_left_out(person: list[Tensor], tools: Tools) -> None:
    flat = torch.full((HEIGHT, WIDTH, 3), 0.75)
    measured = run([person[0], flat, *person[1:4]], tools)
    assert measured.count("box") == 4
    assert measured.count("rs") == 4
    assert measured.count("ifs") == measured.count("fm") == 2
    empty = measured.frames[1]
    assert (empty.rs, empty.ifs, empty.fm, empty.box) == (None,) * 4
    assert measured.mean("rs") == pytest.approx(
        np.mean([f.rs for f in measured.frames if f.rs is not None])
    )
    assert "Faces found in 4 of 5 frames (stub); the others are left out." in describe(measured)
    nobody = run([flat, flat], tools)
    assert nobody.mean("rs") is None
    assert nobody.mean("fm") is None
    assert "Faces found in 0 of 2 frames" in describe(nobody)
    assert draw_plot(nobody).shape[1] == 960
    assert draw_worst(nobody).ndim == 3


def test_no_motion_is_measured_across_a_cut(person: list[Tensor], tools: Tools) -> None:
    dark = [(p * 0.3) for p in person[:2]]
    measured = run([*person[:2], *dark], tools)
    assert [f.cut for f in measured.frames] == [False, False, True, False]
    assert [f.fm is None for f in measured.frames] == [True, False, True, False]
    assert measured.count("ifs") == 3
    assert "1 cuts: no motion is measured across them." in describe(measured)


def test_a_pasted_photo_is_called_by_its_name(person: list[Tensor], tools: Tools) -> None:
    pasted = run([person[0]] * 4, tools)
    assert pasted.copied
    assert "COPY-PASTE: RS 1.00 is high" in describe(pasted)
    alive = run(person, tools)
    assert not alive.copied
    assert "COPY-PASTE" not in describe(alive)
    # Not without a reference, however still.
    assert not run([person[0]] * 4, Tools(detect)).copied


def test_a_pasted_photo_that_the_camera_carries_is_pasted_too(astronaut: Tensor) -> None:
    window = [astronaut[20:276, 60 + 4 * i : 380 + 4 * i] for i in range(4)]
    where = iter(range(4))

    def follow(_photo: Tensor) -> list[DetectedFace]:
        points = ASTRONAUT_POINTS - [60 + 4 * next(where), 20]
        return [make_face((*(points.min(0) - 15), *(points.max(0) + 15)), points, 1.0, "stub")]

    reference = embed(astronaut, ASTRONAUT_POINTS)
    panned = run(window, Tools(follow, recognizer=RECOGNISER, references=[reference]))
    assert panned.mean("fm_px") == pytest.approx(4, rel=0.05)
    assert panned.mean("fm_still") == pytest.approx(0, abs=0.2)
    assert panned.copied


def test_without_a_recogniser_there_is_still_motion(person: list[Tensor]) -> None:
    measured = run(person, Tools(detect))
    assert measured.mean("rs") is None
    assert measured.mean("fm") is not None
    words = describe(measured, ["No RS and IFS: nobody is there."])
    assert "FM " in words
    assert words.endswith("No RS and IFS: nobody is there.")
    assert "RS 0" not in words


def test_a_face_is_followed_when_a_larger_one_comes(person: list[Tensor]) -> None:
    looks = iter(range(9))

    def two(photo: Tensor) -> list[DetectedFace]:
        (face,) = detect(photo)
        larger = make_face((150, 60, 239, 199), None, 0.9, "stub")
        return [face] if next(looks) == 0 else [larger, face]

    measured = run(person[:3], Tools(two))
    assert {f.box for f in measured.frames} == {measured.frames[0].box}


def test_fid_is_of_the_crops_of_both_sets(person: list[Tensor]) -> None:
    def features(crop: Tensor) -> Tensor:
        assert crop.shape == (512, 512, 3)
        return crop.mean((0, 1))

    (first, *_) = [features(torch.full((512, 512, 3), 0.5))]
    same = run(person, Tools(detect, features=features, real_features=[first] * 3))
    assert same.fid is not None
    assert same.fid_counts == (9, 3)
    assert "FID of face crops" in describe(same)
    assert "below 2048 each it is too high" in describe(same)
    assert run(person[:1], Tools(detect, features=features, real_features=[first] * 3)).fid is None


def test_the_files_hold_every_frame_and_no_invented_zero(
    person: list[Tensor], tools: Tools
) -> None:
    flat = torch.full((HEIGHT, WIDTH, 3), 0.75)
    measured = run([person[0], flat, *person[1:4]], tools)
    content = json.loads(as_json(measured))
    assert content["frames_with_face"] == 4
    assert content["mean"]["rs"] == pytest.approx(measured.mean("rs"))
    assert content["per_frame"][1]["rs"] is None
    assert "percent" in content["units"]["fm"]
    rows = list(csv.DictReader(as_csv(measured).splitlines()))
    assert len(rows) == 5
    assert rows[1]["rs"] == rows[1]["x0"] == ""
    assert float(rows[3]["ifs"]) == pytest.approx(measured.frames[3].ifs)


def test_the_worst_frames_are_those_least_like_the_reference(
    person: list[Tensor], stranger: list[Tensor], tools: Tools
) -> None:
    measured = run([*person[:3], stranger[0], *person[3:]], tools)
    assert len(measured.worst) == WORST_FRAMES
    assert measured.worst[0][0] == 3
    ranks = [measured.frames[number].rs for number, _ in measured.worst]
    assert ranks == sorted(ranks, key=lambda v: v or 0.0)
    sheet, plot = draw_worst(measured), draw_plot(measured)
    assert sheet.min() >= 0
    assert sheet.max() <= 1
    assert plot.shape == (3 * 240, 960, 3)
    assert (plot - 1).abs().mean() > 0.005


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0.41, 0.69, None), (0.0, 0.0, None), (-3, 170, None)],
)
def test_ticks_are_round_and_hold_the_values(low: float, high: float, ticks: list | None) -> None:
    got = round_ticks(low, high)
    assert got[0] <= low + 1e-9
    assert got[-1] >= high - 1e-9
    assert 3 <= len(got) <= 8
    assert all(float(f"{t:.{tick_decimals(got)}f}") == pytest.approx(t) for t in got)
    assert ticks is None or got == pytest.approx(ticks)


def test_a_reference_is_read_from_its_photo_or_from_its_crop(astronaut: Tensor) -> None:
    points = torch.from_numpy(ASTRONAUT_POINTS)
    photo = astronaut[None]
    from fantasyid.face.crop import cut_crop

    crop = cut_crop(astronaut, ASTRONAUT_POINTS.tolist())[None]
    whole = embed_reference(FaceCrops(crop, photo, "points", points=points), RECOGNISER)
    alone = embed_reference(FaceCrops(crop, photo, "crop"), RECOGNISER)
    assert whole @ alone > 0.9
    with pytest.raises(ValueError, match="the reference has no face: too dark"):
        embed_reference(FaceCrops.empty(photo, "too dark"), RECOGNISER)


def test_a_clip_is_read_lazily_and_an_empty_one_is_refused(person: list[Tensor]) -> None:
    done: list[int] = []

    def pictures() -> Iterator[Tensor]:
        for number, picture in enumerate(person):
            assert len(done) >= number  # the one before was measured before this one is made
            yield picture

    measure(frames_of_pictures(pictures()), Tools(detect), done.append)
    assert done == list(range(9))
    with pytest.raises(ValueError, match="the clip has no frames to measure"):
        measure([], Tools(detect))


def test_a_video_file_is_read_as_it_was_written(person: list[Tensor], tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", person[:4])
    frames = list(frames_of_video(str(path)))
    assert [f.number for f in frames] == [0, 1, 2, 3]
    assert [f.seconds for f in frames] == pytest.approx([0, 1 / 8, 2 / 8, 3 / 8])
    assert (frames[2].color() - person[2]).abs().mean() < 0.03
    with pytest.raises(FileNotFoundError, match="there is no video"):
        list(frames_of_video(str(tmp_path / "none.mp4")))
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"text\.mp4 cannot be decoded"):
        list(frames_of_video(str(tmp_path / "text.mp4")))
