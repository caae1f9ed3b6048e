"""Edits move what they say, smoothly, in any pose; the measurement tells what the network sees."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from geometry.stand_in_head import edges_of, laplacian, posed, stand_in
from hypothesis import given, settings
from hypothesis import strategies as st

from fantasyid.geometry.edit import (
    SIDES,
    HeadEdit,
    describe_movement,
    edit_vertices,
    mirror_movement,
    parse_components,
)
from fantasyid.geometry.files import read_mesh
from fantasyid.geometry.flame import Flame, FlameConfig
from fantasyid.geometry.head_frame import LEFT_EYE, NUM_SKIN, RIGHT_EYE, head_frame
from fantasyid.geometry.regions import SLIDERS_MM, slider_movement
from fantasyid.geometry.topology import mesh_tables
from fantasyid.weights.safe_pickle import read_pickle

NAMES = list(SLIDERS_MM)
# A smooth field of reach r changes over an edge of length e by about e / r of its most, and a
# vertex differs from the mean of its neighbours by less still; a seam differs by all of it.
STEEPEST_PER_M = 80.0
ROUGHEST_SHARE = 0.2


def worst(movement, vertices, triangles) -> tuple[float, float]:
    """Steepest edge (share of the longest movement per metre), roughest vertex (share)."""
    longest = torch.linalg.vector_norm(movement, dim=1).max()
    a, b = edges_of(triangles).unbind(1)
    along = torch.linalg.vector_norm((vertices[a] - vertices[b]).double(), dim=1)
    step = torch.linalg.vector_norm(movement[a] - movement[b], dim=1)
    # Where vertices almost coincide (the closed lips) float32 rounding would be divided by nothing.
    steepest = (step / along.clamp(min=5e-4)).max() / longest
    roughest = torch.linalg.vector_norm(laplacian(movement, triangles), dim=1).max() / longest
    return float(steepest), float(roughest)


@pytest.mark.parametrize("name", NAMES)
def test_a_slider_has_no_seam_and_moves_its_millimetres(name):
    vertices, triangles = stand_in()
    movement = slider_movement(name, head_frame(vertices), vertices)
    length = torch.linalg.vector_norm(movement, dim=1)
    assert float(length.max()) * 1000 == pytest.approx(SLIDERS_MM[name])
    steepest, roughest = worst(movement, vertices, triangles)
    assert steepest < STEEPEST_PER_M
    assert roughest < ROUGHEST_SHARE
    cut = torch.where(vertices[:, 1:2] > float(vertices[length.argmax(), 1]), movement, 0.0)
    torn = worst(cut, vertices, triangles)
    assert torn[0] > STEEPEST_PER_M, "the bound would not notice a seam"
    assert torn[1] > ROUGHEST_SHARE, "the bound would not notice a seam"


@pytest.mark.parametrize("name", NAMES)
def test_a_slider_on_the_released_head_has_no_seam_either(name, shared):
    vertices = read_mesh(shared / "data" / "newton.ply")[0]
    triangles = mesh_tables(read_pickle(shared / "data" / "transform.pkl")).triangles
    movement = slider_movement(name, head_frame(vertices), vertices)
    assert float(torch.linalg.vector_norm(movement, dim=1).max()) * 1000 == pytest.approx(
        SLIDERS_MM[name]
    )
    steepest, roughest = worst(movement, vertices, triangles)
    assert steepest < STEEPEST_PER_M
    assert roughest < ROUGHEST_SHARE


@pytest.mark.parametrize("name", NAMES)
def test_an_eyeball_moves_as_one_piece_with_its_socket(name):
    vertices, _ = stand_in()
    edited = edit_vertices(vertices, HeadEdit({name: 1.0}))
    movement = (edited - vertices).double()
    for eye in (LEFT_EYE, RIGHT_EYE):
        own = movement[eye]
        torch.testing.assert_close(own, own[:1].expand_as(own), atol=3e-8, rtol=0)
        centre = vertices[eye].mean(0)
        skin = vertices[:NUM_SKIN]
        lids = torch.linalg.vector_norm(skin - centre, dim=1) < 0.0155
        assert lids.sum() > 10
        torch.testing.assert_close(
            movement[:NUM_SKIN][lids], own[:1].expand(int(lids.sum()), 3), atol=3e-8, rtol=0
        )


EXPECTED_PLACE = {
    "face_width": lambda p: abs(p[0]) > 0.8,
    "jaw_sharpness": lambda p: abs(p[0]) > 0.5 and p[1] < -0.9,
    "chin_depth": lambda p: abs(p[0]) < 0.3 and p[1] < -1.3 and p[2] > -0.2,
    "cheek_depth": lambda p: abs(p[0]) > 0.4 and -1.0 < p[1] < -0.1,
    "nose_depth": lambda p: abs(p[0]) < 0.15 and -0.9 < p[1] < -0.1 and p[2] > 0.5,
    "brow_depth": lambda p: p[1] > 0.1,
}


@pytest.mark.parametrize("name", NAMES)
def test_a_slider_moves_its_own_part_most(name):
    vertices, _ = stand_in()
    frame = head_frame(vertices)
    movement = slider_movement(name, frame, vertices)
    top = torch.linalg.vector_norm(movement, dim=1).argmax()
    place = frame.points_in_head(vertices)[top].tolist()
    assert EXPECTED_PLACE[name](place), place
    axis = 0 if name in ("face_width", "jaw_sharpness") else 2
    others = [a for a in range(3) if a != axis]
    assert not movement[:, others].any()
    inwards = -1 if name == "jaw_sharpness" else 1
    side = torch.sign(vertices[top, 0]) if axis == 0 else 1
    assert movement[top, axis] * side * inwards > 0


@settings(max_examples=10)
@given(
    seed=st.integers(0, 10**6),
    values=st.lists(st.floats(-1, 1), min_size=len(NAMES), max_size=len(NAMES)),
)
def test_the_edit_of_a_turned_head_is_the_turned_edit(seed, values):
    vertices = stand_in()[0].double()
    edit = HeadEdit(dict(zip(NAMES, values, strict=True)))
    turned, turn = posed(vertices, seed)
    movement = edit_vertices(vertices, edit) - vertices
    torch.testing.assert_close(
        edit_vertices(turned, edit) - turned, movement @ turn.T, atol=1e-8, rtol=0
    )


def test_sliders_add_up_scale_and_come_back():
    vertices = stand_in()[0].double()

    def moved(**changes):
        return edit_vertices(vertices, HeadEdit(**changes)) - vertices

    both = moved(sliders={"nose_depth": 0.5, "chin_depth": -1.0})
    parts = moved(sliders={"nose_depth": 0.5}) + moved(sliders={"chin_depth": -1.0})
    torch.testing.assert_close(both, parts, atol=1e-15, rtol=0)
    torch.testing.assert_close(
        moved(sliders={"nose_depth": 1.0}, amount=0.5), moved(sliders={"nose_depth": 0.5})
    )
    torch.testing.assert_close(
        moved(sliders={"cheek_depth": -1.0}), -moved(sliders={"cheek_depth": 1.0})
    )


def test_an_edit_at_rest_gives_the_same_bits_and_leaves_its_input_alone():
    vertices, _ = stand_in()
    kept = vertices.clone()
    nothing = HeadEdit({"nose_depth": 1.0}, amount=0.0)
    for edit in (HeadEdit(), HeadEdit(dict.fromkeys(NAMES, 0.0)), nothing):
        assert torch.equal(edit_vertices(vertices, edit), vertices)
    edited = edit_vertices(vertices, HeadEdit({"nose_depth": 1}))
    assert torch.equal(vertices, kept)
    assert edited.dtype == vertices.dtype
    still = (edited == vertices).all(1)
    assert still.sum() > 500, "the back of the head moved"


@cache
def flame() -> Flame:
    """The stand-in as a template, with two shape directions that are not zero."""
    vertices, triangles = stand_in()
    model = Flame(FlameConfig(len(vertices), len(triangles)))
    across = torch.sin(vertices * 40.0 + 0.7) * 0.002
    model.v_template.copy_(vertices)
    model.shapedirs[..., :2] = torch.stack([across, across.roll(1, 1)], dim=2)
    return model


def test_components_follow_the_head_where_it_looks():
    vertices = flame().v_template.double()
    edit = HeadEdit(components=((1, -2.0), (0, 0.5)))
    movement = edit_vertices(vertices, edit, flame=flame()) - vertices
    expected = 0.5 * flame().shapedirs[..., 0] - 2.0 * flame().shapedirs[..., 1]
    torch.testing.assert_close(movement, expected.double(), atol=1e-9, rtol=0)
    turned, turn = posed(vertices, 3)
    torch.testing.assert_close(
        edit_vertices(turned, edit, flame=flame()) - turned, movement @ turn.T, atol=1e-8, rtol=0
    )
    with pytest.raises(ValueError, match="connect the head model"):
        edit_vertices(vertices, edit)


def test_one_half_and_mirrored():
    vertices = flame().v_template.double()
    across = head_frame(vertices).points_in_head(vertices)[:, 0]

    def moved(side):
        edit = HeadEdit({"cheek_depth": 1.0}, ((0, 1.0),), side=side)
        return edit_vertices(vertices, edit, flame=flame()) - vertices

    both, left, right = moved(SIDES[0]), moved("left half only"), moved("right half only")
    torch.testing.assert_close(left + right, both, atol=1e-12, rtol=0)
    assert not left[across < -0.3].any()
    assert not right[across > 0.3].any()
    assert torch.equal(left[across > 0.3], both[across > 0.3])
    frame = head_frame(vertices)
    mirrored = moved("mirrored") @ frame.axes.T
    again = mirror_movement(mirrored, frame.points_in_head(vertices))
    torch.testing.assert_close(again, mirrored, atol=1e-6, rtol=0)
    asymmetric = both @ frame.axes.T
    seen = mirror_movement(asymmetric, frame.points_in_head(vertices))
    assert (seen - asymmetric).abs().max() > 1e-4
    with pytest.raises(ValueError, match="side: expected one of"):
        edit_vertices(vertices, HeadEdit(side="top"))


def test_mirrored_is_half_way_to_the_mirror_image():
    """On a head that is not symmetric: which vertices are opposite, the template tells."""
    template = flame().v_template.double()
    uneven = HeadEdit({"face_width": 1.0, "jaw_sharpness": 1.0}, side="left half only", amount=4)
    vertices, _ = posed(edit_vertices(template, uneven), 7)
    frame = head_frame(vertices)

    def moved(side):
        edit = HeadEdit(components=((0, 1.0),), side=side)
        return (edit_vertices(vertices, edit, flame=flame()) - vertices) @ frame.axes.T

    both, mirrored = moved("both sides"), moved("mirrored")
    opposite = mirror_movement(both, head_frame(template).points_in_head(template))
    torch.testing.assert_close(mirrored, (both + opposite) / 2, atol=1e-9, rtol=0)
    misplaced = mirror_movement(both, frame.points_in_head(vertices))
    assert (misplaced - opposite).abs().max() > 1e-4


def test_symmetric_sliders_are_mirror_images():
    vertices = stand_in()[0].double()
    frame = head_frame(vertices)
    for name in NAMES:
        movement = slider_movement(name, frame, vertices)
        mirrored = mirror_movement(movement, frame.points_in_head(vertices))
        torch.testing.assert_close(mirrored, movement, atol=1e-6, rtol=0)


def test_a_blend_ends_at_the_second_head_in_the_pose_of_the_first():
    vertices = stand_in()[0].double()
    other = edit_vertices(vertices, HeadEdit({"face_width": 1.0, "nose_depth": 1.0}))
    second, _ = posed(other, 5)
    whole = edit_vertices(vertices, HeadEdit(blend=1.0), second)
    inner = torch.cdist(whole[::50], whole[::50])
    torch.testing.assert_close(inner, torch.cdist(other[::50], other[::50]), atol=1e-8, rtol=0)
    half = edit_vertices(vertices, HeadEdit(blend=0.5), second)
    torch.testing.assert_close(half, (vertices + whole) / 2)
    with pytest.raises(ValueError, match="connect the second head"):
        edit_vertices(vertices, HeadEdit(blend=0.5))


def test_components_are_read_or_named():
    assert parse_components("") == ()
    assert parse_components(" 0:1.5, 3:-0.8 ;\n12 : 2e-1,") == ((0, 1.5), (3, -0.8), (12, 0.2))
    for text, match in (
        ("0=1", "'0=1' is not understood"),
        ("0:one", "'0:one' is not understood"),
        ("1.5:1", "is not understood"),
        ("-1:1", "0 to 299, not -1"),
        ("300:1", "0 to 299, not 300"),
        ("3:11", "too far"),
        ("3:nan", "too far"),
        ("3:1, 3:2", "given twice"),
    ):
        with pytest.raises(ValueError, match=match):
            parse_components(text)


def test_the_report_counts_what_the_network_reads():
    before = stand_in()[0]
    after = before.clone()
    after[10, 2] += 0.03
    after[20, 0] += 0.04
    index = torch.tensor([10, 20, 30, 40])
    words = describe_movement(before, after, index)
    assert f"Moved: {70 / 5023:.2f} mm in the mean, 40.00 mm at most" in words
    assert "(4 vertices): 7.50 mm in the mean, 30.00 mm at most, 1 of them moved" in words
    assert "WARNING" not in words
    blind = describe_movement(before, after, index[1:])
    assert "moves no depth that the network reads" in blind
    assert "Connect the adapter" in describe_movement(before, after, None)
    assert describe_movement(before, before, index).startswith("Nothing is changed")


def test_an_unknown_slider_is_named():
    vertices, _ = stand_in()
    with pytest.raises(ValueError, match="no slider 'ears'"):
        edit_vertices(vertices, HeadEdit({"ears": 1.0}))
