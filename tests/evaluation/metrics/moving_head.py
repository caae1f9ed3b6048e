"""A head that moves by known poses in front of a textured wall, and where every pixel went."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from torch import Tensor
from turning_head import place, render_head, stand_in_head

from fantasyid.evaluation.metrics.motion import Box
from fantasyid.face.pose import rotation_from_pose
from fantasyid.geometry.render import rasterize

SIDE, PX_PER_MM = 320, 0.8
Pose = tuple[float, float, float]
STRAIGHT: Pose = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Moment:
    """Where head and camera are.

    Attributes:
        pose: Yaw, pitch, roll of the head in degrees.
        shift: Of the head to the right, pixels of the picture.
        camera: Shift of the wall to the right and down, pixels.
        zoom: Of the wall about the middle of the picture.
    """

    pose: Pose = STRAIGHT
    shift: float = 0.0
    camera: tuple[float, float] = (0.0, 0.0)
    zoom: float = 1.0


def _screen(moment: Moment) -> Tensor:
    """The head's vertices `(V, 3)` as `render_head` lays them into the picture."""
    vertices = stand_in_head()[0] @ torch.from_numpy(rotation_from_pose(*moment.pose)).float().T
    origin = vertices.new_tensor([SIDE / 2 + moment.shift, SIDE * 0.42, 0])
    return vertices * PX_PER_MM * vertices.new_tensor([1, -1, -1]) + origin


@cache
def _visible(moment: Moment) -> tuple[Tensor, Tensor]:
    triangle, weights, _ = rasterize(_screen(moment), stand_in_head()[1], SIDE, SIDE)
    return triangle, weights


@cache
def _wall() -> NDArray[np.float64]:
    noise = gaussian_filter(np.random.default_rng(1).normal(size=(2 * SIDE, 2 * SIDE)), 2.0)
    return 128 + 50 * noise / noise.std()


def scene(moment: Moment, wall: bool = True) -> NDArray[np.float32]:
    """The picture, grey `(SIDE, SIDE)` in 0 to 255; without the wall the ground is flat."""
    head = render_head(moment.pose, SIDE, PX_PER_MM, moment.shift)
    if not wall:
        return head
    y, x = np.mgrid[:SIDE, :SIDE]
    half = SIDE / 2
    places = [
        (axis - shift - half) / moment.zoom + SIDE
        for axis, shift in ((y, moment.camera[1]), (x, moment.camera[0]))
    ]
    seen = (_visible(moment)[0] >= 0).numpy()
    return np.where(seen, head, map_coordinates(_wall(), places, order=1)).astype(np.float32)


def true_flow(first: Moment, second: Moment) -> Tensor:
    """Where each pixel of the head went, `(SIDE, SIDE, 2)`: its surface point, projected twice."""
    triangle, weights = _visible(first)
    hit = triangle >= 0
    step = (_screen(second) - _screen(first))[..., :2][stand_in_head()[1][triangle[hit]]]
    flow = torch.zeros(SIDE, SIDE, 2)
    flow[hit] = (step * weights[hit][..., None]).sum(1)
    return flow


def camera_flow(moment: Moment) -> Tensor:
    """How the camera moves every pixel from `Moment()` on, `(SIDE, SIDE, 2)`."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    grown = torch.stack([x - SIDE / 2, y - SIDE / 2], -1) * (moment.zoom - 1)
    return grown + torch.tensor(moment.camera)


def face_box(moment: Moment) -> Box:
    """The face from brow to chin, `(x0, y0, x1, y1)`."""
    points = place(stand_in_head()[3], moment.pose, SIDE, PX_PER_MM, moment.shift)
    x, y = (float(v) for v in points.mean(0))
    return x - 40, y - 46, x + 40, y + 50
