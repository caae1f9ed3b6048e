"""The rasteriser against a loop over pixels and triangles, and what a picture must show."""

from __future__ import annotations

import math

import pytest
import torch
from geometry.meshes import closed_mesh
from hypothesis import given
from hypothesis import strategies as st

from fantasyid.geometry import render
from fantasyid.geometry.render import rasterize, render_normals, render_views


def rasterize_by_hand(vertices, triangles, height, width):
    ids = torch.full((height, width), -1)
    weights = torch.zeros(height, width, 3, dtype=torch.float64)
    depth = torch.full((height, width), math.inf, dtype=torch.float64)
    points = vertices.double().tolist()

    def area(a, b, c):
        return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])

    for y in range(height):
        for x in range(width):
            p = (x + 0.5, y + 0.5)
            for number, corners in enumerate(triangles.tolist()):
                a, b, c = (points[i] for i in corners)
                whole = area(a, b, c)
                if whole == 0:
                    continue
                w = (area(p, b, c) / whole, area(a, p, c) / whole, area(a, b, p) / whole)
                z = w[0] * a[2] + w[1] * b[2] + w[2] * c[2]
                if min(w) >= 0 and z < depth[y, x]:
                    ids[y, x], depth[y, x] = number, z
                    weights[y, x] = torch.tensor(w, dtype=torch.float64)
    return ids, weights, depth


@given(
    seed=st.integers(0, 10**6),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    at_once=st.sampled_from([1, 20, 10**6]),
)
def test_it_equals_the_loop(seed, height, width, at_once):
    generator = torch.Generator().manual_seed(seed)
    vertices = torch.rand(12, 3, generator=generator) * 16 - 3
    triangles = torch.randint(0, 12, (9, 3), generator=generator)
    before = render.CANDIDATES_AT_ONCE
    render.CANDIDATES_AT_ONCE = at_once
    try:
        ids, weights, depth = rasterize(vertices, triangles, height, width)
    finally:
        render.CANDIDATES_AT_ONCE = before
    expected_ids, expected_weights, expected_depth = rasterize_by_hand(
        vertices, triangles, height, width
    )
    assert torch.equal(ids, expected_ids)
    torch.testing.assert_close(weights.double(), expected_weights, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(depth.double(), expected_depth, rtol=1e-5, atol=1e-5)


def test_the_nearer_triangle_is_seen_from_both_sides():
    square = torch.tensor(
        [[0.0, 0, 5], [8, 0, 5], [0, 8, 5], [8, 8, 5], [1, 1, 2], [5, 1, 2], [1, 5, 2]]
    )
    triangles = torch.tensor([[0, 1, 2], [1, 3, 2], [4, 6, 5]])
    ids, weights, depth = rasterize(square, triangles, 8, 8)
    assert ids.min() >= 0
    assert ids[1, 1] == 2
    assert depth[1, 1] == 2
    assert ids[7, 7] == 1
    torch.testing.assert_close(weights.sum(-1), torch.ones(8, 8))
    assert torch.equal(rasterize(square, triangles.flip(1), 8, 8)[0], ids)


def test_nothing_to_see():
    vertices = torch.tensor([[100.0, 100, 0], [110, 100, 0], [100, 110, 0], [1e30, 0, 0]])
    for triangles in ([[0, 1, 2]], [[0, 0, 1]], [[0, 1, 3]]):
        ids, weights, depth = rasterize(vertices, torch.tensor(triangles), 4, 5)
        assert ids.shape == (4, 5)
        assert (ids == -1).all()
        assert not weights.any()
        assert torch.isinf(depth).all()
    none = torch.zeros(0, 3, dtype=torch.int64)
    assert (rasterize(vertices, none, 4, 5)[0] == -1).all()


def test_wrong_inputs_are_named():
    triangles = torch.tensor([[0, 1, 2]])
    with pytest.raises(ValueError, match=r"got \(3, 2\) and \(1, 3\)"):
        rasterize(torch.zeros(3, 2), triangles, 4, 4)
    with pytest.raises(ValueError, match=r"got \(3, 3\) and \(1, 2\)"):
        rasterize(torch.zeros(3, 3), triangles[:, :2], 4, 4)
    with pytest.raises(ValueError, match="not finite"):
        rasterize(torch.full((3, 3), float("nan")), triangles, 4, 4)


def ball(offset=(0.0, 0.0, 0.0), radius=0.1) -> tuple[torch.Tensor, torch.Tensor]:
    """A ball with a nose towards +z."""
    rings, around = 14, 24
    polar = torch.arange(1, rings + 1) * math.pi / (rings + 1)
    turn = torch.arange(around) * 2 * math.pi / around
    x = polar.sin()[:, None] * turn.sin()[None]
    y = polar.cos()[:, None].expand(rings, around)
    z = polar.sin()[:, None] * turn.cos()[None]
    points = torch.stack([x, y, z], -1).reshape(-1, 3)
    points = torch.cat([points, torch.tensor([[0.0, 1, 0], [0.0, -1, 0]])])
    points[:, 2] += (points[:, 2] > 0.97) * 0.5
    return points * radius + torch.tensor(offset), torch.tensor(closed_mesh(rings, around)[1])


def covered(picture: torch.Tensor) -> torch.Tensor:
    ground = picture.new_tensor(render.BACKGROUND)
    return (picture - ground).abs().amax(-1) > 0.05


def test_the_head_fills_the_middle_wherever_and_however_large_it_is():
    picture = render_normals(*ball(), 64)
    assert picture.shape == (64, 64, 3)
    assert picture.min() >= 0
    assert picture.max() <= 1
    seen = covered(picture)
    assert seen.any(0).nonzero().min() > 2
    assert abs(float(seen.any(1).nonzero().float().mean()) - 31.5) < 1.5
    elsewhere = render_normals(*ball((0.3, 1.5, -0.2), 0.17), 64)
    assert (elsewhere - picture).abs().max() < 0.1
    torch.testing.assert_close(picture[0, 0], picture.new_tensor(render.BACKGROUND))


def test_a_positive_yaw_turns_the_nose_to_the_right():
    nose_from_the_side = covered(render_normals(*ball(), 64, math.pi / 2))
    columns = nose_from_the_side[30:34].any(0).nonzero()
    assert columns.max() - 31.5 > 31.5 - columns.min() - 8
    upper = nose_from_the_side[32].nonzero().max()
    assert upper > nose_from_the_side[20].nonzero().max() + 5
    front = covered(render_normals(*ball(), 64))
    assert abs(int(front[32].nonzero().max()) + int(front[32].nonzero().min()) - 63) <= 1


def test_light_falls_from_the_upper_left():
    picture = render_normals(*ball(), 64).mean(-1)
    seen = covered(render_normals(*ball(), 64))
    assert seen[20, 20]
    assert seen[44, 44]
    assert picture[20, 20] > picture[44, 44] + 0.1


def test_three_different_views_and_untouched_inputs():
    vertices, triangles = ball()
    kept = vertices.clone(), triangles.clone()
    views = render_views(vertices, triangles, 48)
    assert views.shape == (3, 48, 48, 3)
    assert (views[0] - views[1]).abs().max() > 0.2
    assert (views[1] - views[2]).abs().max() > 0.2
    assert torch.equal(views[0], render_normals(vertices, triangles, 48))
    assert torch.equal(vertices, kept[0])
    assert torch.equal(triangles, kept[1])
