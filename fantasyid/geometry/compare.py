"""Two heads side by side, with maps of what moved."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .edit import MM
from .head_frame import head_frame
from .render import BACKGROUND, CLAY, Rasterizer, project, rasterize, render_normals

ANGLES_RAD = (0.0, math.radians(50.0))
WARM = ((0.98, 0.83, 0.25), (0.86, 0.16, 0.13))
FORWARD, BACKWARD = (0.86, 0.16, 0.13), (0.16, 0.32, 0.86)
UNMOVED = (1.0, 1.0, 1.0)
INK = (40, 40, 48)
# Below this nothing is coloured, so that rounding does not look like an edit.
SMALLEST_MM = 0.05
TITLE_SHARE = 0.085
DOT_SHARE = 0.008
# A vertex is seen if it lies no farther behind the picture's surface than this part of the head.
HIDDEN_SHARE = 0.01


@dataclass(frozen=True, eq=False)
class _Scene:
    """Both heads turned so that the first looks ahead, and how far each vertex moved."""

    before: Tensor
    after: Tensor
    triangles: Tensor
    moved_mm: Tensor
    draw: Rasterizer


def compare_heads(
    before: Tensor,
    after: Tensor,
    triangles: Tensor,
    coarse_index: Tensor | None,
    size: int,
    draw: Rasterizer = rasterize,
) -> Tensor:
    """A picture of a head before and after, and of the movement between them.

    Args:
        before: `(5023, 3)` metres.
        after: `(5023, 3)` metres.
        triangles: `(T, 3)`.
        coarse_index: `(314,)` the vertices whose depth the network reads; without them the last
            column is left out.
        size: Edge of each of the pictures in pixels.
        draw: What finds the triangle in each pixel.

    Returns:
        `(1, H, W, 3)` in [0, 1]. Rows: front and three quarters, seen from before the first head
        whatever its pose. Columns: before, after, length of the movement, change of the depth that
        the network reads (in model space, where the pose counts).
    """
    frame = head_frame(before)
    scene = _Scene(
        _ahead(before, frame.origin, frame.axes),
        _ahead(after, frame.origin, frame.axes),
        triangles.cpu(),
        torch.linalg.vector_norm(after.cpu().double() - before.cpu().double(), dim=1) * MM,
        draw,
    )
    longest = float(scene.moved_mm.amax())
    titles = ["before", "after", f"moved: 0 to {longest:.2f} mm"]
    columns = [_column(scene, size, "before"), _column(scene, size, "after")]
    columns.append(_column(scene, size, "moved"))
    if coarse_index is not None:
        depth_mm = (after.cpu().double() - before.cpu().double())[coarse_index.cpu(), 2] * MM
        columns.append(_dots(scene, size, coarse_index.cpu(), depth_mm))
        deepest = float(depth_mm.abs().amax())
        titles.append(f"depth read: ±{deepest:.2f} mm")
    picture = torch.cat([_title(title, size) for title in titles], dim=1)
    picture = torch.cat([picture, torch.cat(columns, dim=1)], dim=0)
    return picture[None]


def _ahead(vertices: Tensor, origin: Tensor, axes: Tensor) -> Tensor:
    return ((vertices.detach().cpu().double() - origin) @ axes.T).float()


def heat_colors(moved_mm: Tensor) -> Tensor:
    """`(V,)` millimetres to `(V, 3)`: clay where nothing moved, over yellow to red at the most."""
    share = (moved_mm / moved_mm.amax().clamp(min=SMALLEST_MM)).clamp(0, 1)[:, None].float()
    clay, yellow, red = (torch.tensor(color) for color in (CLAY, *WARM))
    low = clay + (share * 2).clamp(max=1) * (yellow - clay)
    return low + (share * 2 - 1).clamp(min=0) * (red - yellow)


def _column(scene: _Scene, size: int, what: str) -> Tensor:
    """`(2 * size, size, 3)`: one of the pictures from all angles."""
    vertices = scene.before if what == "before" else scene.after
    colors = heat_colors(scene.moved_mm) if what == "moved" else None
    views = [
        render_normals(
            vertices, scene.triangles, size, yaw,
            colors=colors, framing=scene.before, draw=scene.draw,
        )
        for yaw in ANGLES_RAD
    ]  # fmt: skip
    return torch.cat(views, dim=0)


def _dots(scene: _Scene, size: int, index: Tensor, depth_mm: Tensor) -> Tensor:
    """`(2 * size, size, 3)`: a dot on every visible vertex that the network reads."""
    share = depth_mm / depth_mm.abs().amax().clamp(min=SMALLEST_MM)
    views = []
    for yaw in ANGLES_RAD:
        clay = render_normals(
            scene.after, scene.triangles, size, yaw, framing=scene.before, draw=scene.draw
        )
        _, on_screen = project(scene.after, size, yaw, scene.before)
        visible = _visible(on_screen, index, scene.triangles, size, scene.draw)
        picture = Image.fromarray((clay.numpy() * 255).round().astype(np.uint8))
        pencil, radius = ImageDraw.Draw(picture), max(1.5, size * DOT_SHARE)
        for vertex, part in zip(index[visible].tolist(), share[visible].tolist(), strict=True):
            x, y = on_screen[vertex, :2].tolist()
            end = FORWARD if part > 0 else BACKWARD
            color = [u + abs(part) * (e - u) for u, e in zip(UNMOVED, end, strict=True)]
            pencil.ellipse(
                (x - radius, y - radius, x + radius, y + radius),
                fill=tuple(round(255 * c) for c in color),
                outline=INK,
            )
        views.append(torch.from_numpy(np.array(picture)).float() / 255)
    return torch.cat(views, dim=0)


def _visible(
    on_screen: Tensor, index: Tensor, triangles: Tensor, size: int, draw: Rasterizer
) -> Tensor:
    """`(N,)` whether nothing hides a vertex."""
    _, _, depth = draw(on_screen, triangles, size, size)
    points = on_screen[index]
    column, row = (points[:, axis].long().clamp(0, size - 1) for axis in (0, 1))
    return points[:, 2] < depth[row, column] + HIDDEN_SHARE * size


def _title(text: str, size: int) -> Tensor:
    """`(H, size, 3)`: a line of text on the pictures' ground."""
    height = max(round(size * TITLE_SHARE), 12)
    ground = tuple(round(255 * c) for c in BACKGROUND)
    picture = Image.new("RGB", (size, height), ground)
    font = ImageFont.load_default(height * 0.62)
    ImageDraw.Draw(picture).text((size / 2, height / 2), text, INK, font, anchor="mm")
    return torch.from_numpy(np.array(picture)).float() / 255
