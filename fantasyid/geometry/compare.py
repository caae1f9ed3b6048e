"""Two heads side by side, with maps of what moved."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .edit import MM
from .head_frame import head_frame
from .render import BACKGROUND, CLAY, project, rasterize, render_normals

ANGLES_RAD = (0.0, math.radians(50.0))
WARM = ((0.98, 0.83, 0.25), (0.86, 0.16, 0.13))
FORWARD, BACKWARD = (0.86, 0.16, 0.13), (0.16, 0.32, 0.86)
UNMOVED = (1.0, 1.0, 1.0)
INK = (40, 40, 48)
# Below this nothing is colored, so that rounding does not look like an edit.
SMALLEST_MM = 0.05
TITLE_SHARE = 0.085
DOT_SHARE = 0.008
# A vertex is seen if it lies no farther behind the picture's surface than this part of the head.
HIDDEN_SHARE = 0.01


def compare_heads(
    before: Tensor, after: Tensor, triangles: Tensor, coarse_index: Tensor | None, size: int
) -> Tensor:
    """A picture of a head before and after, and of the movement between them.

    Args:
        before: `(5023, 3)` meters.
        after: `(5023, 3)` meters.
        triangles: `(T, 3)`.
        coarse_index: `(314,)` the vertices whose depth the network reads; without them the last
            column is left out.
        size: Edge of each of the pictures in pixels.

    Returns:
        `(1, H, W, 3)` in [0, 1]. Rows: front and three quarters, seen from before the first head
        whatever its pose. Columns: before, after, length of the movement, change of the depth that
        the network reads (in model space, where the pose counts).
    """
    frame, triangles = head_frame(before), triangles.cpu()
    first, second = (
        ((head.detach().cpu().double() - frame.origin) @ frame.axes.T).float()
        for head in (before, after)
    )
    movement_mm = (after.cpu().double() - before.cpu().double()) * MM
    moved_mm = torch.linalg.vector_norm(movement_mm, dim=1)

    def views(head: Tensor, colors: Tensor | None = None) -> list[Tensor]:
        return [
            render_normals(head, triangles, size, yaw, colors=colors, framing=first)
            for yaw in ANGLES_RAD
        ]

    columns = {
        "before": views(first),
        "after": views(second),
        f"moved: 0 to {moved_mm.amax():.2f} mm": views(second, heat_colors(moved_mm)),
    }
    if coarse_index is not None:
        index = coarse_index.cpu()
        depth_mm = movement_mm[index, 2]
        dots = []
        for yaw, clay in zip(ANGLES_RAD, columns["after"], strict=True):
            _, on_screen = project(second, size, yaw, first)
            _, _, surface = rasterize(on_screen, triangles, size, size)
            dots.append(_dotted(clay, on_screen[index], surface, depth_mm))
        columns[f"depth read: ±{depth_mm.abs().amax():.2f} mm"] = dots
    titled = [torch.cat([_title(title, size), *pictures]) for title, pictures in columns.items()]
    return torch.cat(titled, dim=1)[None]


def heat_colors(moved_mm: Tensor) -> Tensor:
    """`(V,)` millimeters to `(V, 3)`: clay where nothing moved, over yellow to red at the most."""
    share = (moved_mm / moved_mm.amax().clamp(min=SMALLEST_MM)).clamp(0, 1)[:, None].float()
    clay, yellow, red = (torch.tensor(color) for color in (CLAY, *WARM))
    low = clay + (share * 2).clamp(max=1) * (yellow - clay)
    return low + (share * 2 - 1).clamp(min=0) * (red - yellow)


def _dotted(clay: Tensor, points_px: Tensor, surface: Tensor, depth_mm: Tensor) -> Tensor:
    """A dot on every point that nothing hides, red where it came forward, blue where back.

    Args:
        clay: `(S, S, 3)` the picture below the dots.
        points_px: `(N, 3)` pixels, larger z farther away.
        surface: `(S, S)` the depth that is seen.
        depth_mm: `(N,)` how far each point moved forward.
    """
    size = len(clay)
    share = depth_mm / depth_mm.abs().amax().clamp(min=SMALLEST_MM)
    column, row = (points_px[:, axis].long().clamp(0, size - 1) for axis in (0, 1))
    visible = points_px[:, 2] < surface[row, column] + HIDDEN_SHARE * size
    picture = Image.fromarray((clay.numpy() * 255).round().astype(np.uint8))
    pencil, radius = ImageDraw.Draw(picture), max(1.5, size * DOT_SHARE)
    for (x, y, _), part in zip(points_px[visible].tolist(), share[visible].tolist(), strict=True):
        end = FORWARD if part > 0 else BACKWARD
        color = [u + abs(part) * (e - u) for u, e in zip(UNMOVED, end, strict=True)]
        fill = tuple(round(255 * c) for c in color)
        pencil.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill, outline=INK)
    return torch.from_numpy(np.array(picture)).float() / 255


def _title(text: str, size: int) -> Tensor:
    """`(H, size, 3)`: a line of text on the pictures' ground."""
    height = max(round(size * TITLE_SHARE), 12)
    ground = tuple(round(255 * c) for c in BACKGROUND)
    picture = Image.new("RGB", (size, height), ground)
    font = ImageFont.load_default(height * 0.62)
    ImageDraw.Draw(picture).text((size / 2, height / 2), text, INK, font, anchor="mm")
    return torch.from_numpy(np.array(picture)).float() / 255
