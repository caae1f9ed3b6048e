"""Which face is chosen, and the picture of all faces."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fantasyid.face.draw import draw_faces
from fantasyid.face.faces import (
    RULES,
    DetectedFace,
    box_overlap,
    choose_face,
    left_to_right,
    make_face,
    to_photo,
)

LEFT = DetectedFace((0, 0, 40, 40), None, 0.9, "a")
MIDDLE = DetectedFace((90, 80, 110, 110), None, 0.5, "b")
RIGHT = DetectedFace(
    (120, 20, 190, 90), ((130, 40), (160, 40), (145, 55), (135, 70), (155, 70)), 0.7, "c"
)
FACES = [RIGHT, LEFT, MIDDLE]


@pytest.mark.parametrize(
    ("rule", "order"),
    [
        ("nearest centre", [MIDDLE, RIGHT, LEFT]),
        ("largest", [RIGHT, LEFT, MIDDLE]),
        ("left to right", [LEFT, MIDDLE, RIGHT]),
        ("by score", [LEFT, RIGHT, MIDDLE]),
    ],
)
def test_rules(rule: str, order: list[DetectedFace]) -> None:
    assert [choose_face(FACES, 200, 200, rule, i) for i in range(3)] == order


@given(order=st.permutations(FACES), rule=st.sampled_from(RULES), index=st.integers(0, 2))
def test_the_choice_does_not_depend_on_the_order_of_detection(
    order: list[DetectedFace], rule: str, index: int
) -> None:
    assert choose_face(order, 200, 200, rule, index) == choose_face(FACES, 200, 200, rule, index)


def test_equal_faces_are_counted_from_the_left() -> None:
    twins = [DetectedFace((x, 0, x + 10, 10), None, 1, "") for x in (70, 20)]
    assert choose_face(twins, 100, 10, "by score").box[0] == 20


@pytest.mark.parametrize(
    ("faces", "rule", "index", "words"),
    [
        (FACES, "largest", 3, "face 3 was asked for, but 3 were found"),
        (FACES, "largest", -1, "face -1 was asked for"),
        ([], "largest", 0, "but 0 were found"),
        (FACES, "tallest", 0, '"tallest", expected one of: nearest centre'),
    ],
)
def test_a_face_that_is_not_there_is_named(
    faces: list[DetectedFace], rule: str, index: int, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        choose_face(faces, 200, 200, rule, index)


def test_every_face_and_point_is_drawn_and_the_chosen_one_differs() -> None:
    photo = torch.full((200, 200, 3), 0.5)
    picture = draw_faces(photo, FACES, RIGHT)
    assert picture.shape == photo.shape
    assert picture.dtype == photo.dtype
    assert torch.equal(photo, torch.full((200, 200, 3), 0.5))
    changed = (picture - photo).abs().sum(-1) > 0.05
    for face in left_to_right(FACES):
        x0, y0, x1, y1 = (int(v) for v in face.box)
        assert changed[y1, (x0 + x1) // 2], "lower edge"
        assert changed[(y0 + y1) // 2, x0], "left edge"
    assert RIGHT.points is not None
    for x, y in RIGHT.points:
        assert changed[int(y), int(x)]
    assert not changed[60, 60]
    assert not torch.equal(picture, draw_faces(photo, FACES, LEFT))


def test_labels_stay_inside_small_pictures_and_nothing_changes_without_faces() -> None:
    photo = torch.full((30, 40, 3), 0.2)
    assert torch.allclose(draw_faces(photo, []), photo, atol=1e-6)
    edge = DetectedFace((-20, -20, 60, 60), None, 1.0, "a detector with a very long name")
    assert draw_faces(photo, [edge], edge).shape == photo.shape


def test_a_face_of_a_turned_and_shrunken_copy_comes_back_with_its_tilt() -> None:
    angle, scale, shift = np.deg2rad(30), 0.5, np.array([7.0, -4.0])
    turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    matrix = np.column_stack([turn, shift])
    points = [(10.0 + 20 * i, 30.0 + 7 * i) for i in range(5)]
    there = [tuple(turn @ point + shift) for point in points]
    found = make_face((0, 0, 40, 40), there, 0.9, "any", 170.0, (5.0, 6.0, 170.0))
    back = to_photo(found, matrix, roll_deg=30.0)
    assert back.points is not None
    np.testing.assert_allclose(np.array(back.points), points, atol=1e-6)
    assert back.box[2] - back.box[0] == pytest.approx(80)
    assert back.roll_deg == pytest.approx(-160)
    assert back.pose_deg == pytest.approx((5.0, 6.0, -160.0))


def test_overlap_is_the_common_area_over_that_of_both() -> None:
    assert box_overlap((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(2 / 6)
    assert box_overlap((0, 0, 2, 2), (5, 5, 6, 6)) == 0
