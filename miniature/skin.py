"""How the skin of the stand-in head is laid onto the sculpture.

Every vertex of the skin has a parameter: a unit vector. It names a ray from inside the head, and
the vertex is where that ray leaves the clay. On the sphere of parameters the lips are apart and the
lids open; laying closes the lips, and folds what lies inside the openings into the head.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .sculpture import EAR_RIM, EYE_CENTRE, EYE_RADIUS, MOUTH_HALF_WIDTH, MOUTH_Y, Bone, march

Array = NDArray[np.float64]

NECK_LOOP_Y = -0.985  # height of the neck loop on the sphere of parameters
_MOUTH_PLANE_M = 0.085
_MOUTH_OPEN_M = 0.0045
_EYE_PLANE_M = 0.0690
_EYE_HALF_WIDTH_M = 0.0138
_LID_UPPER_M, _LID_LOWER_M = 0.0062, 0.0044
_MOUTH_CLOSED = 0.10  # share of the opening that is left once the lips are closed


def smoothstep(low: float, high: float, x: Array) -> Array:
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def rays(parameters: Array) -> tuple[Array, Array]:
    """Turn parameters (y = down the head) into rays: origins and unit directions, (N, 3) each.

    Down to the jaw all rays start from one point. Below it the start sinks into the neck and the
    rays level out again, so that neck and shoulders are met although the head overhangs them.
    """
    x, y, z = parameters.T
    descent = np.arccos(np.clip(y, -1.0, 1.0)) / np.arccos(NECK_LOOP_Y)  # 0 crown .. 1 neck loop
    stops = [0.0, 0.52, 0.70, 0.76, 0.82, 0.88, 0.94, 1.0]
    slopes = np.arctan([-0.97, -1.25, -1.10, -0.75, -0.35, -0.12])
    elevation = np.interp(descent, stops, [np.pi / 2, 0.0, *slopes])
    height = np.interp(descent, stops, [0.0, 0.0, 0.0, -0.012, -0.050, -0.090, -0.135, -0.176])
    depth = np.interp(descent, stops, [-0.01, -0.01, -0.01, -0.012, -0.016, -0.022, -0.03, -0.036])
    around = np.maximum(np.hypot(x, z), 1e-12)
    cos, sin = np.cos(elevation), np.sin(elevation)
    directions = np.stack([x / around * cos, sin, z / around * cos], axis=1)
    directions[np.hypot(x, z) < 1e-9] = [0.0, 1.0, 0.0]
    origins = np.stack([np.zeros_like(x), height, depth], axis=1)
    return origins, directions


def parameters_of(points: Array) -> Array:
    """Invert `rays` for points of the face, where all rays share one origin: (N, 3) -> (N, 3)."""
    local = points - np.array([0.0, 0.0, -0.010])
    elevation = np.arctan2(local[:, 1], np.hypot(local[:, 0], local[:, 2]))
    descent = np.interp(-elevation, [-np.pi / 2, 0.0, np.arctan(0.97)], [0.0, 0.52, 0.70])
    polar, azimuth = descent * np.arccos(NECK_LOOP_Y), np.arctan2(local[:, 0], local[:, 2])
    ring = np.sin(polar)
    return np.stack([ring * np.sin(azimuth), np.cos(polar), ring * np.cos(azimuth)], axis=1)


def _mouth_half_height(x: Array) -> Array:
    return _MOUTH_OPEN_M * np.sqrt(np.clip(1.0 - (x / MOUTH_HALF_WIDTH) ** 2, 0.0, 1.0))


def mouth_line(x: Array) -> Array:
    """Height of the line between the lips; its ends turn up a little."""
    return MOUTH_Y + 0.0012 * (x / MOUTH_HALF_WIDTH) ** 2


def _close_lips(origins: Array, directions: Array) -> tuple[Array, Array]:
    """Bend rays of the open mouth of the parameters onto closed lips.

    Returns:
        New directions (N, 3), and the height in the slit (N,): see `HeadMesh.mouth`.
    """
    x, y = _on_plane(origins, directions, _MOUTH_PLANE_M).T
    offset = y - mouth_line(x)
    half = _mouth_half_height(x)
    near = (np.abs(x) < MOUTH_HALF_WIDTH) & (np.abs(offset) < 0.03)
    beyond = np.maximum(np.abs(offset) - half, 0.0)
    shift = half * (1.0 - _MOUTH_CLOSED) * np.exp(-((beyond / 0.007) ** 2))
    closed = np.where(
        np.abs(offset) < half, offset * _MOUTH_CLOSED, offset - np.sign(offset) * shift
    )
    target = np.stack([x, closed + mouth_line(x), np.full_like(x, _MOUTH_PLANE_M)], axis=1)
    target -= origins
    target /= np.linalg.norm(target, axis=1, keepdims=True)
    height = np.clip(offset / np.maximum(half, 1e-6), -8.0, 8.0)
    height = np.where(near, height, 9.0 * np.sign(offset))
    return np.where(near[:, None], target, directions), height


def _on_plane(origins: Array, directions: Array, z: float) -> Array:
    """Follow rays to a plane in front of the face, (N, 2); far away for those that turn from it."""
    reach = (z - origins[:, 2]) / np.maximum(directions[:, 2], 1e-6)
    points = (origins + reach[:, None] * directions)[:, :2]
    return np.where(directions[:, 2:] > 0.3, points, 9.0)


def _lid_height(origins: Array, directions: Array) -> Array:
    """Tell where rays pass the opening of the lids: below 1 inside, 1 at the edge, (N,)."""
    x, y = _on_plane(origins, directions, _EYE_PLANE_M).T
    x = (np.abs(x) - EYE_CENTRE[0]) / _EYE_HALF_WIDTH_M
    bow = np.sqrt(np.clip(1.0 - np.abs(x) ** 2.4, 1e-6, 1.0))
    y = y - EYE_CENTRE[1] - 0.0008 * x
    limit = np.where(y > 0, _LID_UPPER_M, _LID_LOWER_M) * bow
    return np.where(
        np.abs(x) < 1.0, np.abs(y) / limit, 1.0 + 8.0 * np.abs(np.abs(x) - 1.0) + np.abs(y) / 0.006
    )


def lay(parameters: Array, *, fold: bool) -> tuple[Array, Array]:
    """Lay parameters onto the sculpture: vertices (N, 3) m and mouth heights (N,).

    With `fold` off the lips stay apart and nothing is folded inwards: the surface by which vertices
    are spread out.
    """
    origins, directions = rays(parameters)
    closed, mouth = _close_lips(origins, directions)
    if not fold:
        return march(origins, directions), mouth
    points = march(origins, closed)
    depth = 0.016 * np.sqrt(np.clip(1.0 - mouth**2, 0.0, 1.0))
    width = np.clip(1.0 - (points[:, 0] / MOUTH_HALF_WIDTH) ** 2, 0.0, 1.0)
    points = points - (depth * width**0.5)[:, None] * closed
    opening = _lid_height(origins, directions) < 1.0
    centre = np.where(points[:, :1] < 0, EYE_CENTRE * [-1.0, 1.0, 1.0], EYE_CENTRE)
    away = points - centre
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    return np.where(opening[:, None], centre + (EYE_RADIUS - 0.0016) * away, points), mouth


_LID_ROWS = (0.60, 0.92, 1.08, 1.45)
_LIP_ROWS = ((0.70, 0.0), (1.0, 0.0003), (1.0, 0.0014))  # share of the half height, plus metres


def contours() -> Array:
    """Give parameters of the left half that edges need: lids, lips, rim of the ear, (N, 3)."""
    turn = np.pi * (np.arange(32) + 0.5) / 16.0
    rows = []
    for scale in _LID_ROWS:
        angle = turn if scale > 0.8 else turn[::2]
        grow = scale if scale < 1.0 else 1.0 + 0.45 * (scale - 1.0)
        side = np.cos(angle) * 0.995
        y = np.where(np.sin(angle) > 0, _LID_UPPER_M, _LID_LOWER_M)
        y = y * np.sqrt(1.0 - np.abs(side) ** 2.4) * np.sign(np.sin(angle)) * scale
        x = EYE_CENTRE[0] + _EYE_HALF_WIDTH_M * side * grow
        y = EYE_CENTRE[1] + y + 0.0008 * side * grow
        rows.append(np.stack([x, y, np.full_like(x, _EYE_PLANE_M)], axis=1))
    x = MOUTH_HALF_WIDTH * np.sin(np.linspace(0.0, np.pi / 2, 17)[1:-1])
    for scale, beyond in _LIP_ROWS:
        for side in (1.0, -1.0):
            y = mouth_line(x) + side * (scale * _mouth_half_height(x) + beyond)
            rows.append(np.stack([x, y, np.full_like(x, _MOUTH_PLANE_M)], axis=1))
    corner = MOUTH_HALF_WIDTH * np.array([[1.01], [1.09]])
    rows.append(np.concatenate([corner, mouth_line(corner), 0 * corner + _MOUTH_PLANE_M], axis=1))
    crest = np.concatenate([_along(bone, 5) for bone in EAR_RIM if isinstance(bone, Bone)])
    outwards = crest - [0.079, 0.008, -0.014]
    outwards[:, 0] = 0.0
    outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)
    rows += [crest + 0.0005 * outwards, crest + 0.0040 * outwards]
    return parameters_of(np.concatenate(rows))


def _along(bone: Bone, count: int) -> Array:
    share = np.arange(count)[:, None] / count
    return np.array(bone.start) * (1.0 - share) + np.array(bone.end) * share


def is_free(parameters: Array) -> NDArray[np.bool_]:
    """Tell where vertices may be placed at will: not on the edges of lids and lips, (N,)."""
    origins, directions = rays(parameters)
    x, y = _on_plane(origins, directions, _MOUTH_PLANE_M).T
    past = np.hypot(
        np.maximum(np.abs(x) - MOUTH_HALF_WIDTH, 0.0),
        np.maximum(np.abs(y - mouth_line(x)) - _mouth_half_height(x), 0.0),
    )
    return (past > 0.0022) & (_lid_height(origins, directions) > _LID_ROWS[-1] + 0.15)


def lips_on_midline() -> Array:
    """Give the parameters that the edges of the lips need on the plane of symmetry, (7, 3)."""
    above = [scale * _MOUTH_OPEN_M + beyond for scale, beyond in _LIP_ROWS]
    y = mouth_line(np.zeros(1)) + np.array([0.0, *above, *(-y for y in above)])
    return parameters_of(np.stack([0 * y, y, np.full_like(y, _MOUTH_PLANE_M)], axis=1))
