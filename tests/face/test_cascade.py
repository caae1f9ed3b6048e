"""The cascade that scikit-image brings along: faces, votes, and nothing where nothing is."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from turning_head import ASTRONAUT_POINTS as ASTRONAUT

from fantasyid.face import cascade
from fantasyid.face.cascade import detect_with_cascade
from fantasyid.face.points import points_from_box

pytestmark = pytest.mark.slow


def test_the_cascade_finds_the_astronaut(astronaut: torch.Tensor) -> None:
    before = astronaut.clone()
    (face,) = detect_with_cascade(astronaut)
    assert face.points is None
    assert face.detector == "scikit-image cascade"
    assert 0.75 <= face.score <= 1
    estimated = points_from_box(face.box)
    # A short face: the constants are the medians of several people.
    assert np.hypot(*(estimated - ASTRONAUT).T).max() < 12
    assert torch.equal(astronaut, before)


class Votes:
    """In place of the cascade's trees: each look sees one face in the middle, or nothing."""

    def __init__(self, votes: tuple[bool, ...]) -> None:
        self.left = list(votes)

    def detect_multi_scale(self, pixels: np.ndarray, *_rest: object, **_more: object) -> list[dict]:
        side = len(pixels)
        face = {"r": side // 4, "c": side // 4, "width": side // 2, "height": side // 2}
        return [face] if self.left.pop(0) else []


@pytest.mark.parametrize("sides", [(64,), (64, 48), (64, 56, 48, 40)])
def test_a_face_is_where_three_quarters_of_the_looks_agree(sides: tuple[int, ...]) -> None:
    photo = torch.rand(64, 64, 3, generator=torch.Generator().manual_seed(0))
    for votes in itertools.product((False, True), repeat=2 * len(sides)):
        trees = Votes(votes)
        scores = [face.score for face in cascade._agreed(trees, photo, sides, 8)]
        share = sum(votes) / len(votes)
        assert scores == ([share] if share >= 0.75 else []), votes
        lost = [n for n in range(1, len(votes) + 1) if votes[:n].count(False) > len(votes) / 4]
        looks = len(votes) - len(trees.left)
        assert looks == (lost[0] if lost else len(votes)), "as soon as it cannot be any more"


def test_the_cascade_numbers_two_faces_from_left_to_right(astronaut: torch.Tensor) -> None:
    head = astronaut[:256, 100:356]
    faces = detect_with_cascade(torch.cat([head, head], dim=1))
    assert len(faces) == 2
    shift = faces[1].box[0] - faces[0].box[0]
    assert abs(shift - 256) < 12


def test_the_cascade_does_not_depend_on_the_size_of_the_photo(astronaut: torch.Tensor) -> None:
    large = astronaut.repeat_interleave(3, 0).repeat_interleave(3, 1)
    (face,) = detect_with_cascade(large)
    (small,) = detect_with_cascade(astronaut)
    assert np.abs(np.array(face.box) / 3 - small.box).max() < 8


def test_the_cascade_finds_a_painted_face_and_nothing_in_its_dark_coat(shared: Path) -> None:
    pytest.importorskip("skimage")
    from PIL import Image

    picture = Image.open(shared / "data" / "newton.jpg").convert("RGB")
    (face,) = detect_with_cascade(torch.from_numpy(np.array(picture)).float() / 255)
    x0, y0, x1, y1 = face.box
    for x, y in [(536, 246), (648, 254), (596, 324)]:  # eyes and nose, by hand
        assert x0 < x < x1
        assert y0 < y < y1


@pytest.mark.parametrize("size", [(64, 64), (8, 300), (1, 1)])
def test_the_cascade_finds_nothing_in_nothing(size: tuple[int, int]) -> None:
    pytest.importorskip("skimage")
    assert detect_with_cascade(torch.full((*size, 3), 0.5)) == []
