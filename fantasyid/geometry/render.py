"""Pictures of a head: a z-buffer in plain torch, and a clay shading."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize

from .normals import vertex_normals
from .rotations import rotation_matrix

Rasterizer = Callable[[Tensor, Tensor, int, int], tuple[Tensor, Tensor, Tensor]]

DEPTH_STEPS = 2**30 - 1
TRIANGLE_BITS = 32
CANDIDATES_AT_ONCE = 1_000_000
SMALLEST_AREA_PX = 1e-12

OVERSAMPLING = 2
FILL = 0.9
VIEWS_RAD = (0.0, math.radians(40.0), math.radians(80.0))
CLAY = (0.63, 0.69, 0.77)
BACKGROUND = (0.93, 0.93, 0.94)
KEY_LIGHT = (-0.45, 0.55, 0.75)
SKY_LIGHT = (0.0, 1.0, 0.2)
AMBIENT, KEY_STRENGTH, SKY_STRENGTH, RIM_STRENGTH = 0.36, 0.68, 0.14, 0.16


def rasterize(
    vertices_px: Tensor, triangles: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the nearest triangle at the center of every pixel.

    Args:
        vertices_px: `(V, 3)`: x to the right and y down in pixels, the first pixel's center being
            (0.5, 0.5); larger z is farther away.
        triangles: `(T, 3)`, visible from both sides.

    Returns:
        triangle_id `(H, W)` int64, -1 where there is none; barycentrics `(H, W, 3)`, zero where
        there is none; depth `(H, W)`, infinite where there is none. Depth is compared in 2^30
        steps between nearest and farthest vertex; of equal ones the first triangle is seen.

    Raises:
        ValueError: A shape does not fit or a coordinate is not finite.
    """
    if vertices_px.ndim != 2 or vertices_px.shape[1] != 3 or triangles.shape[1:] != (3,):
        raise ValueError(
            f"rasterize: expected (V, 3) vertices and (T, 3) triangles, got "
            f"{tuple(vertices_px.shape)} and {tuple(triangles.shape)}"
        )
    if not torch.isfinite(vertices_px).all():
        raise ValueError("rasterize: some vertices are not finite numbers")
    # Float64 and 64-bit minima are not to be had on every accelerator.
    points = vertices_px.detach().to("cpu", torch.float64)
    corners = points[triangles.cpu()]  # (T, 3, 3)
    nearest = _nearest_triangles(corners, height, width)  # (H * W,)
    pixel = torch.nonzero(nearest >= 0).squeeze(1)
    seen = nearest[pixel]
    barycentrics = points.new_zeros(height * width, 3)
    barycentrics[pixel] = _barycentrics(corners[seen], _centers(pixel, width))
    depth = points.new_full((height * width,), math.inf)
    depth[pixel] = (barycentrics[pixel] * corners[seen, :, 2]).sum(1)
    return (
        nearest.view(height, width).to(vertices_px.device),
        barycentrics.view(height, width, 3).to(vertices_px),
        depth.view(height, width).to(vertices_px),
    )


def _nearest_triangles(corners: Tensor, height: int, width: int) -> Tensor:
    """The triangle seen in each of `H * W` pixels, or -1.

    Each triangle's bounding box is unrolled into candidate pixels; the minimum of a key that
    holds depth above triangle number is the same in whatever order candidates come.
    """
    size = torch.tensor([width, height], dtype=torch.float64)
    low = (corners[..., :2].amin(1) - 0.5).ceil().clamp(min=0).minimum(size).long()
    high = (corners[..., :2].amax(1) - 0.5).floor().minimum(size - 1).clamp(min=-1).long()
    extent = (high - low + 1).clamp(min=0)  # (T, 2)
    extent = extent * (_signed_area(corners).abs() > SMALLEST_AREA_PX)[:, None]
    count = extent.prod(1)
    depths = corners[..., 2]
    near = float(depths.min()) if len(corners) else 0.0
    span = max(float(depths.max()) - near, 1e-12) if len(corners) else 1.0
    none = torch.iinfo(torch.int64).max
    best = torch.full((height * width,), none, dtype=torch.int64)
    for triangle in _chunks(count):
        repeats = count[triangle]
        owner = triangle.repeat_interleave(repeats)
        within = torch.arange(len(owner)) - (repeats.cumsum(0) - repeats).repeat_interleave(repeats)
        column = low[owner, 0] + within % extent[owner, 0]
        row = low[owner, 1] + within // extent[owner, 0]
        pixel = row * width + column
        weights = _barycentrics(corners[owner], _centers(pixel, width))
        inside = (weights >= 0).all(1)
        owner, pixel, weights = owner[inside], pixel[inside], weights[inside]
        depth = (weights * depths[owner]).sum(1)
        step = ((depth - near) / span * DEPTH_STEPS).round().clamp(0, DEPTH_STEPS).long()
        best.scatter_reduce_(0, pixel, (step << TRIANGLE_BITS) | owner, "amin")
    return torch.where(best == none, -1, best & (2**TRIANGLE_BITS - 1))


def _chunks(count: Tensor) -> list[Tensor]:
    """Triangles with candidates, in runs of about `CANDIDATES_AT_ONCE` candidates."""
    busy = torch.nonzero(count).squeeze(1)
    run = (count[busy].cumsum(0) - count[busy]) // CANDIDATES_AT_ONCE
    _, lengths = torch.unique_consecutive(run, return_counts=True)
    return list(busy.split(lengths.tolist())) if len(busy) else []


def _centers(pixel: Tensor, width: int) -> Tensor:
    return torch.stack([pixel % width, pixel // width], dim=1).double() + 0.5


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _signed_area(corners: Tensor) -> Tensor:
    a, b, c = corners[..., :2].unbind(1)
    return _cross(b - a, c - a)


def _barycentrics(corners: Tensor, points: Tensor) -> Tensor:
    """`(N, 3)` weights of the corners of `(N, 3, 3)` triangles at `(N, 2)` points."""
    a, b, c = (corner - points for corner in corners[..., :2].unbind(1))
    area = _signed_area(corners)
    first, second = _cross(b, c) / area, _cross(c, a) / area
    return torch.stack([first, second, 1 - first - second], dim=1)


def project(
    vertices_head_m: Tensor, size: int, yaw_rad: float, framing: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Turn a head and lay it into a picture.

    Args:
        vertices_head_m: `(V, 3)`: x to the head's left, y up, z forward.
        size: Edge of the picture in pixels.
        yaw_rad: Turns the head towards the picture's right.
        framing: `(N, 3)` points that fill the picture instead of the vertices, so that two heads
            can be shown at one scale.

    Returns:
        `(V, 3)` turned meters around the center, and `(V, 3)` pixels with the depth in z, as
        `rasterize` takes them. The camera is orthographic.
    """
    vertices = vertices_head_m.detach().float()
    framed = vertices if framing is None else framing.detach().to(vertices)
    center = (framed.amax(0) + framed.amin(0)) / 2
    turn = rotation_matrix(torch.tensor([0.0, float(yaw_rad), 0.0])).to(vertices)
    radius = torch.linalg.vector_norm((framed - center)[:, [0, 2]], dim=1).amax()
    reach = torch.maximum(radius, (framed - center)[:, 1].abs().amax()).clamp(min=1e-9)
    turned = (vertices - center) @ turn.T  # (V, 3)
    flip = turned.new_tensor([1.0, -1.0, -1.0])
    shift = turned.new_tensor([size / 2, size / 2, 0.0])
    return turned, turned * flip * (FILL * size / 2 / reach) + shift


def render_normals(
    vertices_head_m: Tensor,
    triangles: Tensor,
    size: int,
    yaw_rad: float = 0.0,
    *,
    colors: Tensor | None = None,
    framing: Tensor | None = None,
    draw: Rasterizer = rasterize,
) -> Tensor:
    """A head as clay, lit from the upper left, on a light ground.

    Args:
        vertices_head_m: `(V, 3)`: x to the head's left, y up, z forward.
        triangles: `(T, 3)`.
        size: Edge of the picture in pixels.
        yaw_rad: Turns the head towards the picture's right before it is drawn.
        colors: `(V, 3)` in [0, 1]; gray-blue without.
        framing: See `project`.
        draw: What finds the triangle in each pixel; see `backends`.

    Returns:
        `(size, size, 3)` in [0, 1]. The head fills the picture at whatever angle with the same
        scale.
    """
    pixels = size * OVERSAMPLING
    turned, on_screen = project(vertices_head_m, pixels, yaw_rad, framing)
    triangle_id, barycentrics, _ = draw(on_screen, triangles, pixels, pixels)
    hit = triangle_id >= 0
    seen = triangles[triangle_id[hit]]  # (N, 3)
    weights = barycentrics[hit][..., None]  # (N, 3, 1)
    normals = (vertex_normals(turned, triangles)[seen] * weights).sum(1)
    # Inside the open neck a triangle is seen from behind: light it as its visible side.
    behind = _signed_area(turned[seen]) < 0
    normals = normalize(torch.where(behind[:, None], -normals, normals), dim=1)
    skin = turned.new_tensor(CLAY) if colors is None else (colors.to(turned)[seen] * weights).sum(1)
    picture = turned.new_tensor(BACKGROUND).repeat(pixels, pixels, 1)
    picture[hit] = _shaded(normals, skin)
    return avg_pool2d(picture.permute(2, 0, 1), OVERSAMPLING).permute(1, 2, 0).clamp(0, 1)


def _shaded(normals: Tensor, skin: Tensor) -> Tensor:
    """`(N, 3)` unit normals seen along -z, in skin colors: key light, sky, and a bright rim."""
    key, sky = (normalize(normals.new_tensor(light), dim=0) for light in (KEY_LIGHT, SKY_LIGHT))
    wrapped = ((normals @ key + 0.25) / 1.25).clamp(min=0)
    from_above = (normals @ sky).clamp(min=0)
    rim = (1 - normals[:, 2].clamp(min=0)) ** 3
    light = AMBIENT + KEY_STRENGTH * wrapped + SKY_STRENGTH * from_above
    return (light[:, None] * skin + RIM_STRENGTH * rim[:, None]).clamp(0, 1)


def render_views(
    vertices_head_m: Tensor, triangles: Tensor, size: int, draw: Rasterizer = rasterize
) -> Tensor:
    """The head from the front, turned by 40 and by 80 degrees: `(3, size, size, 3)` in [0, 1]."""
    return torch.stack(
        [render_normals(vertices_head_m, triangles, size, yaw, draw=draw) for yaw in VIEWS_RAD]
    )
