"""Positions of CogVideoX 1.0 as the released pipeline computes them: rotary, or sine-cosine.

Source: docs/released-model.md, section 5 (the rule of diffusers since 0.32). The grid of any
size is resized and center-cropped into the 30x45 grid of 480x720, the size of the training.
Where a learned table was made for another number of frames, the sine-cosine table replaces it.
"""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from torch import Tensor

BASE_GRID = (30, 45)
MAX_LATENT_FRAMES = 13  # 49 frames: 4 k + 1 frames become k + 1 latent frames
THETA = 10000.0
SPATIAL_SCALE = 1.875  # rows and columns are counted in units of this many patches


def crop_region(grid_height: int, grid_width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Where a grid lands in the base grid when resized to fit: `((top, left), (bottom, right))`."""
    base_height, base_width = BASE_GRID
    if grid_height / grid_width > base_height / base_width:
        height, width = base_height, round(base_height / grid_height * grid_width)
    else:
        height, width = round(base_width / grid_width * grid_height), base_width
    top, left = round((base_height - height) / 2), round((base_width - width) / 2)
    return (top, left), (top + height, left + width)


def _axis_positions(start: int, stop: int, count: int) -> Tensor:
    return torch.linspace(start, stop * (count - 1) / count, count, dtype=torch.float32)


def _axis_angles(dim: int, positions: Tensor) -> Tensor:
    exponents = torch.arange(0, dim, 2, dtype=torch.float32)[: dim // 2] / dim
    return torch.outer(positions, 1.0 / THETA**exponents)  # (n, dim / 2)


def rotary_table(
    num_frames: int, grid_height: int, grid_width: int, head_dim: int
) -> tuple[Tensor, Tensor]:
    """Cosines and sines of all video tokens, frames outermost, then rows, then columns.

    Args:
        num_frames: Latent frames.
        grid_height: Rows of 2x2 latent patches (pixels / 16).
        grid_width: Columns of 2x2 latent patches (pixels / 16).
        head_dim: Width of one attention head; a quarter encodes time, 3/8 rows, 3/8 columns.

    Returns:
        Two `(num_frames * grid_height * grid_width, head_dim)` float32 CPU tensors; each
        frequency stands twice, side by side.
    """
    (top, left), (bottom, right) = crop_region(grid_height, grid_width)
    angles = (
        _axis_angles(head_dim // 4, torch.arange(num_frames, dtype=torch.float32)),
        _axis_angles(head_dim // 8 * 3, _axis_positions(top, bottom, grid_height)),
        _axis_angles(head_dim // 8 * 3, _axis_positions(left, right, grid_width)),
    )
    sizes = {"t": num_frames, "h": grid_height, "w": grid_width}
    frames, rows, columns = (
        repeat(angle, f"{axis} d -> t h w (d two)", two=2, **sizes)
        for axis, angle in zip("thw", angles, strict=True)
    )
    table = rearrange(torch.cat([frames, rows, columns], dim=-1), "t h w d -> (t h w) d")
    return table.cos(), table.sin()


def _axis_table(dim: int, positions: Tensor) -> Tensor:
    frequencies = 1.0 / THETA ** (torch.arange(dim // 2, dtype=torch.float64) / (dim / 2))
    angles = torch.outer(positions, frequencies)
    return torch.cat([angles.sin(), angles.cos()], dim=1)  # (n, dim)


def sincos_table(num_frames: int, grid_height: int, grid_width: int, dim: int) -> Tensor:
    """Positions of all video tokens, frames outermost, then rows, then columns.

    Args:
        num_frames: Latent frames.
        grid_height: Rows of 2x2 latent patches.
        grid_width: Columns of 2x2 latent patches.
        dim: Width of the hidden states, a multiple of 16: a quarter encodes time, then 3/8 the
            column, then 3/8 the row.

    Returns:
        `(num_frames * grid_height * grid_width, dim)` float32.
    """
    sizes = {"t": num_frames, "h": grid_height, "w": grid_width}
    counts = [torch.arange(n, dtype=torch.float64) for n in sizes.values()]
    frames = _axis_table(dim // 4, counts[0])
    rows = _axis_table(dim * 3 // 8, counts[1] / SPATIAL_SCALE)
    columns = _axis_table(dim * 3 // 8, counts[2] / SPATIAL_SCALE)
    axes = zip("twh", (frames, columns, rows), strict=True)
    parts = [repeat(table, f"{axis} d -> t h w d", **sizes) for axis, table in axes]
    return rearrange(torch.cat(parts, dim=-1), "t h w d -> (t h w) d").float()
