"""Where a head's own left, up and forward are, found from the shape of the head itself.

No template is needed: the two eyeballs, whose vertices are known by their numbers, give the axis
from side to side and the middle; the nose, which stands out wherever the head looks, gives forward.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..identity import FLAME_VERTICES

# The order of vertices in FLAME's topology; the left eye is the person's own left one.
NUM_SKIN = 3931
NUM_EYE = 546
SKIN = slice(0, NUM_SKIN)
LEFT_EYE = slice(NUM_SKIN, NUM_SKIN + NUM_EYE)
RIGHT_EYE = slice(NUM_SKIN + NUM_EYE, FLAME_VERTICES)

# Seen from between the eyes the tip of the nose lies about this far below straight ahead.
NOSE_BELOW_AHEAD_RAD = math.radians(33.0)
# Lengths are told in distances between the eyes.
MIDDLE_SLAB = 0.12
NOSE_DISTANCE = (0.7, 1.25)
NOSE_SIZE = 0.35
CHIN_LOW, CHIN_HIGH, CHIN_BELOW_AHEAD_RAD = -2.4, -1.15, math.radians(37.0)


@dataclass(frozen=True, eq=False)
class HeadFrame:
    """A head's own axes and the landmarks that everything else is measured from."""

    origin: Tensor  # `(3,)` the point between the eyes' centers, float64 meters in model space
    axes: Tensor  # `(3, 3)` float64; the rows are the head's left, up and forward in model space
    eye_distance_m: float  # between the eyes' centers
    nose_tip: Tensor  # `(3,)` in this frame, in eye distances
    chin: Tensor  # `(3,)` in this frame, in eye distances: the front lower edge of the chin

    def points_in_head(self, vertices: Tensor) -> Tensor:
        """`(V, 3)` meters in model space to this frame, in eye distances, float64."""
        return (vertices.double() - self.origin) @ self.axes.T / self.eye_distance_m

    def directions_in_model(self, directions: Tensor) -> Tensor:
        """`(V, 3)` directions of this frame in model space, of the same length."""
        return directions @ self.axes

    @property
    def angle_from_ahead_rad(self) -> float:
        """The angle between the head's forward and model space's +z."""
        return math.acos(max(-1.0, min(1.0, float(self.axes[2, 2]))))


def head_frame(vertices: Tensor) -> HeadFrame:
    """Find the axes of a head in whatever pose.

    Args:
        vertices: `(5023, 3)` meters in FLAME's order.

    Raises:
        ValueError: The shape is another one, values are not finite, or there is no room between
            the eyes.
    """
    if tuple(vertices.shape) != (FLAME_VERTICES, 3):
        raise ValueError(
            f"head_frame: vertices of the shape {tuple(vertices.shape)}, expected "
            f"({FLAME_VERTICES}, 3)"
        )
    points = vertices.detach().cpu().double()
    left, right = points[LEFT_EYE].mean(0), points[RIGHT_EYE].mean(0)
    apart = float(torch.linalg.vector_norm(left - right))
    if not math.isfinite(apart) or apart < 1e-3:
        raise ValueError(
            "head_frame: the eyeballs lie in one place: these are not the vertices of a FLAME head "
            "in their original order"
        )
    origin, side = (left + right) / 2, (left - right) / apart
    skin = (points[SKIN] - origin) / apart
    middle = skin[(skin @ side).abs() < MIDDLE_SLAB]
    nose = _nose_tip(skin, middle)
    ahead = _turned_about(side, _unit_across(nose, side), -NOSE_BELOW_AHEAD_RAD)
    near = middle[torch.linalg.vector_norm(middle, dim=1) < NOSE_DISTANCE[1]]
    nose = near[(near @ ahead).argmax()]
    ahead = _turned_about(side, _unit_across(nose, side), -NOSE_BELOW_AHEAD_RAD)
    axes = torch.stack([side, torch.linalg.cross(ahead, side), ahead])
    return HeadFrame(origin, axes, apart, axes @ nose, _chin(middle @ axes.T, axes @ nose))


def _nose_tip(skin: Tensor, middle: Tensor) -> Tensor:
    """The most pointed place of the middle at the nose's distance from the eyes.

    Pointed means: the skin around it lies far to one side of it. That holds in every pose.
    """
    nearest, farthest = NOSE_DISTANCE
    distance = torch.linalg.vector_norm(middle, dim=1)
    candidates = middle[(distance > nearest) & (distance < farthest)]
    if not len(candidates):
        raise ValueError("head_frame: no skin where a nose is: this is not a FLAME head")
    around = torch.cdist(candidates, skin) < NOSE_SIZE  # (N, V)
    mean = (around.double() @ skin) / around.sum(1, keepdim=True)
    return candidates[torch.linalg.vector_norm(candidates - mean, dim=1).argmax()]


def _chin(middle: Tensor, nose_tip: Tensor) -> Tensor:
    """The point of the middle that stands out most towards the front below the mouth."""
    low = middle[(middle[:, 1] > CHIN_LOW) & (middle[:, 1] < CHIN_HIGH)]
    if not len(low):
        return nose_tip + nose_tip.new_tensor([0.0, -1.1, -0.3])
    outward = low[:, 2] * math.cos(CHIN_BELOW_AHEAD_RAD) - low[:, 1] * math.sin(
        CHIN_BELOW_AHEAD_RAD
    )
    return low[outward.argmax()]


def _unit_across(direction: Tensor, side: Tensor) -> Tensor:
    """The part of a direction at right angles to `side`, of length one."""
    across = direction - (direction @ side) * side
    return across / torch.linalg.vector_norm(across).clamp(min=1e-12)


def _turned_about(side: Tensor, direction: Tensor, angle_rad: float) -> Tensor:
    """A unit vector at right angles to `side`, turned about it; positive turns up to forward."""
    return direction * math.cos(angle_rad) + torch.linalg.cross(side, direction) * math.sin(
        angle_rad
    )


def rigid_fit(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The rotation and shift that lay one head onto another of the same topology.

    Args:
        source: `(V, 3)`.
        target: `(V, 3)`.

    Returns:
        `(3, 3)` rotation and `(3,)` shift, float64, so that `source @ rotation.T + shift` is
        nearest to `target` in the sense of least squares. Never a reflection.

    Source: Kabsch, "A solution for the best rotation to relate two sets of vectors" (1976).
    """
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 3:
        shapes = f"{tuple(source.shape)} and {tuple(target.shape)}"
        raise ValueError(f"rigid_fit: expected two tensors of one shape (V, 3), got {shapes}")
    start, end = source.detach().cpu().double(), target.detach().cpu().double()
    start_mean, end_mean = start.mean(0), end.mean(0)
    u, _, vt = torch.linalg.svd((end - end_mean).T @ (start - start_mean))
    flip = torch.ones(3, dtype=torch.float64)
    flip[2] = torch.sign(torch.linalg.det(u @ vt))
    rotation = (u * flip) @ vt
    return rotation, end_mean - rotation @ start_mean


def lay_onto(head: Tensor, target: Tensor) -> Tensor:
    """A head turned and shifted so that its skin lies on that of another: `(5023, 3)` float64."""
    turn, shift = rigid_fit(head[SKIN], target[SKIN])
    return head.detach().cpu().double() @ turn.T + shift
