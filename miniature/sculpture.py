"""A human head as an implicit surface: the clay from which the FLAME stand-in is cut.

Every shape is a signed distance (metres, negative inside) in the frame of the head: origin between
the ears, x to the subject's left, y up, z towards the nose. The head is symmetric, so all parts
take `|x|` and describe the subject's left half. Nothing here was measured on a face: the numbers
are common anatomical proportions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

EYE_CENTRE = np.array([0.0315, 0.0185, 0.0560])
EYE_RADIUS = 0.0122
LID_RADIUS = 0.0141
MOUTH_Y = -0.0535
MOUTH_HALF_WIDTH = 0.0255


@dataclass(frozen=True)
class Ellipsoid:
    """One lump of clay; `tilt` turns it about the x axis (top towards the nose), in radians."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    blend: float
    tilt: float = 0.0

    def distance(self, points: Array) -> Array:
        """Give a signed distance to the surface, first order near it: (N, 3) -> (N,)."""
        local = points - np.array(self.centre)
        if self.tilt:
            cos, sin = np.cos(self.tilt), np.sin(self.tilt)
            y, z = local[:, 1], local[:, 2]
            local = np.stack([local[:, 0], cos * y + sin * z, cos * z - sin * y], axis=1)
        radii = np.array(self.radii)
        near = np.linalg.norm(local / radii, axis=1)
        slope = np.linalg.norm(local / radii**2, axis=1)
        return near * (near - 1.0) / np.maximum(slope, 1e-9)


@dataclass(frozen=True)
class Bone:
    """A capsule between two points whose radius changes along its length."""

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radii: tuple[float, float]
    blend: float

    def distance(self, points: Array) -> Array:
        """Give a signed distance to the surface: (N, 3) -> (N,)."""
        start, axis = np.array(self.start), np.array(self.end) - np.array(self.start)
        along = np.clip((points - start) @ axis / (axis @ axis), 0.0, 1.0)
        radius = self.radii[0] + (self.radii[1] - self.radii[0]) * along
        return np.linalg.norm(points - start - along[:, None] * axis, axis=1) - radius


ADDED = (
    # skull
    Ellipsoid((0.0, 0.046, -0.024), (0.0745, 0.088, 0.096), 0.010),
    Ellipsoid((0.0, 0.052, 0.012), (0.0640, 0.066, 0.070), 0.030),
    # face: upper, middle, lower
    Ellipsoid((0.0, 0.006, 0.010), (0.0655, 0.075, 0.066), 0.025),
    Ellipsoid((0.0, -0.042, 0.014), (0.0520, 0.060, 0.060), 0.025),
    # jaw line, chin, muzzle
    Bone((0.0530, -0.036, -0.008), (0.0490, -0.060, 0.006), (0.0110, 0.0105), 0.030),
    Bone((0.0490, -0.060, 0.006), (0.0160, -0.0900, 0.060), (0.0105, 0.0130), 0.024),
    Ellipsoid((0.0, -0.0880, 0.0680), (0.0200, 0.0160, 0.0160), 0.016),
    Ellipsoid((0.0, -0.0500, 0.0530), (0.0350, 0.0290, 0.0340), 0.018),
    # cheekbone and its arch to the ear, cheek
    Bone((0.0440, -0.007, 0.050), (0.0640, 0.004, 0.005), (0.0135, 0.0080), 0.018),
    Ellipsoid((0.0330, -0.024, 0.050), (0.0240, 0.030, 0.0220), 0.026),
    # brow ridge
    Bone((0.0090, 0.0375, 0.0735), (0.0360, 0.0420, 0.0640), (0.0085, 0.0080), 0.012),
    Bone((0.0360, 0.0420, 0.0640), (0.0530, 0.0280, 0.0450), (0.0080, 0.0080), 0.012),
    # neck with its flare to the shoulders, the two cords, the larynx
    Bone((0.0, -0.040, -0.030), (0.0, -0.180, -0.036), (0.0510, 0.0540), 0.020),
    Ellipsoid((0.0, -0.236, -0.042), (0.1260, 0.070, 0.1020), 0.045),
    Bone((0.0540, -0.030, -0.034), (0.0150, -0.172, 0.014), (0.0110, 0.0090), 0.022),
    Ellipsoid((0.0, -0.1320, 0.0180), (0.0090, 0.0140, 0.0080), 0.012),
    # ear: a wedge that stands off towards the back
    Ellipsoid((0.0735, 0.006, -0.018), (0.0075, 0.030, 0.0160), 0.012, 0.18),
)
NOSE = (
    Bone((0.0, 0.0240, 0.0790), (0.0, -0.0150, 0.0995), (0.0066, 0.0090), 0.010),
    Ellipsoid((0.0, -0.0140, 0.0850), (0.0130, 0.0170, 0.0160), 0.010),
    Ellipsoid((0.0, -0.0190, 0.1000), (0.0105, 0.0090, 0.0098), 0.008),
    Ellipsoid((0.0116, -0.0215, 0.0885), (0.0066, 0.0070, 0.0095), 0.006),
    Bone((0.0, -0.0245, 0.0975), (0.0, -0.0320, 0.0850), (0.0048, 0.0056), 0.005),
)
LIPS = (
    Bone((0.0035, -0.0485, 0.0885), (0.0140, -0.0500, 0.0850), (0.0050, 0.0044), 0.003),
    Bone((0.0140, -0.0500, 0.0850), (0.0250, -0.0530, 0.0775), (0.0044, 0.0028), 0.003),
    Bone((0.0, -0.0594, 0.0865), (0.0130, -0.0580, 0.0840), (0.0062, 0.0054), 0.003),
    Bone((0.0130, -0.0580, 0.0840), (0.0245, -0.0540, 0.0775), (0.0054, 0.0028), 0.003),
)
EAR_RIM = (
    Bone((0.0790, -0.018, -0.012), (0.0830, 0.012, -0.0320), (0.0038, 0.0046), 0.004),
    Bone((0.0830, 0.012, -0.0320), (0.0820, 0.034, -0.0230), (0.0046, 0.0044), 0.004),
    Bone((0.0820, 0.034, -0.0230), (0.0760, 0.030, -0.0060), (0.0044, 0.0036), 0.004),
    Bone((0.0760, 0.030, -0.0060), (0.0730, 0.012, -0.0030), (0.0036, 0.0030), 0.004),
    Ellipsoid((0.0760, -0.0210, -0.0090), (0.0050, 0.0080, 0.0065), 0.004),
)
CARVED = (
    # eye socket, hollow between cheek and nose, temple
    Ellipsoid((0.0320, 0.0210, 0.0800), (0.0200, 0.0130, 0.0150), 0.012),
    Ellipsoid((0.0160, 0.0170, 0.0800), (0.0070, 0.0110, 0.0100), 0.008),
    Ellipsoid((0.0900, 0.0350, 0.0350), (0.0200, 0.0260, 0.0260), 0.020),
    # fold between lower lip and chin, groove under the nose
    Ellipsoid((0.0, -0.0730, 0.0930), (0.0180, 0.0040, 0.0085), 0.008),
    Ellipsoid((0.0, -0.0400, 0.0935), (0.0026, 0.0070, 0.0060), 0.004),
)
HOLLOWS = (
    # nostril, bowl of the ear, groove inside the rim of the ear
    Ellipsoid((0.0072, -0.0310, 0.0920), (0.0034, 0.0044, 0.0060), 0.002),
    Ellipsoid((0.0865, 0.0010, -0.0140), (0.0110, 0.0125, 0.0085), 0.004),
    Ellipsoid((0.0870, 0.0215, -0.0190), (0.0065, 0.0085, 0.0075), 0.004),
)


def _add(field: Array, part: Array, blend: float) -> Array:
    """Join two solids with a fillet of size `blend`."""
    overlap = np.maximum(blend - np.abs(field - part), 0.0) / blend
    return np.minimum(field, part) - 0.25 * blend * overlap**2


def _carve(field: Array, part: Array, blend: float) -> Array:
    """Take the second solid out of the first with a rounded edge of size `blend`."""
    return -_add(-field, part, blend)


def _lids(points: Array, field: Array) -> Array:
    """Add the lids: a ball a little larger than the eyeball."""
    ball = np.linalg.norm(points - EYE_CENTRE, axis=1) - LID_RADIUS
    return _add(field, ball, 0.005)


def head_distance(points: Array) -> Array:
    """Give a signed distance to the skin of the head, lids and lips closed: (N, 3) m -> (N,) m."""
    points = np.concatenate([np.abs(points[:, :1]), points[:, 1:]], axis=1)
    field = ADDED[0].distance(points)
    for part in ADDED[1:]:
        field = _add(field, part.distance(points), part.blend)
    for part in CARVED:
        field = _carve(field, part.distance(points), part.blend)
    field = _lids(points, field)
    for part in NOSE + LIPS + EAR_RIM:
        field = _add(field, part.distance(points), part.blend)
    for part in HOLLOWS:
        field = _carve(field, part.distance(points), part.blend)
    return field


def march(origins: Array, directions: Array, *, steps: int = 60) -> Array:
    """Walk along rays from inside the head to the first point of its skin.

    Args:
        origins: (N, 3) points inside the head, metres.
        directions: (N, 3) unit vectors.
        steps: number of steps of sphere tracing.

    Returns:
        (N, 3) points on the skin, metres.
    """
    travelled = np.zeros(len(origins))
    active = np.arange(len(origins))
    for _ in range(steps):
        distance = head_distance(origins[active] + travelled[active, None] * directions[active])
        travelled[active] -= 0.85 * distance
        active = active[np.abs(distance) > 2e-6]
        if not len(active):
            break
    return origins + travelled[:, None] * directions
