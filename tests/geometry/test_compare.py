"""The picture of two heads shows where and how much they differ."""

from __future__ import annotations

import torch
from geometry.stand_in_head import posed, stand_in

from fantasyid.geometry.compare import compare_heads, heat_colors
from fantasyid.geometry.edit import HeadEdit, edit_vertices
from fantasyid.geometry.render import CLAY

SIZE = 96


def parts(picture: torch.Tensor, columns: int) -> list[torch.Tensor]:
    """The columns below the titles, `(2 * SIZE, SIZE, 3)` each."""
    below = picture[0, picture.shape[1] - 2 * SIZE :]
    return list(below.split(SIZE, dim=1))[:columns]


def test_two_rows_and_a_column_for_what_the_network_reads():
    vertices, triangles = stand_in()
    edited = edit_vertices(vertices, HeadEdit({"nose_depth": 1.0}))
    index = torch.arange(0, 3931, 40)
    picture = compare_heads(vertices, edited, triangles, index, SIZE)
    assert picture.shape[0] == 1
    assert picture.shape[2:] == (4 * SIZE, 3)
    assert picture.min() >= 0
    assert picture.max() <= 1
    before, after, moved, dots = parts(picture, 4)
    assert (before - after).abs().max() > 0.05
    clay = before - before.mean(-1, keepdim=True)
    heat = moved - moved.mean(-1, keepdim=True)
    colored = (heat - clay).abs().amax(-1) > 0.1
    rows = colored[:SIZE].any(1).nonzero()
    assert rows.min() > 0.3 * SIZE
    assert rows.max() < 0.65 * SIZE
    red = (dots[..., 0] - dots[..., 2]) > 0.3
    assert red.any(), "the nose's dots are not red"
    without = compare_heads(vertices, edited, triangles, None, SIZE)
    assert without.shape[2] == 3 * SIZE
    assert torch.equal(without, picture[:, :, : 3 * SIZE])


def test_an_edit_backwards_is_blue_and_no_edit_has_no_color():
    vertices, triangles = stand_in()
    index = torch.arange(0, 3931, 40)
    back = edit_vertices(vertices, HeadEdit({"nose_depth": -1.0}))
    dots = parts(compare_heads(vertices, back, triangles, index, SIZE), 4)[3]
    assert ((dots[..., 2] - dots[..., 0]) > 0.3).any()
    before, after, moved, _ = parts(compare_heads(vertices, vertices, triangles, index, SIZE), 4)
    assert torch.equal(before, after)
    torch.testing.assert_close(before, moved, atol=1e-5, rtol=0)


def test_a_posed_head_is_shown_from_its_own_front():
    vertices, triangles = stand_in()
    edit = HeadEdit({"chin_depth": 1.0})
    turned = posed(vertices, 4, 0.8)[0].float()
    one = compare_heads(vertices, edit_vertices(vertices, edit), triangles, None, SIZE)
    other = compare_heads(turned, edit_vertices(turned, edit), triangles, None, SIZE)
    assert ((one - other).abs().amax(-1) > 0.1).float().mean() < 0.01


def test_heat_runs_from_clay_to_red():
    colors = heat_colors(torch.tensor([0.0, 2.5, 5.0]).double())
    torch.testing.assert_close(colors[0], torch.tensor(CLAY))
    assert colors[2, 0] > 0.8
    assert colors[2, 1] < 0.2
    assert torch.equal(heat_colors(torch.zeros(3).double()), torch.tensor(CLAY).repeat(3, 1))
