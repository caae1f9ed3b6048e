"""The sliders of a head: each one a smooth field of movement over the face.

Every field is a smooth function of the place on the head, told in the head's own frame and in
distances between the eyes, so it fits any FLAME head in any pose and can have no seam. Around each
eye a field is held constant: eyeball and lids move together, and the ball as one piece.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from .head_frame import LEFT_EYE, RIGHT_EYE, SKIN, HeadFrame

# The socket: constant up to the inner distance from the eye's center, free beyond the outer one.
SOCKET_INNER, SOCKET_OUTER = 0.27, 0.65
SURFACE_PATCH = 0.12
TINY = 1e-12

Field = Callable[[Tensor], Tensor]


def slider_movement(name: str, frame: HeadFrame, vertices: Tensor) -> Tensor:
    """What a slider at 1 does to a head.

    Args:
        name: One of `SLIDERS_MM`.
        vertices: `(5023, 3)` meters in model space.

    Returns:
        `(5023, 3)` float64 movement in meters in the head's frame (left, up, forward); its longest
        row is `SLIDERS_MM[name]` millimeters.

    Raises:
        ValueError: The name is unknown.
    """
    if name not in SLIDERS_MM:
        raise ValueError(f"there is no slider {name!r}, expected one of {', '.join(SLIDERS_MM)}")
    points = frame.points_in_head(vertices)  # (5023, 3)
    field = _SLIDERS[name][1](frame, points[SKIN])
    movement = _with_sockets(field, points)
    longest = torch.linalg.vector_norm(movement, dim=1).amax().clamp(min=TINY)
    return movement * (SLIDERS_MM[name] / 1000.0 / longest)


def _with_sockets(field: Field, points: Tensor) -> Tensor:
    """The field on every vertex, held constant around each eye."""
    free = field(points)
    movement = free.clone()
    for eye in (LEFT_EYE, RIGHT_EYE):
        center = points[eye].mean(0)
        distance = torch.linalg.vector_norm(points - center, dim=1)
        held = 1 - smooth_step(distance, SOCKET_INNER, SOCKET_OUTER)[:, None]  # (V, 1)
        movement += held * (field(center[None]) - free)
    for eye in (LEFT_EYE, RIGHT_EYE):
        movement[eye] = field(points[eye].mean(0)[None])
    return movement


def smooth_step(value: Tensor, start: float, end: float) -> Tensor:
    """From 0 at `start` to 1 at `end` with two continuous derivatives."""
    t = ((value - start) / (end - start)).clamp(0, 1)
    return t * t * t * (t * (6 * t - 15) + 10)


def _bump(points: Tensor, center: Tensor, size: tuple[float, float, float]) -> Tensor:
    """A soft ellipsoid, 1 at its center: `(V,)`."""
    return torch.exp(-(((points - center) / points.new_tensor(size)) ** 2).sum(1) / 2)


def _pair(points: Tensor, center: Tensor, size: tuple[float, float, float]) -> Tensor:
    """The same bump on both sides of the face: `(V,)`."""
    mirrored = center * center.new_tensor([-1.0, 1.0, 1.0])
    return _bump(points, center, size) + _bump(points, mirrored, size)


def _surface(skin: Tensor, across: float, height: float) -> Tensor:
    """The foremost place of the face so far to a side and so high, the two sides' mean."""
    folded = torch.stack([skin[:, 0].abs(), skin[:, 1]], dim=1)
    distance = torch.linalg.vector_norm(folded - skin.new_tensor([across, height]), dim=1)
    front = skin[:, 2] > -0.6
    patch = front & (distance < max(SURFACE_PATCH, float(distance[front].min()) + TINY))
    return skin.new_tensor([across, height, float(skin[patch, 2].mean())])


def _forward(weight: Callable[[Tensor], Tensor]) -> Field:
    """Movement along the head's forward axis by a weight."""
    return lambda points: weight(points)[:, None] * points.new_tensor([0.0, 0.0, 1.0])


def _sideways(skin: Tensor, height: Callable[[Tensor], Tensor], back: tuple[float, float]) -> Field:
    """Movement away from the middle, growing with the distance from it.

    Args:
        skin: For the width of the face.
        height: Weight of a height.
        back: Depths between which the movement fades towards the back of the head.
    """
    face = skin[(skin[:, 2] > -1.0) & (skin[:, 1] > -1.0) & (skin[:, 1] < 0.3)]
    half_width = float(face[:, 0].abs().amax()) if len(face) else 1.0

    def field(points: Tensor) -> Tensor:
        outward = torch.tanh(1.5 * points[:, 0] / half_width)
        weight = height(points[:, 1]) * smooth_step(points[:, 2], *back)
        return (outward * weight)[:, None] * points.new_tensor([1.0, 0.0, 0.0])

    return field


def _nose(frame: HeadFrame, _skin: Tensor) -> Field:
    center = frame.nose_tip * frame.nose_tip.new_tensor([0.0, 0.85, 1.0])
    return _forward(lambda p: _bump(p, center, (0.21, 0.27, 0.40)))


def _brow(_frame: HeadFrame, skin: Tensor) -> Field:
    center = _surface(skin, 0.40, 0.36)
    return _forward(lambda p: _pair(p, center, (0.34, 0.20, 0.45)))


def _cheek(frame: HeadFrame, skin: Tensor) -> Field:
    center = _surface(skin, 0.72, float(frame.nose_tip[1]) * 0.95)
    return _forward(lambda p: _pair(p, center, (0.27, 0.32, 0.45)))


def _chin(frame: HeadFrame, _skin: Tensor) -> Field:
    center = frame.chin * frame.chin.new_tensor([0.0, 1.0, 1.0])
    return _forward(lambda p: _bump(p, center, (0.36, 0.33, 0.50)))


def _width(frame: HeadFrame, skin: Tensor) -> Field:
    low = float(frame.chin[1])

    def height(y: Tensor) -> Tensor:
        return smooth_step(y, low - 0.8, low + 0.6) * (1 - 0.6 * smooth_step(y, 0.2, 1.6))

    return _sideways(skin, height, (-2.6, -0.6))


def _jaw(frame: HeadFrame, skin: Tensor) -> Field:
    middle = 0.74 * float(frame.chin[1])
    return _sideways(skin, lambda y: -torch.exp(-(((y - middle) / 0.42) ** 2) / 2), (-1.9, -0.5))


# Name -> what a slider at 1 moves the vertex that it moves most, in millimeters; and its field.
_SLIDERS: Mapping[str, tuple[float, Callable[[HeadFrame, Tensor], Field]]] = {
    "face_width": (6.0, _width),
    "jaw_sharpness": (6.0, _jaw),
    "chin_depth": (6.0, _chin),
    "cheek_depth": (5.0, _cheek),
    "nose_depth": (6.0, _nose),
    "brow_depth": (4.0, _brow),
}
SLIDERS_MM: Mapping[str, float] = {name: most for name, (most, _) in _SLIDERS.items()}
