"""A face followed from frame to frame, and the head's pose with it.

Some sixty points of a generic face's surface are laid onto the picture, each one is followed by
its surroundings (Lucas and Kanade's registration on a pyramid), and the generic face is fitted to
where they went. So a detector with a box alone, now and then, is enough to know how a head turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

from ..face.pose import FIVE_POINTS_MM, FaceFit, fit_face

Array = NDArray[np.float64]

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


@dataclass(frozen=True)
class TrackedFace:
    """A face in one frame.

    Attributes:
        fit: The generic face, laid onto the frame.
        inliers: Share of the followed points that agree with it.
    """

    fit: FaceFit
    inliers: float

    @property
    def points(self) -> Array:
        """The five facial points `(5, 2)` in pixels of the frame."""
        return self.fit.project(FIVE_POINTS_MM)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """A square about the face, brow to chin, `(x0, y0, x1, y1)` pixels."""
        center = self.fit.project([[0.0, -33.0, 0.0]])[0]
        half = 68.0 * self.fit.scale
        return center[0] - half, center[1] - half, center[0] + half, center[1] + half


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


def pyramid(gray: ArrayLike) -> list[NDArray[np.float32]]:
    """A gray picture `(H, W)` in 0 to 255, and copies of half and a quarter of its size."""
    level = _smooth(np.asarray(gray, np.float32), 0.7)
    levels = [level]
    while len(levels) < _LEVELS and min(level.shape) >= 8 * _HALF_WINDOW:
        level = _smooth(level, 1.0)[::2, ::2]
        levels.append(level)
    return levels


def _smooth(picture: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return np.asarray(gaussian_filter(picture, sigma), np.float32)


def start_track(points_px: ArrayLike) -> TrackedFace:
    """A track that begins with five facial points `(5, 2)` in pixels of the frame."""
    return TrackedFace(fit_face(points_px, FIVE_POINTS_MM), 1.0)


def follow(
    face: TrackedFace, before: Sequence[NDArray[np.float32]], now: Sequence[NDArray[np.float32]]
) -> TrackedFace | None:
    """The face in the next frame, or None where it is lost.

    Args:
        face: In the frame `before`.
        before: `pyramid` of that frame.
        now: `pyramid` of the next frame, of the same size.
    """
    places = face.fit.project(GRID_MM)
    height, width = before[0].shape
    facing = (GRID_NORMALS @ face.fit.rotation.T)[:, 2] > _LEAST_FACING
    margin = _HALF_WINDOW
    inside = (places > margin).all(1) & (places < [width - margin, height - margin]).all(1)
    use = np.flatnonzero(facing & inside)
    if len(use) < _LEAST_POINTS:
        return None
    moved, texture = register(before, now, places[use])
    kept = (texture > _LEAST_TEXTURE) & np.isfinite(moved).all(1)
    use, moved = use[kept], moved[kept]
    if len(use) < _LEAST_POINTS:
        return None
    return _fit_robustly(face.fit, GRID_MM[use], places[use], moved)


def _fit_robustly(fit: FaceFit, face_mm: Array, before: Array, moved: Array) -> TrackedFace | None:
    """Fit a face to points some of which went astray: those weigh less from round to round."""
    # The motion is measured, the place is modelled: their sum keeps the face on its features.
    radius = max(1.0, 2.0 * fit.scale)
    step = moved - before
    middle = np.median(step, axis=0)
    weights = 1 / (1 + (np.linalg.norm(step - middle, axis=1) / (6 * radius)) ** 2)
    for _ in range(3):
        fitted = fit_face(moved, face_mm, weights, fit.rotation)
        residual = np.linalg.norm(fitted.project(face_mm) - moved, axis=1)
        weights = 1 / (1 + (residual / radius) ** 2)
    inliers = float(np.mean(residual < 2 * radius))
    grown = fitted.scale / fit.scale
    if inliers < _LEAST_INLIERS or not 0.8 < grown < 1.25:
        return None
    return TrackedFace(fitted, inliers)


def register(
    before: Sequence[NDArray[np.float32]],
    now: Sequence[NDArray[np.float32]],
    places: Array,
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
