"""How the stand-in head varies and moves: the other tables of a FLAME file.

Shape and expression directions are smooth fields of displacement in metres for a coefficient of 1,
so that coefficients drawn from a normal distribution give plausible, different heads. The first
ones carry meaning (size, width, jaw, ...; open mouth, smile, ...); the rest are seeded noise
that gets weaker and finer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from .head import VERTICES, HeadMesh, part_slices
from .sculpture import EYE_CENTRE, MOUTH_HALF_WIDTH, MOUTH_Y
from .skin import smoothstep

Array = NDArray[np.float64]
Field = Callable[[Array], Array]

SHAPES, EXPRESSIONS, POSES = 300, 100, 36
JOINTS = np.array(
    [
        [0.0, -0.175, -0.040],  # root, where the neck begins
        [0.0, -0.095, -0.035],  # neck
        [0.0, -0.012, -0.004],  # jaw, between its hinges
        EYE_CENTRE,  # the subject's left eye
        EYE_CENTRE * [-1.0, 1.0, 1.0],  # right eye
    ]
)
PARENTS = (4294967295, 0, 1, 1, 1)  # the root has none: -1 as an unsigned number, as in FLAME


@dataclass(frozen=True)
class HeadMotion:
    """The tables that deform the template.

    Attributes:
        shape_directions: (5023, 3, 400) metres: 300 of shape, then 100 of expression.
        pose_directions: (5023, 3, 36) metres per entry of (R - I) of joints 1 to 4.
        joint_regressor: (5, 5023), rows not negative with sum 1.
        skinning: (5023, 5), rows not negative with sum 1.
    """

    shape_directions: Array
    pose_directions: Array
    joint_regressor: Array
    skinning: Array


def _bump(points: Array, centre: tuple[float, float, float], size: float) -> Array:
    """A soft ball on both sides of the face, 1 at its centre: (N,)."""
    folded = np.concatenate([np.abs(points[:, :1]), points[:, 1:]], axis=1)
    return np.exp(-np.sum((folded - centre) ** 2, axis=1) / (2.0 * size * size))


def _push(
    centre: tuple[float, float, float], size: float, move: tuple[float, float, float]
) -> Field:
    """A field that moves a soft ball by `move` metres, mirrored to the other side of the face."""

    def field(points: Array) -> Array:
        side = np.tanh(points[:, :1] / 0.004)
        direction = np.concatenate([side * move[0], np.tile(move[1:], (len(points), 1))], axis=1)
        return _bump(points, centre, size)[:, None] * direction

    return field


def _stretch(x: float, y: float, z: float, *, below: float | None = None) -> Field:
    """A field that scales about the middle of the head; only below a height if that is given."""

    def field(points: Array) -> Array:
        scaled = (points - [0.0, 0.02, -0.02]) * [x, y, z]
        if below is not None:
            scaled = scaled * (1.0 - smoothstep(below - 0.05, below + 0.03, points[:, 1]))[:, None]
        return scaled

    return field


def _sum(*fields: Field) -> Field:
    return lambda points: sum((field(points) for field in fields), np.zeros_like(points))


SHAPE_FIELDS: tuple[tuple[str, Field], ...] = (
    ("size", _stretch(0.028, 0.028, 0.028)),
    ("width", _stretch(0.035, 0.0, 0.0)),
    ("height of the face", _stretch(0.0, 0.028, 0.0)),
    ("width of the jaw", _stretch(0.050, 0.0, 0.0, below=-0.03)),
    ("length of the nose", _push((0.0, -0.022, 0.100), 0.013, (0.0, -0.0016, 0.0040))),
    ("chin", _push((0.0, -0.090, 0.075), 0.018, (0.0, -0.0030, 0.0040))),
    ("brow ridge", _push((0.024, 0.041, 0.074), 0.015, (0.0, -0.0008, 0.0030))),
    ("cheekbones", _push((0.052, -0.004, 0.042), 0.018, (0.0032, 0.0, 0.0020))),
    ("cheeks", _push((0.044, -0.040, 0.035), 0.022, (0.0036, 0.0, 0.0012))),
    ("width of the nose", _push((0.012, -0.021, 0.090), 0.008, (0.0022, 0.0, 0.0))),
    ("bridge of the nose", _push((0.0, 0.010, 0.090), 0.012, (0.0, 0.0, 0.0026))),
    ("distance of the eyes", _push((0.0315, 0.0185, 0.060), 0.018, (0.0016, 0.0, 0.0))),
    ("fullness of the lips", _push((0.0, -0.054, 0.088), 0.013, (0.0, 0.0, 0.0022))),
    ("width of the mouth", _push((0.022, MOUTH_Y, 0.078), 0.011, (0.0024, 0.0, 0.0))),
    ("ears", _push((0.082, 0.008, -0.018), 0.016, (0.0034, 0.0008, -0.0012))),
    ("back of the head", _push((0.0, 0.045, -0.115), 0.050, (0.0, 0.0, -0.0050))),
    ("forehead", _push((0.0, 0.080, 0.070), 0.030, (0.0, 0.0008, 0.0036))),
    ("thickness of the neck", _stretch(0.060, 0.0, 0.060, below=-0.12)),
)


EXPRESSION_FIELDS: tuple[tuple[str, Field], ...] = (
    (
        "smile",
        _sum(
            _push((0.024, MOUTH_Y, 0.077), 0.010, (0.0028, 0.0034, -0.0016)),
            _push((0.040, -0.020, 0.055), 0.016, (0.0010, 0.0016, 0.0012)),
        ),
    ),
    ("brows up", _push((0.026, 0.044, 0.074), 0.014, (0.0, 0.0040, 0.0))),
    ("frown", _push((0.012, 0.036, 0.080), 0.010, (-0.0022, -0.0024, 0.0008))),
    ("pucker", _push((0.020, MOUTH_Y, 0.080), 0.012, (-0.0034, 0.0, 0.0030))),
    ("upper lip up", _push((0.0, -0.046, 0.090), 0.009, (0.0, 0.0022, 0.0004))),
    ("nose wrinkle", _push((0.012, -0.018, 0.090), 0.010, (0.0004, 0.0018, 0.0))),
    ("cheeks out", _push((0.042, -0.045, 0.045), 0.016, (0.0032, 0.0, 0.0016))),
    ("lower lip out", _push((0.0, -0.060, 0.088), 0.008, (0.0, 0.0006, 0.0022))),
    ("corners down", _push((0.024, MOUTH_Y, 0.077), 0.010, (0.0004, -0.0032, 0.0))),
)


def _noise(points: Array, count: int, *, first_m: float, seed: int) -> Array:
    """Draw `count` smooth random fields that get weaker and finer, (N, 3, count), left = right."""
    rng = np.random.default_rng(seed)
    knots = rng.uniform([0.0, -0.15, -0.11], [0.08, 0.13, 0.10], (160, 3))
    folded = np.concatenate([np.abs(points[:, :1]), points[:, 1:]], axis=1)
    squared = np.sum((folded[:, None] - knots[None]) ** 2, axis=2)
    fields = np.empty((len(points), 3, count))
    order = np.arange(count)
    strength = first_m / (1.0 + order / 12.0)
    for width, block in zip((0.045, 0.030, 0.020), np.array_split(order, 3), strict=True):
        kernel = np.exp(-squared / (2.0 * width * width))
        drawn = kernel @ rng.standard_normal((len(knots), 3 * len(block)))
        drawn = drawn.reshape(len(points), 3, len(block))
        drawn *= strength[block] / np.sqrt(np.mean(drawn**2, axis=(0, 1)))
        fields[:, :, block] = drawn
    fields[:, 0] *= np.tanh(points[:, :1] / 0.020)
    return fields


def _rigid_eyes(fields: Array, at_centres: Array) -> Array:
    """Let each eyeball move as one with the skin around its centre: (5023, 3, K), (2, 3, K)."""
    fields = fields.copy()
    for part, move in zip(part_slices()[1:], at_centres, strict=True):
        fields[part] = move
    return fields


def _jaw_share(points: Array) -> Array:
    """How far the jaw takes places below the line of the mouth along, (N,)."""
    line = MOUTH_Y + 0.0012 * (np.clip(np.abs(points[:, 0]) / MOUTH_HALF_WIDTH, 0.0, 1.5)) ** 2
    beside = smoothstep(0.35, 1.25, np.abs(points[:, 0]) / MOUTH_HALF_WIDTH)
    behind = 1.0 - smoothstep(0.045, 0.075, points[:, 2])
    blur = 0.0004 + 0.020 * np.maximum(beside, behind)
    below = smoothstep(-1.0, 1.0, (line - points[:, 1]) / blur)
    front = smoothstep(-0.010, 0.045, points[:, 2] + 0.15 * (MOUTH_Y - points[:, 1]))
    return below * front * smoothstep(-0.135, -0.100, points[:, 1])


def _skinning(mesh: HeadMesh) -> Array:
    vertices = mesh.vertices
    weights = np.zeros((VERTICES, 5))
    root = 1.0 - smoothstep(-0.170, -0.105, vertices[:, 1])
    jaw = _jaw_share(vertices)
    # inside the slit the upper wall stays, the lower one goes with the jaw
    slit = np.abs(mesh.mouth) <= 1.0
    edge = np.stack([vertices[:, 0], 0 * vertices[:, 0] + MOUTH_Y, 0 * root + 0.085], axis=1)
    upper, lower = (_jaw_share(edge + np.array([0.0, offset, 0.0])) for offset in (0.0014, -0.0006))
    jaw = np.where(slit, upper + (lower - upper) * smoothstep(-0.6, 0.6, -mesh.mouth), jaw)
    jaw *= 1.0 - root
    weights[:, 0], weights[:, 2], weights[:, 1] = root, jaw, 1.0 - root - jaw
    for joint, part in zip((3, 4), part_slices()[1:], strict=True):
        weights[part] = 0.0
        weights[part, joint] = 1.0
    return weights


def _joint_regressor(mesh: HeadMesh) -> Array:
    """Find few weights, none negative, whose means of the template's vertices are the joints."""
    regressor = np.zeros((5, VERTICES))
    skin, left, right = part_slices()
    for joint, target in enumerate(JOINTS):
        part = (skin, skin, skin, left, right)[joint]
        vertices = mesh.vertices[part]
        distance = np.abs(vertices[:, 1] - target[1])
        chosen = np.argsort(distance, kind="stable")[: 120 if joint < 3 else len(vertices)]
        system = np.concatenate([vertices[chosen].T - target[:, None], np.ones((1, len(chosen)))])
        pull = 1e-3 * np.eye(len(chosen))  # spreads the weight over more vertices
        share, _ = nnls(
            np.concatenate([system * 100.0, pull]),
            np.concatenate([[0.0, 0.0, 0.0, 100.0], np.full(len(chosen), 1e-3 / len(chosen))]),
        )
        regressor[joint, np.arange(part.start, part.stop)[chosen]] = share / share.sum()
    return regressor


def _open_mouth(vertices: Array, jaw: Array) -> Array:
    """Displace by a small turn about the hinge of the jaw, first order, chin down: (5023, 3)."""
    local = vertices - JOINTS[2]
    turned = 0.10 * np.stack([0 * jaw, -local[:, 2], local[:, 1]], axis=1)
    return turned * jaw[:, None]


def build_motion(mesh: HeadMesh, *, seed: int = 0) -> HeadMotion:
    """Build the tables for a template; `seed` draws the unnamed directions."""
    points = np.concatenate([mesh.vertices, JOINTS[3:]])

    def directions(named: tuple[tuple[str, Field], ...], count: int, first_m: float, draw: int):
        fields = np.stack([field(points) for _, field in named], axis=2)
        noise = _noise(points, count - len(named), first_m=first_m, seed=draw)
        return np.concatenate([fields, noise], axis=2)

    shape = directions(SHAPE_FIELDS, SHAPES, 0.0005, 2 * seed)
    expression = directions(EXPRESSION_FIELDS, EXPRESSIONS - 1, 0.0005, 2 * seed + 1)
    face = smoothstep(-0.02, 0.05, points[:, 2]) * smoothstep(-0.13, -0.10, points[:, 1])
    expression[:, :, len(EXPRESSION_FIELDS) :] *= face[:, None, None]
    expression[-2:] = 0.0  # eyeballs keep their place in the socket
    skinning = _skinning(mesh)
    opening = np.zeros((len(points), 3, 1))
    opening[:VERTICES, :, 0] = _open_mouth(mesh.vertices, skinning[:, 2])
    both = np.concatenate([shape, opening, expression], axis=2)
    pose = _noise(mesh.vertices, POSES, first_m=0.0006, seed=10_000 + seed)
    pose *= smoothstep(-0.16, -0.12, mesh.vertices[:, 1])[:, None, None]
    return HeadMotion(
        shape_directions=_rigid_eyes(both[:VERTICES], both[VERTICES:]),
        pose_directions=_rigid_eyes(pose, np.zeros((2, 3, POSES))),
        joint_regressor=_joint_regressor(mesh),
        skinning=skinning,
    )
