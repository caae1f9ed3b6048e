"""Where a head looks: yaw, pitch and roll from facial points.

A generic face is turned, scaled and shifted until its points, seen without perspective, lie on
those in the picture. Signs are those of somebody who looks at the picture: yaw is positive when
the nose points to the right, pitch when it points up, roll when the head is tilted clockwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]

# A generic face in millimetres from the point between the pupils: x to the right of the picture,
# y up, z towards the viewer. Across the picture it is the released template at 2 px/mm, so that a
# face that lies on the template looks straight ahead; the depths are those of an average adult.
FIVE_POINTS_MM = np.array(
    [
        [-31.5, 0.0, 0.0],
        [31.5, 0.0, 0.0],
        [0.0, -37.0, 37.0],
        [-28.0, -65.7, 8.0],
        [28.0, -65.7, 8.0],
    ]
)

# The same face at places of MediaPipe's mesh: outer and inner corners of the eyes, bridge, tip and
# wings of the nose, corners of the mouth, forehead, chin, and the cheeks before the ears.
LANDMARKS_MM: dict[int, tuple[float, float, float]] = {
    33: (-44.0, 0.0, -6.0),
    133: (-18.0, -1.0, -1.0),
    362: (18.0, -1.0, -1.0),
    263: (44.0, 0.0, -6.0),
    168: (0.0, 2.0, 14.0),
    1: (0.0, -37.0, 37.0),
    129: (-17.0, -37.0, 14.0),
    358: (17.0, -37.0, 14.0),
    61: (-26.0, -66.0, 8.0),
    291: (26.0, -66.0, 8.0),
    10: (0.0, 58.0, 8.0),
    152: (0.0, -109.0, 8.0),
    234: (-70.0, -13.0, -62.0),
    454: (70.0, -13.0, -62.0),
}

_ROUNDS = 30
_STARTS_DEG = ((0.0, 0.0), (45.0, 0.0), (-45.0, 0.0), (0.0, 25.0), (0.0, -25.0))
_ROLL_WEIGHT = 0.25


@dataclass(frozen=True, slots=True)
class Pose:
    """A head's pose in the picture, in degrees."""

    yaw: float  # positive: the nose points to the right of the picture
    pitch: float  # positive: up
    roll: float  # positive: the head is tilted clockwise

    @property
    def degrees(self) -> tuple[float, float, float]:
        """Yaw, pitch and roll."""
        return self.yaw, self.pitch, self.roll

    @property
    def turned(self) -> float:
        """How far the face is turned away from the camera, in degrees, whatever its tilt."""
        return math.hypot(self.yaw, self.pitch)

    @property
    def words(self) -> str:
        """The angles, for people."""
        return f"yaw {self.yaw:+.0f}°, pitch {self.pitch:+.0f}°, roll {self.roll:+.0f}°"

    def distance(self, other: Pose) -> float:
        """How differently two heads look, in degrees; a metric.

        Roll counts a quarter: the crop is cut upright, so a tilt shows little that is new.
        """
        rolled = (self.roll - other.roll + 180) % 360 - 180
        return math.hypot(self.yaw - other.yaw, self.pitch - other.pitch, _ROLL_WEIGHT * rolled)


def rotation_from_pose(yaw: float, pitch: float, roll: float) -> Array:
    """The rotation `(3, 3)` of a head (x right, y up, z towards the viewer), angles in degrees.

    The nose (0, 0, 1) goes to azimuth `yaw` and elevation `pitch`; then the picture is tilted.
    """
    return Rotation.from_euler("ZYX", [-roll, yaw, -pitch], degrees=True).as_matrix()


def pose_from_rotation(rotation: ArrayLike) -> tuple[float, float, float]:
    """Yaw, pitch and roll in degrees: the inverse of `rotation_from_pose` for |yaw| < 90."""
    roll, yaw, pitch = Rotation.from_matrix(rotation).as_euler("ZYX", degrees=True)
    return float(yaw), -float(pitch), -float(roll)


@dataclass(frozen=True)
class FaceFit:
    """A generic face laid onto a picture without perspective."""

    rotation: Array  # (3, 3), see `rotation_from_pose`
    scale: float  # pixels per millimetre
    shift_px: Array  # (2,): where the face's origin lies, x right, y down

    @property
    def pose(self) -> Pose:
        """The angles."""
        return Pose(*pose_from_rotation(self.rotation))

    @property
    def points(self) -> Array:
        """The five facial points `(5, 2)` in pixels."""
        return self.project(FIVE_POINTS_MM)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """A square about the face, brow to chin, `(x0, y0, x1, y1)` pixels."""
        (x, y), half = self.project([[0.0, -33.0, 0.0]])[0], 68.0 * self.scale
        return x - half, y - half, x + half, y + half

    def project(self, face_mm: ArrayLike) -> Array:
        """Where points `(N, 3)` of the face lie in the picture, `(N, 2)`."""
        turned = np.asarray(face_mm, np.float64) @ self.rotation.T
        return self.scale * turned[:, :2] * [1.0, -1.0] + self.shift_px


def fit_face(
    points_px: ArrayLike,
    face_mm: ArrayLike = FIVE_POINTS_MM,
    weights: ArrayLike | None = None,
    start: Array | None = None,
) -> FaceFit:
    """Turn, scale and shift a face until its points fit those of a picture best.

    Gauss-Newton on the rotation, from five starts: few points have several optima.

    Args:
        points_px: `(N, 2)`, x right, y down, N > 3.
        face_mm: `(N, 3)`, x right, y up, z towards the viewer.
        weights: `(N,)`, or None for 1 each.
        start: A rotation `(3, 3)` close to the answer; saves the five starts.

    Raises:
        ValueError: The shapes do not fit, a number is not finite, or the points coincide.
    """
    points = np.asarray(points_px, np.float64)
    model = np.asarray(face_mm, np.float64)
    if points.ndim != 2 or len(points) < 4 or model.shape != (len(points), 3):
        raise ValueError(
            f"points are {points.shape}, the face is {model.shape}: expected (N, 2) and (N, 3), "
            "N > 3"
        )
    if not np.isfinite(points).all():
        raise ValueError("a facial point is not a finite number")
    weight = np.ones(len(points)) if weights is None else np.asarray(weights, np.float64)
    weight = weight / weight.sum()
    center_px, center_mm = weight @ points, weight @ model
    points, model = (points - center_px) * [1.0, -1.0], model - center_mm
    spread = math.sqrt(weight @ (points**2).sum(1))
    if spread < 1e-9:
        raise ValueError("the facial points coincide: no pose can be fitted to them")
    size = math.sqrt(weight @ (model**2).sum(1))
    points, model = points / spread, model / size
    # The tilt of the picture, as if the face looked straight ahead.
    p, q = model[:, 0] + 1j * model[:, 1], points[:, 0] + 1j * points[:, 1]
    tilt = -math.degrees(float(np.angle((np.conj(p) * q).sum())))
    starts = [rotation_from_pose(y, p, tilt) for y, p in _STARTS_DEG] if start is None else [start]
    fits = (_refine(points, model, weight, s) for s in starts)
    rotation, _ = min(fits, key=lambda fit: fit[1])
    seen = (model @ rotation.T)[:, :2]
    scale = _best_scale(points, seen, weight) * spread / size
    shift = center_px - scale * (rotation @ center_mm)[:2] * [1.0, -1.0]
    return FaceFit(rotation, scale, shift)


def _best_scale(points: Array, seen: Array, weight: Array) -> float:
    best = weight @ (points * seen).sum(1) / max(weight @ (seen**2).sum(1), 1e-12)
    return max(float(best), 1e-3)


def _refine(points: Array, model: Array, weight: Array, rotation: Array) -> tuple[Array, float]:
    """Gauss-Newton with damping: rotation `(3, 3)` and the root mean square error."""

    def cost(candidate: Array) -> float:
        seen = (model @ candidate.T)[:, :2]
        return float(weight @ ((points - _best_scale(points, seen, weight) * seen) ** 2).sum(1))

    root = np.sqrt(np.repeat(weight, 2))
    damping, best = 1e-3, cost(rotation)
    for _ in range(_ROUNDS):
        turned = model @ rotation.T
        scale = _best_scale(points, turned[:, :2], weight)
        x, y, z = turned.T
        zero = np.zeros_like(x)
        # d(turned) = step x turned; the last column is the scale's.
        by_x = scale * np.stack([zero, z, -y, x / scale], axis=1)
        by_y = scale * np.stack([-z, zero, x, y / scale], axis=1)
        jacobian = np.stack([by_x, by_y], axis=1).reshape(-1, 4) * root[:, None]
        residual = (points - scale * turned[:, :2]).reshape(-1) * root
        normal = jacobian.T @ jacobian
        step = np.linalg.solve(normal + damping * np.eye(4), jacobian.T @ residual)[:3]
        candidate = Rotation.from_rotvec(step).as_matrix() @ rotation
        now = cost(candidate)
        if now > best:
            damping *= 10
            continue
        done = best - now < 1e-12
        rotation, best, damping = candidate, now, max(damping / 10, 1e-9)
        if done:
            break
    return rotation, math.sqrt(best)


def pose_from_landmarks(landmarks_px: ArrayLike) -> Pose:
    """The pose from MediaPipe's face mesh, `(468 or 478, 2)` pixels."""
    mesh = np.asarray(landmarks_px, np.float64)
    return fit_face(mesh[list(LANDMARKS_MM), :2], list(LANDMARKS_MM.values())).pose
