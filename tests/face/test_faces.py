"""Which face is chosen, and the picture of all faces."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fantasyid.face.draw import draw_faces
from fantasyid.face.faces import RULES, DetectedFace, choose_face, left_to_right

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


@settings(max_examples=30, deadline=None, derandomize=True)
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
