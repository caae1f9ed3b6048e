"""The little world: what is drawn is what was said, the same every time."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Generator, Tensor

from miniature.reading import COLUMNS, MotionReader, labels_of
from miniature.world.dataset import CASTS, FRAMES, SIZE, draw_cast, plan
from miniature.world.drawing import ZOOM, draw, five_points
from miniature.world.films import BACKGROUNDS, MOTIONS, Film, draw_film
from miniature.world.people import JAW, WIDTH, People, draw_people

pytestmark = pytest.mark.slow

EYES, NOSE, MOUTH = slice(0, 2), 2, slice(3, 5)


def still(yaw: float = 0.0, pitch: float = 0.0, jaw: float = 0.0, smile: float = 0.0) -> Film:
    return Film(
        motion="", background="", light="", prompt="",
        pose=torch.tensor([[yaw, pitch, 0.0, jaw, smile]]), color=torch.tensor([0.0, 1.0, 0.0]),
        beam=torch.tensor([0.0, 0.4, 0.9]), shift=torch.zeros(2),
    )  # fmt: skip


def plain_person() -> People:
    """Somebody with the template's shape and no hair."""
    one = draw_people(1, 0)
    return dataclasses.replace(
        one, betas=0 * one.betas, style=0 * one.style, beard=0 * one.beard, glasses=0 * one.glasses
    )


def head_of(person: People, film: Film) -> Tensor:
    """(96, 96) bool: where the green ground is hidden."""
    picture = draw(person, [film], SIZE)[0][0].float()
    return picture[..., 1] - picture[..., [0, 2]].amax(-1) < 120


def test_a_seed_draws_the_same_people_and_films():
    one, two = (next(draw_cast(CASTS["tune"], 3, 4)) for _ in range(2))
    assert torch.equal(one.clips, two.clips)
    assert torch.equal(one.pictures, two.pictures)
    other = next(draw_cast(CASTS["test"], 3, 4))
    assert not torch.equal(one.clips, other.clips)
    assert one.clips.shape == (3, FRAMES, SIZE, SIZE, 3)


def test_training_and_test_share_no_sentence():
    def sentences(name: str) -> set[str]:
        cast = CASTS[name]
        return {f.prompt for n in range(cast.people) for f in plan(cast, n)[0]}

    assert not sentences("train") & (sentences("test") | sentences("tune"))


@pytest.mark.parametrize(("beta", "rows"), [(WIDTH, slice(30, 60)), (JAW, slice(60, 68))])
def test_a_shape_can_be_seen(beta: int, rows: slice):
    def width(value: float) -> float:
        person = plain_person()
        person.betas[0, beta] = value
        return float(head_of(person, still())[rows].float().sum(1).mean())

    assert width(4.0) > width(0.0) + 4 > width(-4.0) + 8


@pytest.mark.parametrize(("turn", "sign"), [(0.7, 1), (-0.7, -1)])
def test_a_turned_head_shows_its_nose_on_that_side(turn: float, sign: int):
    points = five_points(plain_person(), still(yaw=turn), SIZE, ZOOM)[0]
    middle = points[EYES, 0].mean()
    assert sign * float(points[NOSE, 0] - middle) > 3
    assert float(points[MOUTH, 1].min()) > float(points[EYES, 1].max())


def test_an_open_mouth_is_dark_inside():
    def darkness(jaw: float) -> int:
        picture = draw(plain_person(), [still(jaw=jaw)], SIZE)[0][0].float()
        return int((picture[55:80, 38:58].amax(-1) < 80).sum())

    assert darkness(0.5) > darkness(0.0) + 12


def test_the_eyes_are_where_the_points_say():
    person = plain_person()
    picture = draw(person, [still()], SIZE)[0][0].float()
    for x, y in five_points(person, still(), SIZE, ZOOM)[0][EYES].round().int().tolist():
        around = picture[y - 4 : y + 5, x - 6 : x + 7].amax(-1)
        assert float(around.max()) > 150  # the white of it
        assert float(picture[y - 1 : y + 2, x - 1 : x + 2].mean()) < 130  # the pupil


def test_a_motion_is_told_from_the_true_poses():
    def rows(seed: int) -> tuple[Tensor, list[str]]:
        source = Generator().manual_seed(seed)
        films = [
            draw_film(kind, "red", "front", FRAMES, source) for kind in MOTIONS for _ in range(20)
        ]
        readings = torch.zeros(len(films), FRAMES, 27)
        scale = torch.tensor([1.0, 1.0, 1.0, 2.0, 0.25])
        readings[..., COLUMNS["pose"]] = torch.stack([f.pose for f in films]) * scale
        return readings, [f.motion for f in films]

    reader = MotionReader.fit(*rows(1))
    unseen, kinds = rows(2)
    told = reader.motions(unseen)
    assert sum(a == b for a, b in zip(told, kinds, strict=True)) >= 0.97 * len(kinds)


def test_labels_fit_the_frames():
    person = next(draw_cast(CASTS["tune"], 0, 1))
    labels = labels_of(person)
    assert len(labels.frames) == len(labels.truth) == 3 * 9
    ground = labels.truth[:, COLUMNS["background"]].argmax(1)
    told = [list(BACKGROUNDS).index(film.background) for film in person.films for _ in range(9)]
    assert ground.tolist() == told
