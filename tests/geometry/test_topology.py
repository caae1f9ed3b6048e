"""Spirals and mesh tables against a half-edge oracle (golden tests: tests/golden)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from geometry.meshes import closed_mesh
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csc_matrix

from fantasyid.geometry.spiral import spiral_table
from fantasyid.geometry.topology import mesh_tables


def grid(width: int, height: int) -> tuple[int, list[tuple[int, int, int]]]:
    """An open sheet, so that many vertices lie on a boundary."""
    rows = []
    for y in range(height - 1):
        for x in range(width - 1):
            a = y * width + x
            rows += [(a, a + 1, a + width), (a + 1, a + width + 1, a + width)]
    return width * height, rows


def clockwise_ring(vertex: int, rows: list[tuple[int, int, int]]) -> list[int]:
    """The oracle: OpenMesh's outgoing half-edge after adding faces in order, then its circulation.

    A face (v, a, b) adds the half-edges v->a and v->b's twin. Circulating clockwise from v->a
    goes over the face on its left side to the next outgoing half-edge.
    """
    corners = []
    for row in rows:
        if vertex in row:
            at = row.index(vertex)
            corners.append((row[(at + 1) % 3], row[(at + 2) % 3]))
    left = dict(corners)  # outgoing half-edge v->a has the face (v, a, b) on its left
    right = {b: a for a, b in corners}
    opened = [b for b in right if b not in left]  # v->b has no face on its left: boundary
    start = opened[0] if opened else corners[-1][0]
    ring = [start]
    while len(ring) <= len(corners):
        following = right.get(ring[-1])
        if following is None or following == start:
            break
        ring.append(following)
    return ring


def spiral_by_hand(vertex: int, rows, length: int) -> list[int]:
    spiral, last = [vertex], clockwise_ring(vertex, rows)
    while len(spiral) + len(last) < length:
        following: list[int] = []
        for anchor in last:
            ring = clockwise_ring(anchor, rows)
            cut = next((i for i, n in enumerate(ring) if n in last), -1)
            walk = ring[cut + 1 :] + (ring[:cut] if cut >= 0 else [])
            for n in walk:
                if n not in spiral and n not in last and n not in following:
                    following.append(n)
        spiral, last = spiral + last, following
    return (spiral + last)[:length]


@given(
    shape=st.sampled_from(
        [closed_mesh(2, 4), closed_mesh(4, 5), closed_mesh(3, 7), grid(4, 4), grid(3, 6)]
    ),
    order=st.randoms(use_true_random=False),
    length=st.sampled_from([1, 2, 7, 9]),
)
def test_spirals_equal_the_oracle_in_any_face_order(shape, order, length):
    num_vertices, rows = shape
    rows = [r[k:] + r[:k] for r in rows for k in [order.randrange(3)]]
    order.shuffle(rows)
    table = spiral_table(num_vertices, torch.tensor(rows), length)
    assert table.dtype == torch.int64
    expected = [spiral_by_hand(v, rows, length) for v in range(num_vertices)]
    assert table.tolist() == expected


def test_a_spiral_starts_at_its_vertex_and_names_nobody_twice():
    num_vertices, rows = closed_mesh(5, 6)
    table = spiral_table(num_vertices, torch.tensor(rows))
    assert table[:, 0].tolist() == list(range(num_vertices))
    assert all(len(set(spiral)) == 9 for spiral in table.tolist())


def test_a_non_manifold_mesh_ends():
    rows = [(0, 1, 2), (0, 2, 3), (0, 3, 2), (0, 4, 1), (1, 0, 2), (2, 3, 1), (3, 2, 4), (1, 4, 3)]
    table = spiral_table(5, torch.tensor(rows), 5)
    assert all(len(set(spiral)) == 5 for spiral in table.tolist())


def test_bad_triangles_are_named():
    with pytest.raises(ValueError, match=r"vertex 0 is connected to 2 other vertices"):
        spiral_table(3, torch.tensor([[0, 1, 2]]))
    with pytest.raises(ValueError, match=r"vertex 3 is connected to 0 other"):
        spiral_table(4, torch.tensor([[0, 1, 2]]), 3)
    with pytest.raises(ValueError, match=r"triangle 1 is \[0, 1, 3\], but there are 3 vertices"):
        spiral_table(3, torch.tensor([[0, 1, 2], [0, 1, 3]]))
    with pytest.raises(ValueError, match=r"triangle 0 is \[0, 1, 1\]: it names a vertex twice"):
        spiral_table(3, torch.tensor([[0, 1, 1]]))
    with pytest.raises(ValueError, match=r"expected the shape \(T, 3\), got \(2, 4\)"):
        spiral_table(9, torch.zeros(2, 4, dtype=torch.int64))


def columns(rows: list[int], cols: list[int], values: list[float], shape) -> csc_matrix:
    return csc_matrix((np.array(values, np.float32), (rows, cols)), shape=shape)


def transforms() -> dict:
    fine, fine_rows = closed_mesh(5, 6)
    middle, middle_rows = closed_mesh(3, 4)
    coarse = 5
    rng = np.random.default_rng(2)

    def up(rows: int, cols: int) -> csc_matrix:
        picks = [sorted(rng.choice(cols, 3, replace=False).tolist()) for _ in range(rows)]
        values = rng.random(3 * rows).tolist()
        flat = [column for pick in picks for column in pick]
        return columns(np.repeat(np.arange(rows), 3).tolist(), flat, values, (rows, cols))

    def down(rows: int, cols: int) -> csc_matrix:
        picks = rng.permutation(cols)[:rows].tolist()
        return columns(list(range(rows)), picks, [1.0] * rows, (rows, cols))

    return {
        "face": [np.array(fine_rows, np.uint32), np.array(middle_rows, np.uint32)],
        "down_transform": [down(middle, fine), down(coarse, middle)],
        "up_transform": [up(fine, middle), up(middle, coarse)],
    }


def test_tables_do_what_the_matrices_do():
    source = transforms()
    tables = mesh_tables(source)
    selection = source["down_transform"][1].toarray() @ source["down_transform"][0].toarray()
    values = torch.randn(tables.num_vertices, 2)
    kept = torch.from_numpy(selection).float() @ values
    torch.testing.assert_close(values[tables.coarse_index], kept)
    for pool, matrix in zip(tables.pools, reversed(source["up_transform"]), strict=True):
        dense = torch.zeros(matrix.shape)
        dense.scatter_(1, pool.index, pool.weight)
        assert torch.equal(dense, torch.from_numpy(matrix.toarray()))
    assert [s.shape for s in tables.spirals] == [(14, 9), (32, 9)]
    moved = tables.to("meta")
    assert moved.pools[1].weight.device.type == moved.spirals[0].device.type == "meta"


def test_contradictory_transforms_are_named():
    def broken(key: str, level: int, value) -> dict:
        source = transforms()
        source[key][level] = value
        return source

    source = transforms()
    with pytest.raises(ValueError, match=r"no entry 'face'; the file has \['down_transform'"):
        mesh_tables({k: v for k, v in source.items() if k != "face"})
    with pytest.raises(ValueError, match=r"down_transform\[1\] has the shape"):
        mesh_tables(broken("down_transform", 1, source["down_transform"][0]))
    with pytest.raises(ValueError, match=r"up_transform\[0\] is no sparse matrix"):
        mesh_tables(broken("up_transform", 0, np.eye(3)))
    with pytest.raises(ValueError, match=r"face\[1\] is no array"):
        mesh_tables({**source, "face": source["face"][:1]})
    with pytest.raises(ValueError, match=r"face\[0\] has the shape \(2, 2\)"):
        mesh_tables(broken("face", 0, np.zeros((2, 2), np.uint32)))
    two = columns([0, 0, 1, 2, 3], [0, 1, 2, 3, 4], [1.0] * 5, (5, 14))
    with pytest.raises(ValueError, match=r"down_transform\[1\] is not one 1\.0 per row"):
        mesh_tables(broken("down_transform", 1, two))
    up = source["up_transform"][1]
    kept = up.data[1:], up.indices[1:], np.maximum(up.indptr - 1, 0)
    fewer = csc_matrix(kept, shape=up.shape)
    with pytest.raises(ValueError, match=r"up_transform\[1\] has not 3 entries per row"):
        mesh_tables(broken("up_transform", 1, fewer))
    endless = csc_matrix((up.data * np.float32("inf"), up.indices, up.indptr), shape=up.shape)
    with pytest.raises(ValueError, match=r"up_transform\[1\] has weights that are not finite"):
        mesh_tables(broken("up_transform", 1, endless))
