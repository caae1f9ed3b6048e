"""Dense optical flow after Farnebäck, in plain torch: the same numbers with and without OpenCV.

Each neighbourhood is written as a quadratic polynomial; how its coefficients differ between two
pictures says where it went. A pyramid bridges large steps. Constants, borders and the order of
the steps are those of OpenCV's `calcOpticalFlowFarneback`, so that values compare with
published ones; a test holds them together where OpenCV is there.

Source: G. Farnebäck, "Two-Frame Motion Estimation Based on Polynomial Expansion", 2003.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, interpolate, pad

# What most papers use: `calcOpticalFlowFarneback(a, b, None, 0.5, 3, 15, 3, 5, 1.2, 0)`.
PYRAMID_SCALE, LEVELS, WINDOW, ITERATIONS = 0.5, 3, 15, 3
POLY_RADIUS, POLY_SIGMA = 5, 1.2
SETTINGS = (
    f"Farneback, pyramid {PYRAMID_SCALE}, {LEVELS} levels, window {WINDOW}, {ITERATIONS} "
    f"iterations, polynomials {POLY_RADIUS} / {POLY_SIGMA}"
)

SMALLEST_SIDE_PX = 8
# No copy of the picture becomes smaller than this.
_LEAST_LEVEL_PX = 32
# Neighbourhoods that leave the picture weigh less, from the edge inwards.
_BORDER = (0.14, 0.14, 0.4472, 0.4472, 0.4472)
_FLAT = 1e-3
# Where the five coefficients of a polynomial stand.
_Y, _X, _YY, _XX, _XY = range(5)


def dense_flow(before: Tensor, now: Tensor) -> Tensor:
    """Where every pixel of one gray picture went in the next.

    Args:
        before: `(B, H, W)` in 0 to 255, on any device.
        now: The same shape.

    Returns:
        `(B, H, W, 2)` float32: right and down in pixels. Places without texture take over what
        their surroundings do.

    Raises:
        ValueError: The shapes differ, or a side is shorter than 8 pixels.
    """
    if before.ndim != 3 or before.shape != now.shape or min(before.shape[1:]) < SMALLEST_SIDE_PX:
        raise ValueError(
            f"optical flow of pictures {tuple(before.shape)} and {tuple(now.shape)}: expected "
            f"(B, H, W) twice, at least {SMALLEST_SIDE_PX} pixels to each side"
        )
    pictures = [picture.float()[:, None] for picture in (before, now)]
    height, width = before.shape[1:]
    levels = 0
    while levels < LEVELS and min(height, width) * PYRAMID_SCALE ** (levels + 1) >= _LEAST_LEVEL_PX:
        levels += 1
    flow: Tensor | None = None
    for level in range(levels, -1, -1):
        scale = PYRAMID_SCALE**level
        size = [round(height * scale), round(width * scale)]
        first, second = (_polynomials(_reduce(p, scale, size)) for p in pictures)
        if flow is None:
            flow = first.new_zeros(len(first), 2, *size)
        else:
            flow = interpolate(flow, size, mode="bilinear", align_corners=False) / PYRAMID_SCALE
        for _ in range(ITERATIONS):
            flow = _solve(_equations(first, second, flow))
    assert flow is not None
    # OpenCV takes the last row and column for gone, and so moves a still picture a little there.
    moves = (before != now).flatten(1).any(1)
    return flow.permute(0, 2, 3, 1) * moves[:, None, None, None]


def _reduce(picture: Tensor, scale: float, size: list[int]) -> Tensor:
    """The picture `(B, 1, H, W)`, smoothed for a level of the pyramid and brought to its size."""
    sigma = (1 / scale - 1) / 2
    taps = max(3, round(sigma * 5) | 1)
    axis = torch.arange(taps, dtype=torch.float64) - taps // 2
    weights = torch.exp(-0.5 * (axis / sigma) ** 2) if sigma else 1 + (axis == 0).double()
    kernel = (weights / weights.sum())[None]
    smooth = _filter(picture, kernel, kernel[None], "reflect")
    if list(smooth.shape[2:]) == size:
        return smooth
    return interpolate(smooth, size, mode="bilinear", align_corners=False)


def _filter(picture: Tensor, down: Tensor, across: Tensor, mode: str = "replicate") -> Tensor:
    """A picture `(B, 1, H, W)` filtered by D columns of weights, then by rows of weights.

    Args:
        down: `(D, taps)` from top to bottom.
        across: `(C, D, taps)` from left to right: sums of the D.
        mode: How the picture goes on beyond its edges.

    Returns:
        `(B, C, H, W)`.
    """
    half = down.shape[1] // 2
    down, across = (weights.float().to(picture.device) for weights in (down, across))
    rows = conv2d(pad(picture, (0, 0, half, half), mode), down[:, None, :, None])
    return conv2d(pad(rows, (half, half, 0, 0), mode), across[:, :, None])


def _polynomials(picture: Tensor) -> Tensor:
    """The polynomial of every neighbourhood: `(B, 5, H, W)` coefficients of y, x, yy, xx, xy.

    Least squares under a Gaussian weight; the constant term is not needed.
    """
    axis = torch.arange(-POLY_RADIUS, POLY_RADIUS + 1, dtype=torch.float64)
    flat = torch.exp(-0.5 * (axis / POLY_SIGMA) ** 2)
    flat = flat / flat.sum()
    slope, bend = flat * axis, flat * axis**2
    second, fourth = float(bend.sum()), float((bend * axis**2).sum())
    # The normal equations of (1, xx, yy) in closed form; the other terms stand alone.
    curve = (bend - second * flat) / (fourth - second**2)
    none = torch.zeros_like(axis)
    across = [
        [none, flat / second, none],
        [slope / second, none, none],
        [-second / (fourth - second**2) * flat, none, flat / (fourth - second**2)],
        [curve, none, none],
        [none, slope / second**2, none],
    ]
    rows = torch.stack([torch.stack(row) for row in across])
    return _filter(picture, torch.stack([flat, slope, bend]), rows)


def _equations(first: Tensor, second: Tensor, flow: Tensor) -> Tensor:
    """Two linear equations for the flow of each pixel, averaged over its window.

    Args:
        first: `(B, 5, H, W)` polynomials of the picture before.
        second: Those of the next one.
        flow: `(B, 2, H, W)` what is known of the flow.

    Returns:
        `(B, 5, H, W)`: the symmetric matrix (11, 12, 22) and the right side (1, 2).
    """
    dx, dy = flow[:, 0], flow[:, 1]
    moved, inside = _displaced(second, flow)
    linear = torch.where(inside, first[:, :_YY] - moved[:, :_YY], first[:, :_YY]) / 2
    square = torch.where(inside, (first[:, _YY:] + moved[:, _YY:]) / 2, first[:, _YY:])
    trust = _edge_weights(first)
    yy, xx, xy = square[:, 0] * trust, square[:, 1] * trust, square[:, 2] / 2 * trust
    by_y = linear[:, _Y] * trust + yy * dy + xy * dx
    by_x = linear[:, _X] * trust + xy * dy + xx * dx
    terms = [
        yy * yy + xy * xy,
        (yy + xx) * xy,
        xx * xx + xy * xy,
        yy * by_y + xy * by_x,
        xy * by_y + xx * by_x,
    ]
    half = WINDOW // 2
    rows = avg_pool2d(pad(torch.stack(terms, 1), (0, 0, half, half), "replicate"), (WINDOW, 1), 1)
    return avg_pool2d(pad(rows, (half, half, 0, 0), "replicate"), (1, WINDOW), 1)


def _solve(equations: Tensor) -> Tensor:
    """The flow `(B, 2, H, W)`; near zero where the window has no texture."""
    a, b, c, down, right = equations.unbind(1)
    determinant = a * c - b * b + _FLAT
    return torch.stack([(a * right - b * down), (c * down - b * right)], 1) / determinant[:, None]


def _displaced(field: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """A field `(B, C, H, W)` where the flow leads to, bilinearly, and where that is inside."""
    count, channels, height, width = field.shape
    x = torch.arange(width, device=field.device) + flow[:, 0]
    y = torch.arange(height, device=field.device)[:, None] + flow[:, 1]
    left, top = x.floor(), y.floor()
    inside = (left >= 0) & (left < width - 1) & (top >= 0) & (top < height - 1)
    right_share, low_share = (x - left)[:, None], (y - top)[:, None]
    corner = top.clamp(0, height - 2).long() * width + left.clamp(0, width - 2).long()
    flat = field.flatten(2)

    def at(offset: int) -> Tensor:
        places = (corner + offset).flatten(1)[:, None].expand(-1, channels, -1)
        return flat.gather(2, places).view(count, channels, height, width)

    upper = at(0) * (1 - right_share) + at(1) * right_share
    lower = at(width) * (1 - right_share) + at(width + 1) * right_share
    return upper * (1 - low_share) + lower * low_share, inside[:, None]


def _edge_weights(like: Tensor) -> Tensor:
    """`(H, W)` how much each pixel of a picture is trusted."""
    sides = []
    for length in like.shape[2:]:
        side = torch.ones(length, dtype=like.dtype)
        for i, weight in enumerate(_BORDER[:length]):
            side[i] *= weight
            side[length - 1 - i] *= weight
        sides.append(side.to(like.device))
    return sides[0][:, None] * sides[1]
