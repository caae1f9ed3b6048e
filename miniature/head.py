"""The stand-in for FLAME's template: a head and two eyeballs in FLAME's counts, no FLAME data.

The skin is one disk of 3931 vertices that ends in a loop of 60 at the neck; each eyeball is a
closed ball of 546. The disk is triangulated on the sphere of its parameters (one unit vector per
vertex) and laid onto the sculpture; then edges that lie badly in space are turned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, KDTree

from .remesh import soften, turn_edges
from .sculpture import EYE_CENTRE, EYE_RADIUS, MOUTH_Y
from .skin import NECK_LOOP_Y, contours, is_free, lay, lips_on_midline, smoothstep

Array = NDArray[np.float64]

SKIN_VERTICES = 3931
EYE_VERTICES = 546
VERTICES = SKIN_VERTICES + 2 * EYE_VERTICES
TRIANGLES = 9976
NECK_LOOP = 60

_MIDLINE = 129
_GOLDEN_ANGLE = np.pi * (3.0 - np.sqrt(5.0))


@dataclass(frozen=True)
class HeadMesh:
    """The template and its parts.

    Attributes:
        vertices: (5023, 3) metres; skin first, then the subject's left and right eyeball.
        triangles: (9976, 3), counter-clockwise seen from outside.
        parameters: (5023, 3) unit vectors: where each vertex lies on the sphere of its own part.
        mouth: (5023,) height in the slit of the mouth: 1 at the edge of the upper lip, -1 at
            that of the lower lip, beyond these outside the slit; 9 far from it.
    """

    vertices: Array
    triangles: NDArray[np.int64]
    parameters: Array
    mouth: Array


def part_slices() -> tuple[slice, slice, slice]:
    """Give the vertices of the skin, of the left and of the right eyeball."""
    left = SKIN_VERTICES + EYE_VERTICES
    return slice(0, SKIN_VERTICES), slice(SKIN_VERTICES, left), slice(left, VERTICES)


def _fibonacci(count: int) -> Array:
    """Spread points evenly over the sphere: (count, 3), y from top to bottom."""
    y = 1.0 - (2.0 * np.arange(count) + 1.0) / count
    angle = _GOLDEN_ANGLE * np.arange(count)
    radius = np.sqrt(1.0 - y * y)
    return np.stack([radius * np.sin(angle), y, radius * np.cos(angle)], axis=1)


def _density(points: Array) -> Array:
    """How many vertices per area each place of the skin deserves, relative: (N, 3) m -> (N,)."""

    def bump(centre: Sequence[float] | Array, size: float) -> Array:
        offset = np.abs(points) * [1, 0, 0] + points * [0, 1, 1] - np.asarray(centre)
        return np.exp(-(np.linalg.norm(offset, axis=1) ** 2) / (2.0 * size * size))

    face = smoothstep(-0.02, 0.06, points[:, 2]) * smoothstep(-0.13, -0.09, points[:, 1])
    face *= 1.0 - 0.75 * smoothstep(0.055, 0.10, points[:, 1])
    total = 0.5 + 2.6 * face
    total += 12.0 * bump(EYE_CENTRE, 0.015) + 9.0 * bump((0.0, MOUTH_Y, 0.088), 0.013)
    total += 9.0 * bump((0.006, -0.022, 0.094), 0.011) + 9.0 * bump((0.079, 0.006, -0.016), 0.020)
    return total


def _midline(count: int) -> Array:
    """Parameters on the plane of symmetry, from the neck in front over the crown, by density."""
    pinned = lips_on_midline()
    low = np.arccos(NECK_LOOP_Y)
    polar = np.linspace(-low, low, 1500)
    track = np.stack([np.zeros_like(polar), np.cos(polar), -np.sin(polar)], axis=1)
    points, _ = lay(track, fold=False)
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    weight = np.sqrt(_density(points)) * np.where(is_free(track), 1.0, 1e-6)
    length = np.concatenate([[0.0], np.cumsum(steps * (weight[1:] + weight[:-1]) / 2)])
    free = count - len(pinned)
    angle = np.interp(np.linspace(0.0, length[-1], free + 2)[1:-1], length, polar)
    spread = np.stack([np.zeros_like(angle), np.cos(angle), -np.sin(angle)], axis=1)
    return np.concatenate([spread, pinned])


def _candidates() -> tuple[Array, Array]:
    """Give places of the left half to choose from, closer together where the density is high.

    Returns:
        Parameters and unfolded points, (N, 3) each.
    """
    coarse, fine = (
        pool[(pool[:, 0] > 0.0) & (pool[:, 1] > NECK_LOOP_Y + 0.004) & is_free(pool)]
        for pool in (_fibonacci(12000), _fibonacci(72000))
    )
    points, _ = lay(coarse, fold=False)
    fine = fine[_density(points)[KDTree(coarse).query(fine)[1]] > 4.0]
    distance = KDTree(fine).query(coarse)[0]
    apart = distance > 0.012
    pool = np.concatenate([coarse[apart], fine])
    return pool, np.concatenate([points[apart], lay(fine, fold=False)[0]])


def _spread(count: int, pinned: Array, *, rounds: int = 16) -> Array:
    """Place `count` parameters in the left half so that they crowd where the density is high.

    Lloyd's relaxation, measured along the unfolded skin; `pinned` parameters take part and stay.
    """
    pool, points = _candidates()
    gap = np.linalg.norm(points[:, None] - points[KDTree(pool).query(pool, 7)[1]], axis=2)
    weight = _density(points) * np.mean(gap[:, 1:], axis=1) ** 2
    cumulative = np.cumsum(weight)
    picks = np.unique(
        np.searchsorted(cumulative, (np.arange(count) + 0.5) / count * cumulative[-1])
    )
    spare = np.setdiff1d(np.argsort(-weight, kind="stable"), picks, assume_unique=True)
    centres = pool[np.concatenate([picks, spare[: count - len(picks)]])]
    pinned_points, _ = lay(pinned, fold=False)
    for _ in range(rounds):
        laid = _lay_near(centres, pool, points)
        owner = np.asarray(KDTree(np.concatenate([laid, pinned_points])).query(points)[1])
        mine = owner < count
        sums = np.stack(
            [np.bincount(owner[mine], (weight * pool[:, k])[mine], count) for k in range(3)], 1
        )
        filled = np.linalg.norm(sums, axis=1) > 0
        centres = np.where(filled[:, None], sums, centres)
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    return centres


def _lay_near(parameters: Array, pool: Array, points: Array) -> Array:
    """Approximate `lay` by the mean of the three nearest places that are known already."""
    distance, near = KDTree(pool).query(parameters, 3)
    share = 1.0 / np.maximum(distance, 1e-9)
    share /= share.sum(axis=1, keepdims=True)
    return (points[near] * share[:, :, None]).sum(axis=1)


def _skin_parameters() -> Array:
    """Give the (3931, 3) parameters of the skin; the last 60 are the neck loop, in order."""
    angle = 2.0 * np.pi * np.arange(NECK_LOOP) / NECK_LOOP
    radius = np.sqrt(1.0 - NECK_LOOP_Y**2)
    loop = np.stack(
        [radius * np.sin(angle), np.full(NECK_LOOP, NECK_LOOP_Y), radius * np.cos(angle)], axis=1
    )
    midline = _midline(_MIDLINE)
    edges = contours()
    pairs = (SKIN_VERTICES - NECK_LOOP - _MIDLINE) // 2
    pinned = np.concatenate([midline, loop[1:30], edges])
    left = np.concatenate([edges, _spread(pairs - len(edges), pinned)])
    right = left * [-1.0, 1.0, 1.0]
    return np.concatenate([midline, left, right, loop])


def triangulate_sphere(parameters: Array, *, loop: int = 0) -> NDArray[np.int64]:
    """Connect unit vectors by the convex hull of the sphere they lie on.

    Args:
        parameters: (N, 3) unit vectors.
        loop: if positive, the last `loop` of them bound a hole around the south pole.

    Returns:
        (T, 3) triangles, counter-clockwise seen from outside.
    """
    count = len(parameters)
    points = np.concatenate([parameters, [[0.0, -1.0, 0.0]]]) if loop else parameters
    hull = ConvexHull(points)
    triangles = hull.simplices.astype(np.int64)
    a, b, c = (points[triangles[:, k]] for k in range(3))
    inward = np.einsum("nc,nc->n", np.cross(b - a, c - a), a + b + c) < 0
    triangles[inward] = triangles[inward][:, [0, 2, 1]]
    if loop:
        triangles = triangles[~np.any(triangles >= count, axis=1)]
        triangles = triangles[~np.all(triangles >= count - loop, axis=1)]
    first = np.argmin(triangles, axis=1)
    rolled = np.stack([triangles[np.arange(len(triangles)), (first + k) % 3] for k in range(3)], 1)
    return rolled[np.lexsort(rolled.T[::-1])]


def _eyeball() -> tuple[Array, Array]:
    """Give the parameters and the vertices (546, 3) of the left eyeball, its cornea towards z."""
    spread = _fibonacci(EYE_VERTICES)[:, [0, 2, 1]]  # from front to back
    off_axis = np.arccos(np.clip(spread[:, 2], -1.0, 1.0))
    cornea = 0.0011 * np.clip(1.0 - (off_axis / 0.52) ** 2, 0.0, 1.0)
    pupil = 0.0013 * np.exp(-((off_axis / 0.20) ** 4))
    return spread, EYE_CENTRE + spread * (EYE_RADIUS + cornea - pupil)[:, None]


def _softening(parameters: Array, vertices: Array) -> Array:
    """Tell how much to soften: most at the ears, nothing at lids, lips and the neck loop, (N,)."""
    amount = 0.25 + 0.25 * smoothstep(0.066, 0.072, np.abs(vertices[:, 0]))
    amount *= np.where(is_free(parameters), 1.0, 0.0)
    ears = np.abs(vertices[:, 0]) > 0.066
    amount[-NECK_LOOP:] = 0.0
    return np.where(ears & (vertices[:, 1] > -0.06), np.minimum(amount, 0.14), amount)


def _mirrored(skin_vertices: Array) -> Array:
    """Make the two halves exact mirror images again: the right half copies the left."""
    vertices = skin_vertices.copy()
    pairs = (SKIN_VERTICES - NECK_LOOP - _MIDLINE) // 2
    left = slice(_MIDLINE, _MIDLINE + pairs)
    vertices[:_MIDLINE, 0] = 0.0
    vertices[_MIDLINE + pairs : _MIDLINE + 2 * pairs] = vertices[left] * [-1.0, 1.0, 1.0]
    return vertices


def build_head() -> HeadMesh:
    """Build the stand-in template; the same mesh every time."""
    skin = _skin_parameters()
    skin_vertices, mouth = lay(skin, fold=True)
    ball, ball_vertices = _eyeball()
    mirror = np.array([-1.0, 1.0, 1.0])
    skin_triangles = triangulate_sphere(skin, loop=NECK_LOOP)
    skin_triangles = turn_edges(skin_vertices, skin_triangles)
    skin_vertices = soften(skin_vertices, skin_triangles, _softening(skin, skin_vertices))
    skin_vertices = _mirrored(skin_vertices)
    eye_triangles = triangulate_sphere(ball)
    left, right = SKIN_VERTICES, SKIN_VERTICES + EYE_VERTICES
    triangles = np.concatenate(
        [skin_triangles, eye_triangles + left, eye_triangles[:, [0, 2, 1]] + right]
    )
    if triangles.shape != (TRIANGLES, 3):
        raise ValueError(f"the head has {len(triangles)} triangles, expected {TRIANGLES}")
    return HeadMesh(
        vertices=np.concatenate([skin_vertices, ball_vertices, ball_vertices * mirror]),
        triangles=triangles,
        parameters=np.concatenate([skin, ball, ball * mirror]),
        mouth=np.concatenate([mouth, np.full(2 * EYE_VERTICES, 9.0)]),
    )
