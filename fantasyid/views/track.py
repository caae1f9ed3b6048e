"""A face followed from frame to frame, and the head's pose with it.

Some sixty points of a generic face's surface are laid onto the picture, each one is followed by
its surroundings (Lucas and Kanade's registration on a pyramid), and the generic face is fitted to
where they went. So a detector with a box alone, now and then, is enough to know how a head turns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

from ..face.pose import Array, FaceFit, fit_face

# The generic face of `pose` as a surface: an ellipsoid that is longer below the middle, with a nose
# and lips on it, in millimetres; it goes through the five points within about 5 mm.
_CENTER_MM, _RADII_MM, _LOWER_RADIUS_MM = (0.0, -20.0, -75.0), (72.0, 105.0, 88.0), 150.0
_GRID_X_MM = np.arange(-48.0, 49.0, 12.0)
_GRID_Y_MM = np.arange(-78.0, 43.0, 15.0)

_LEVELS, _HALF_WINDOW, _ROUNDS = 3, 7, 8
# A place must have this much contrast to be followed (least eigenvalue of its gradients, gray
# levels of 255 squared per pixel), and face the camera by this cosine.
_LEAST_TEXTURE, _LEAST_FACING = 4.0, 0.25
_LEAST_POINTS = 10
_LEAST_INLIERS = 0.5


def surface_mm(x: ArrayLike, y: ArrayLike) -> Array:
    """How far the generic face stands out at x to the right and y up, in millimetres."""
    across, up = np.asarray(x, np.float64), np.asarray(y, np.float64)
    height = np.where(up < _CENTER_MM[1], _LOWER_RADIUS_MM, _RADII_MM[1])
    inside = 1 - (across / _RADII_MM[0]) ** 2 - ((up - _CENTER_MM[1]) / height) ** 2
    skull = _RADII_MM[2] * np.sqrt(np.clip(inside, 0, None)) + _CENTER_MM[2]
    slope = np.where(up > -35.0, 20.0, 7.0)
    nose = 25.0 * np.exp(-((across / 11.0) ** 2) - ((up + 35.0) / slope) ** 2)
    lips = 6.0 * np.exp(-((across / 30.0) ** 2) - ((up + 66.0) / 14.0) ** 2)
    return skull + nose + lips


def _face_grid() -> tuple[Array, Array]:
    """Points `(N, 3)` of the generic face and their unit normals `(N, 3)`."""
    x, y = (a.ravel() for a in np.meshgrid(_GRID_X_MM, _GRID_Y_MM))
    points = np.stack([x, y, surface_mm(x, y)], axis=1)
    by_x = (surface_mm(x + 1, y) - surface_mm(x - 1, y)) / 2
    by_y = (surface_mm(x, y + 1) - surface_mm(x, y - 1)) / 2
    normals = np.stack([-by_x, -by_y, np.ones_like(x)], axis=1)
    return points, normals / np.linalg.norm(normals, axis=1, keepdims=True)


GRID_MM, GRID_NORMALS = _face_grid()


def pyramid(gray: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """A gray picture `(H, W)` in 0 to 255, and copies of half and a quarter of its size."""
    levels = [np.asarray(gaussian_filter(gray, 0.7), np.float32)]
    while len(levels) < _LEVELS and min(levels[-1].shape) >= 8 * _HALF_WINDOW:
        levels.append(np.asarray(gaussian_filter(levels[-1], 1.0), np.float32)[::2, ::2])
    return levels


def follow(
    fit: FaceFit, before: Sequence[NDArray[np.float32]], now: Sequence[NDArray[np.float32]]
) -> FaceFit | None:
    """The face in the next frame, or None where it is lost.

    Args:
        fit: In the frame `before`.
        before: `pyramid` of that frame.
        now: `pyramid` of the next frame, of the same size.
    """
    places, (height, width) = fit.project(GRID_MM), before[0].shape
    facing = (GRID_NORMALS @ fit.rotation.T)[:, 2] > _LEAST_FACING
    far = [width - _HALF_WINDOW, height - _HALF_WINDOW]
    inside = (places > _HALF_WINDOW).all(1) & (places < far).all(1)
    use = np.flatnonzero(facing & inside)
    if len(use) < _LEAST_POINTS:
        return None
    moved, texture = register(before, now, places[use])
    kept = (texture > _LEAST_TEXTURE) & np.isfinite(moved).all(1)
    use, moved = use[kept], moved[kept]
    if len(use) < _LEAST_POINTS:
        return None
    # Points that went astray weigh less from round to round.
    face_mm, step, radius = GRID_MM[use], moved - places[use], max(1.0, 2.0 * fit.scale)
    astray = np.linalg.norm(step - np.median(step, axis=0), axis=1)
    weights = 1 / (1 + (astray / (6 * radius)) ** 2)
    for _ in range(3):
        fitted = fit_face(moved, face_mm, weights, fit.rotation)
        residual = np.linalg.norm(fitted.project(face_mm) - moved, axis=1)
        weights = 1 / (1 + (residual / radius) ** 2)
    agree = float(np.mean(residual < 2 * radius)) >= _LEAST_INLIERS
    return fitted if agree and 0.8 < fitted.scale / fit.scale < 1.25 else None


def register(
    before: Sequence[NDArray[np.float32]], now: Sequence[NDArray[np.float32]], places: Array
) -> tuple[Array, Array]:
    """Where the surroundings of some places went from one frame to the next.

    Args:
        before: `pyramid` of a frame.
        now: `pyramid` of the next one.
        places: `(N, 2)` pixels of the first level.

    Returns:
        `(N, 2)` pixels, and the texture `(N,)` of each place: how firmly it can be followed.

    Source: Lucas and Kanade, 1981; the coarse levels bridge large steps.
    """
    right, down = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    axis = np.arange(-_HALF_WINDOW, _HALF_WINDOW + 1, dtype=np.float64)
    window = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)  # (P, 2)
    step = np.zeros_like(places)
    texture = np.zeros(len(places))
    for level in reversed(range(min(len(before), len(now)))):
        factor = 0.5**level
        around = places[:, None] * factor + window  # (N, P, 2)
        template = sample(before[level], around)
        old = before[level]
        by_x = (sample(old, around + right) - sample(old, around - right)) / 2
        by_y = (sample(old, around + down) - sample(old, around - down)) / 2
        xx, xy, yy = (by_x**2).mean(1), (by_x * by_y).mean(1), (by_y**2).mean(1)
        texture = (xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
        determinant = np.maximum(xx * yy - xy**2, 1e-3)
        local = step * factor
        for _ in range(_ROUNDS):
            missing = template - sample(now[level], around + local[:, None])
            bx, by = (missing * by_x).mean(1), (missing * by_y).mean(1)
            change = np.stack([yy * bx - xy * by, xx * by - xy * bx], axis=1) / determinant[:, None]
            local = local + np.clip(change, -2, 2)
            if np.abs(change).max() < 0.02:
                break
        step = local / factor
    return places + step, texture


def sample(picture: NDArray[np.float32], places: Array) -> Array:
    """A gray picture `(H, W)` between its pixels, at `(..., 2)` x and y; the edge is repeated."""
    height, width = picture.shape
    x = np.clip(places[..., 0], 0, width - 1.001)
    y = np.clip(places[..., 1], 0, height - 1.001)
    left, top = x.astype(np.int64), y.astype(np.int64)
    right_share, low_share = x - left, y - top
    flat, first = picture.ravel(), top * width + left
    upper = flat[first] * (1 - right_share) + flat[first + 1] * right_share
    lower = flat[first + width] * (1 - right_share) + flat[first + width + 1] * right_share
    return upper * (1 - low_share) + lower * low_share
