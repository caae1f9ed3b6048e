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
    """A head's pose in the picture.

    Attributes:
        yaw: Degrees; positive: the nose points to the right of the picture.
        pitch: Degrees; positive: up.
        roll: Degrees; positive: the head is tilted clockwise.
        error: How far the points are from those of the generic face, relative to its size.
    """

    yaw: float
    pitch: float
    roll: float
    error: float = 0.0

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


def rotation_from_pose(yaw: float, pitch: float, roll: float) -> NDArray[np.float64]:
    """The rotation `(3, 3)` of a head (x right, y up, z towards the viewer), angles in degrees.

    The nose (0, 0, 1) goes to azimuth `yaw` and elevation `pitch`; then the picture is tilted.
    """
    y, p, r = (math.radians(v) for v in (yaw, pitch, roll))
    about_y = [[math.cos(y), 0, math.sin(y)], [0, 1, 0], [-math.sin(y), 0, math.cos(y)]]
    about_x = [[1, 0, 0], [0, math.cos(p), math.sin(p)], [0, -math.sin(p), math.cos(p)]]
    about_z = [[math.cos(r), math.sin(r), 0], [-math.sin(r), math.cos(r), 0], [0, 0, 1]]
    return np.array(about_z) @ np.array(about_y) @ np.array(about_x)


def pose_from_rotation(rotation: ArrayLike) -> tuple[float, float, float]:
    """Yaw, pitch and roll in degrees: the inverse of `rotation_from_pose` for |yaw| < 90."""
    matrix = np.asarray(rotation, np.float64)
    # The head's own x axis becomes Rz (cos yaw, 0, -sin yaw): its tilt is the roll.
    roll = math.atan2(-matrix[1, 0], matrix[0, 0])
    level = rotation_from_pose(0, 0, -math.degrees(roll)) @ matrix
    yaw = math.atan2(-level[2, 0], level[0, 0])
    pitch = math.atan2(level[1, 2], level[1, 1])
    return math.degrees(yaw), math.degrees(pitch), math.degrees(roll)


@dataclass(frozen=True)
class FaceFit:
    """A generic face laid onto a picture without perspective.

    Attributes:
        rotation: `(3, 3)`, see `rotation_from_pose`.
        scale: Pixels per millimetre.
        shift_px: `(2,)`: where the face's origin lies, x right, y down.
        error: Root mean square distance of the points, relative to their spread.
    """

    rotation: NDArray[np.float64]
    scale: float
    shift_px: NDArray[np.float64]
    error: float

    @property
    def pose(self) -> Pose:
        """The angles."""
        return Pose(*pose_from_rotation(self.rotation), self.error)

    def project(self, face_mm: ArrayLike) -> NDArray[np.float64]:
        """Where points `(N, 3)` of the face lie in the picture, `(N, 2)`."""
        turned = np.asarray(face_mm, np.float64) @ self.rotation.T
        return self.scale * turned[:, :2] * [1.0, -1.0] + self.shift_px


def fit_face(
    points_px: ArrayLike,
    face_mm: ArrayLike,
    weights: ArrayLike | None = None,
    start: NDArray[np.float64] | None = None,
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
    tilt = _tilt(points, model)
    starts = [rotation_from_pose(y, p, tilt) for y, p in _STARTS_DEG] if start is None else [start]
    rotation, error = min(
        (_refine(points, model, weight, s) for s in starts), key=lambda fit: fit[1]
    )
    seen = (model @ rotation.T)[:, :2]
    scale = max(_best_scale(points, seen, weight), 1e-3) * spread / size
    shift = center_px - scale * (rotation @ center_mm)[:2] * [1.0, -1.0]
    return FaceFit(rotation, scale, shift, error)


def _tilt(points: NDArray, model: NDArray) -> float:
    """The tilt of the picture in degrees, as if the face looked straight ahead."""
    p, q = model[:, 0] + 1j * model[:, 1], points[:, 0] + 1j * points[:, 1]
    return -math.degrees(float(np.angle((np.conj(p) * q).sum())))


def _best_scale(points: NDArray, seen: NDArray, weight: NDArray) -> float:
    return float(weight @ (points * seen).sum(1) / max(weight @ (seen**2).sum(1), 1e-12))


def _refine(
    points: NDArray, model: NDArray, weight: NDArray, rotation: NDArray
) -> tuple[NDArray, float]:
    """Gauss-Newton with damping: rotation `(3, 3)` and the root mean square error."""

    def cost(candidate: NDArray) -> float:
        seen = (model @ candidate.T)[:, :2]
        scale = max(_best_scale(points, seen, weight), 1e-3)
        return float(weight @ ((points - scale * seen) ** 2).sum(1))

    root = np.sqrt(np.repeat(weight, 2))
    damping, best = 1e-3, cost(rotation)
    for _ in range(_ROUNDS):
        turned = model @ rotation.T
        scale = max(_best_scale(points, turned[:, :2], weight), 1e-3)
        x, y, z = turned.T
        zero = np.zeros_like(x)
        # d(turned) = step x turned; the last column is the scale's.
        by_x = scale * np.stack([zero, z, -y, x / scale], axis=1)
        by_y = scale * np.stack([-z, zero, x, y / scale], axis=1)
        jacobian = np.stack([by_x, by_y], axis=1).reshape(-1, 4) * root[:, None]
        residual = (points - scale * turned[:, :2]).reshape(-1) * root
        normal = jacobian.T @ jacobian
        step = np.linalg.solve(normal + damping * np.eye(4), jacobian.T @ residual)[:3]
        candidate = _exponential(step) @ rotation
        now = cost(candidate)
        if now > best:
            damping *= 10
            continue
        done = best - now < 1e-12
        rotation, best, damping = candidate, now, max(damping / 10, 1e-9)
        if done:
            break
    return rotation, math.sqrt(best)


def _exponential(step: NDArray) -> NDArray[np.float64]:
    """Rotation `(3, 3)` about an axis by its length in radians."""
    angle = float(np.linalg.norm(step))
    x, y, z = step / max(angle, 1e-12)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


def pose_from_points(points_px: ArrayLike) -> Pose:
    """The pose from five points `(5, 2)` in pixels (`points.POINT_NAMES`)."""
    return fit_face(points_px, FIVE_POINTS_MM).pose


def pose_from_landmarks(landmarks_px: ArrayLike) -> Pose:
    """The pose from MediaPipe's face mesh, `(468 or 478, 2)` pixels."""
    mesh = np.asarray(landmarks_px, np.float64)
    return fit_face(mesh[list(LANDMARKS_MM), :2], list(LANDMARKS_MM.values())).pose
