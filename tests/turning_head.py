"""Heads of known pose: the stand-in head of the tiny models, and a portrait that turns."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fantasyid.face.pose import FIVE_POINTS_MM, FaceFit, fit_face, rotation_from_pose
from fantasyid.geometry.normals import vertex_normals
from fantasyid.geometry.render import rasterize
from fantasyid.views.frames import SMALL_SIDE_PX, ClipFrame
from fantasyid.views.track import surface_mm
from miniature.head import build_head
from miniature.sculpture import EYE_CENTRE, EYE_RADIUS

ASTRONAUT_POINTS = np.array([[204, 108], [248, 107], [228, 132], [209, 155], [244, 154]], float)
GROUND = 200.0


@cache
def stand_in_head() -> tuple[Tensor, Tensor, Tensor, NDArray[np.float64]]:
    """Vertices `(V, 3)` in mm from between the eyes, triangles, a skin pattern `(V,)`, and the
    five facial points `(5, 3)` in mm, measured on this head and not on the generic face.
    """
    head = build_head()
    rng, pattern = np.random.default_rng(0), np.zeros(len(head.vertices))
    for _ in range(40):
        wave = rng.normal(size=3) * 250
        pattern += np.sin(head.vertices @ wave + rng.uniform(0, 2 * np.pi))
    skin = head.vertices[:3931]
    around_nose = np.abs(skin[:, 1] + 0.022) < 0.03
    nose = skin[np.argmax(np.where(around_nose, skin[:, 2], -1))]
    lips = head.vertices[np.abs(head.mouth) < 1]
    mouth = lips[np.argmax(lips[:, 0])]
    eye = EYE_CENTRE + np.array([0, 0, EYE_RADIUS])
    mirror = np.array([-1, 1, 1])
    points = np.stack([eye * mirror, eye, nose, mouth * mirror, mouth])
    centre = (points[0] + points[1]) / 2
    vertices = torch.from_numpy((head.vertices - centre) * 1000).float()
    gray = torch.from_numpy(pattern / pattern.std()).float()
    return vertices, torch.from_numpy(head.triangles), gray, (points - centre) * 1000


def place(
    points_mm: NDArray, pose: tuple[float, float, float], size: int, px_per_mm: float, shift: float
) -> NDArray[np.float64]:
    """Where points of the stand-in head lie in `render_head`, pixel centres at whole numbers."""
    turned = points_mm @ rotation_from_pose(*pose).T * px_per_mm
    return turned[:, :2] * [1, -1] + [size / 2 + shift - 0.5, size * 0.42 - 0.5]


def render_head(
    pose: tuple[float, float, float], size: int = 360, px_per_mm: float = 1.0, shift: float = 0.0
) -> NDArray[np.float32]:
    """The stand-in head, gray `(size, size)` in 0 to 255, without perspective."""
    vertices, triangles, pattern, _ = stand_in_head()
    turned = vertices @ torch.from_numpy(rotation_from_pose(*pose)).float().T * px_per_mm
    origin = turned.new_tensor([size / 2 + shift, size * 0.42, 0])
    screen = turned * turned.new_tensor([1, -1, -1]) + origin
    triangle, weights, _ = rasterize(screen, triangles, size, size)
    hit = triangle >= 0
    normals = vertex_normals(turned, triangles)
    light = 110 + 60 * (normals @ normals.new_tensor([-0.2, 0.3, 0.6])) + 12 * pattern
    picture = torch.full((size, size), GROUND)
    picture[hit] = (light[triangles[triangle[hit]]] * weights[hit]).sum(1)
    return picture.clamp(0, 255).numpy()


class Portrait:
    """A photo's face on the generic face's surface, which can be turned."""

    def __init__(self, photo: Tensor, points_px: NDArray, step_mm: float = 3.0) -> None:
        self.photo = photo
        x, y = np.meshgrid(np.arange(-66, 67, step_mm), np.arange(-105, 70, step_mm))
        rows, columns = x.shape
        z = surface_mm(x.ravel(), y.ravel())
        self.surface = np.stack([x.ravel(), y.ravel(), z], axis=1)
        first = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
        corners = [first, first + 1, first + columns, first + columns + 1]
        a, b, c, d = corners
        self.triangles = torch.from_numpy(
            np.concatenate([np.stack([a, b, c], 1), np.stack([b, d, c], 1)])
        )
        flat = fit_face(points_px, FIVE_POINTS_MM, start=np.eye(3))
        flat = FaceFit(np.eye(3), flat.scale, flat.shift_px)
        self.places = torch.from_numpy(flat.project(self.surface)).float()  # (N, 2) of the photo

    def render(
        self,
        pose: tuple[float, float, float],
        height: int,
        width: int,
        px_per_mm: float,
        centre: tuple[float, float],
    ) -> Tensor:
        """The turned face on a soft ground, `(height, width, 3)` in [0, 1]."""
        fit = FaceFit(rotation_from_pose(*pose), px_per_mm, np.array(centre))
        flat = fit.project(self.surface) + 0.5
        depth = -(self.surface @ fit.rotation.T)[:, 2:] * px_per_mm
        screen = torch.from_numpy(np.concatenate([flat, depth], 1)).float()
        triangle, weights, _ = rasterize(screen, self.triangles, height, width)
        hit = triangle >= 0
        source = (self.places[self.triangles[triangle[hit]]] * weights[hit][..., None]).sum(1)
        size = source.new_tensor([self.photo.shape[1], self.photo.shape[0]])
        grid = ((2 * source + 1) / size - 1)[None, None]
        planes = self.photo.permute(2, 0, 1)[None]
        colors = torch.nn.functional.grid_sample(planes, grid, align_corners=False)
        picture = torch.full((height, width, 3), 0.75)
        picture += torch.linspace(-0.1, 0.1, width)[None, :, None]
        picture[hit] = colors[0, :, 0].T
        return picture.clamp(0, 1)


def as_frame(number: int, picture: Tensor) -> ClipFrame:
    """A frame of a clip from `(H, W, 3)`."""
    height, width = picture.shape[:2]
    scale = min(1.0, SMALL_SIDE_PX / max(height, width))
    size = (round(height * scale), round(width * scale))
    planes = picture.permute(2, 0, 1)[None]
    small = torch.nn.functional.interpolate(planes, size, mode="bilinear", antialias=True)
    small = small[0].permute(1, 2, 0)
    gray = (small.mean(-1) * 255).numpy()
    return ClipFrame(number, number / 25, gray, scale, lambda: picture, lambda: small)


def turning(count: int) -> Iterator[tuple[float, float, float]]:
    """Poses of a head that looks around, starting with a look into the camera."""
    for i in range(count):
        t = 2 * np.pi * i / max(count, 1)
        yield 35 * np.sin(t), 15 * np.sin(2 * t), 8 * np.sin(3 * t)
