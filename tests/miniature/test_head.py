"""The stand-in for FLAME: counts, topology, symmetry, and tables that behave like a head's."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from miniature.head import EYE_VERTICES, NECK_LOOP, SKIN_VERTICES, HeadMesh, build_head
from miniature.motion import JOINTS, HeadMotion, build_motion
from miniature.transforms import MeshTransforms, SparseColumns, build_transforms

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def head() -> HeadMesh:
    return build_head()


@pytest.fixture(scope="module")
def motion(head: HeadMesh) -> HeadMotion:
    return build_motion(head)


@pytest.fixture(scope="module")
def levels(head: HeadMesh) -> MeshTransforms:
    return build_transforms(head)


def directed_edges(triangles: np.ndarray) -> Counter:
    triangles = triangles.astype(np.int64)
    sides = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    return Counter(map(tuple, sides.tolist()))


def boundary(triangles: np.ndarray) -> list[tuple[int, int]]:
    edges = directed_edges(triangles)
    assert max(edges.values()) == 1, "an edge is used twice in one direction"
    return [edge for edge in edges if edge[::-1] not in edges]


def components(triangles: np.ndarray, count: int) -> list[int]:
    label = np.arange(count)
    while True:
        least = label[triangles].min(axis=1)
        before = label.copy()
        for corner in range(3):
            np.minimum.at(label, triangles[:, corner], least)
        if (label == before).all():
            return sorted(np.unique(label, return_counts=True)[1].tolist())


def dense(matrix: SparseColumns) -> np.ndarray:
    out = np.zeros(matrix.shape)
    columns = np.repeat(np.arange(matrix.shape[1]), np.diff(matrix.indptr))
    np.add.at(out, (matrix.indices, columns), matrix.data)
    return out


def test_counts_and_components(head: HeadMesh) -> None:
    assert head.vertices.shape == (5023, 3)
    assert head.triangles.shape == (9976, 3)
    assert components(head.triangles, 5023) == [EYE_VERTICES, EYE_VERTICES, SKIN_VERTICES]


def test_every_vertex_has_one_fan_of_triangles(head: HeadMesh) -> None:
    """Together with single directed edges this makes the mesh a manifold."""
    following: dict[int, dict[int, int]] = {}
    for a, b, c in head.triangles.tolist():
        for v, x, y in ((a, b, c), (b, c, a), (c, a, b)):
            following.setdefault(v, {})[x] = y
    assert len(following) == 5023
    for ring in following.values():
        starts = set(ring) - set(ring.values())
        assert len(starts) <= 1
        here = next(iter(starts), next(iter(ring)))
        steps = 0
        while here in ring and steps < len(ring):
            here, steps = ring[here], steps + 1
        assert steps == len(ring)


def test_boundary_is_one_loop_at_the_neck(head: HeadMesh) -> None:
    edges = dict(boundary(head.triangles))
    assert len(edges) == NECK_LOOP
    here = start = next(iter(edges))
    length = 0
    while length == 0 or here != start:
        here, length = edges[here], length + 1
    assert length == NECK_LOOP
    assert head.vertices[list(edges), 1].max() < head.vertices[:, 1].min() + 0.005


def test_surface_faces_outwards(head: HeadMesh) -> None:
    a, b, c = (head.vertices[head.triangles[:, k]] for k in range(3))
    normals = np.cross(b - a, c - a)
    assert (np.linalg.norm(normals, axis=1) > 0).all()
    for start, stop in ((3931, 4477), (4477, 5023)):
        part = (head.triangles[:, 0] >= start) & (head.triangles[:, 0] < stop)
        middle = head.vertices[start:stop].mean(axis=0)
        assert (np.einsum("nc,nc->n", normals[part], a[part] - middle) > 0).all()
    skull = (head.triangles < SKIN_VERTICES).all(axis=1) & (a[:, 1] > 0.06)
    outwards = np.einsum("nc,nc->n", normals[skull], a[skull] - [0.0, 0.04, -0.02])
    assert (outwards > 0).all()


def test_left_and_right_mirror_each_other(head: HeadMesh) -> None:
    mirrored = head.vertices * [-1.0, 1.0, 1.0]
    rounded = {tuple(row) for row in np.round(head.vertices, 7).tolist()}
    found = sum(tuple(row) in rounded for row in np.round(mirrored, 7).tolist())
    assert found >= 5023 - NECK_LOOP


def test_size_and_pose_are_those_of_a_head(head: HeadMesh) -> None:
    low, high = head.vertices.min(axis=0), head.vertices.max(axis=0)
    assert high - low == pytest.approx([0.19, 0.32, 0.25], abs=0.03)
    nose = head.vertices[np.argmax(head.vertices[:, 2])]
    assert abs(nose[0]) < 1e-6
    assert -0.05 < nose[1] < 0.02
    eyes = head.vertices[SKIN_VERTICES:]
    in_front = eyes[:, 2].max() - head.vertices[:SKIN_VERTICES, 2].max()
    assert -0.06 < in_front < 0.0


def test_vertices_crowd_in_the_face(head: HeadMesh) -> None:
    skin = head.vertices[:SKIN_VERTICES]
    assert (skin[:, 2] > 0.03).mean() > 0.5


def test_the_head_is_the_same_every_time(head: HeadMesh) -> None:
    again = build_head()
    assert np.array_equal(again.vertices, head.vertices)
    assert np.array_equal(again.triangles, head.triangles)


def test_joints_are_means_of_vertices(head: HeadMesh, motion: HeadMotion) -> None:
    regressor = motion.joint_regressor
    assert (regressor >= 0).all()
    assert regressor.sum(axis=1) == pytest.approx(np.ones(5))
    assert regressor @ head.vertices == pytest.approx(JOINTS, abs=1e-5)


def test_skinning_weights(head: HeadMesh, motion: HeadMotion) -> None:
    weights = motion.skinning
    assert (weights >= -1e-12).all()
    assert weights.sum(axis=1) == pytest.approx(np.ones(5023))
    assert (weights[3931:4477, 3] == 1).all()
    assert (weights[4477:, 4] == 1).all()
    chin = np.argmin(np.linalg.norm(head.vertices - [0.0, -0.09, 0.083], axis=1))
    assert weights[chin, 2] > 0.9
    assert weights[np.argmax(head.vertices[:, 1]), 2] == 0


def test_shapes_are_plausible_and_differ(motion: HeadMotion) -> None:
    rng = np.random.default_rng(5)
    moved = []
    for _ in range(6):
        betas = np.concatenate([rng.standard_normal(100), np.zeros(300)])
        moved.append(np.linalg.norm(motion.shape_directions @ betas, axis=1))
    assert 0.001 < np.mean(moved) < 0.02
    assert np.max(moved) < 0.05
    for part in (slice(3931, 4477), slice(4477, 5023)):
        assert np.ptp(motion.shape_directions[part], axis=0).max() == 0, "an eyeball is deformed"


def test_levels_have_the_released_sizes_and_stay_manifold(levels: MeshTransforms) -> None:
    assert [len(v) for v in levels.vertices] == [5023, 1256, 314, 79, 20]
    for level, size in ((0, 60), (1, 30)):
        edges = boundary(levels.triangles[level])
        assert len(edges) == size
        assert len({a for a, _ in edges}) == size
        count = len(levels.vertices[level])
        assert len(np.unique(levels.triangles[level])) == count
        assert len(components(levels.triangles[level], count)) == 3


def test_down_selects_and_up_averages_three(levels: MeshTransforms) -> None:
    for level, (down, up) in enumerate(zip(levels.down, levels.up, strict=True)):
        fine, coarse = levels.vertices[level], levels.vertices[level + 1]
        assert down.data.tolist() == [1.0] * len(coarse)
        assert np.array_equal(dense(down) @ fine, coarse)
        assert np.bincount(up.indices).tolist() == [3] * len(fine)
        assert dense(up).sum(axis=1) == pytest.approx(np.ones(len(fine)), abs=1e-6)
    error = np.linalg.norm(dense(levels.up[0]) @ levels.vertices[1] - levels.vertices[0], axis=1)
    assert np.mean(error) < 0.002
