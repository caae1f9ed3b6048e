"""The sine-cosine position table of CogVideoX, for checkpoints with learned positions.

Source: released-model facts, section 5: where the number of frames differs from the one that the
learned table was made for, the reference uses this table in its place.
"""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from torch import Tensor

SPATIAL_SCALE = 1.875  # rows and columns are counted in units of this many patches
THETA = 10000.0


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
