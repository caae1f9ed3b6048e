"""EVA02-CLIP-L-14-336, as far as the face tokens need it.

Source: EVA-02 (arXiv 2303.11331): pre-norm blocks, SwiGLU with an inner norm, sub-LN in the
attention, rotary positions on the patch tokens. `eva_keys` says what is left out and why.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import interpolate, silu

from ..attention import attend
from .eva_keys import HEAD_DIM, IMAGE, EvaConfig

ROPE_THETA = 10000.0
ROPE_TRAINED_GRID = 16  # the tower was pretrained on 224 px; the 24 positions span the same range

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


class EvaAttention(nn.Module):
    """Self-attention with biases on query and value, none on the key, and a norm before `proj`."""

    def __init__(self, config: EvaConfig, operations: ModuleType | Any, where: dict) -> None:
        super().__init__()
        dim = config.dim
        self.num_heads = config.num_heads
        self.q_proj = operations.Linear(dim, dim, bias=False, **where)
        self.k_proj = operations.Linear(dim, dim, bias=False, **where)
        self.v_proj = operations.Linear(dim, dim, bias=False, **where)
        self.q_bias = nn.Parameter(torch.empty(dim, **where))
        self.v_bias = nn.Parameter(torch.empty(dim, **where))
        self.norm = operations.LayerNorm(dim, eps=1e-6, **where)
        self.proj = operations.Linear(dim, dim, **where)
        if operations is nn:  # the host's layers come without values, for those of a file
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """The biases of query and value begin at zero."""
        nn.init.zeros_(self.q_bias)
        nn.init.zeros_(self.v_bias)

    def forward(self, hidden_states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """`(B, N, C)` to `(B, N, C)`; `cos`, `sin` as `rotary_tables` gives them."""
        query = self.q_proj(hidden_states) + self.q_bias.to(hidden_states)
        key = self.k_proj(hidden_states)
        value = self.v_proj(hidden_states) + self.v_bias.to(hidden_states)
        query, key = (rotate(x, cos, sin, self.num_heads) for x in (query, key))
        return self.proj(self.norm(attend(query, key, value, self.num_heads)))


class EvaSwiGlu(nn.Module):
    """`down(norm(silu(gate x) * up x))`."""

    def __init__(self, config: EvaConfig, operations: ModuleType | Any, where: dict) -> None:
        super().__init__()
        self.gate = operations.Linear(config.dim, config.mlp_dim, **where)
        self.up = operations.Linear(config.dim, config.mlp_dim, **where)
        self.norm = operations.LayerNorm(config.mlp_dim, eps=1e-6, **where)
        self.down = operations.Linear(config.mlp_dim, config.dim, **where)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """`(B, N, C)` to `(B, N, C)`."""
        return self.down(self.norm(silu(self.gate(hidden_states)) * self.up(hidden_states)))


class EvaBlock(nn.Module):
    """Pre-norm attention and SwiGLU, each added to its input."""

    def __init__(self, config: EvaConfig, operations: ModuleType | Any, where: dict) -> None:
        super().__init__()
        self.norm1 = operations.LayerNorm(config.dim, eps=1e-6, **where)
        self.attn = EvaAttention(config, operations, where)
        self.norm2 = operations.LayerNorm(config.dim, eps=1e-6, **where)
        self.mlp = EvaSwiGlu(config, operations, where)

    def forward(self, hidden_states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """`(B, N, C)` to `(B, N, C)`."""
        hidden_states = hidden_states + self.attn(self.norm1(hidden_states), cos, sin)
        return hidden_states + self.mlp(self.norm2(hidden_states))


class EvaPatchEmbed(nn.Module):
    """Square patches to tokens, row by row."""

    def __init__(self, config: EvaConfig, operations: ModuleType | Any, where: dict) -> None:
        super().__init__()
        self.proj = operations.Conv2d(3, config.dim, config.patch, stride=config.patch, **where)

    def forward(self, pixels: Tensor) -> Tensor:
        """`(B, 3, H, W)` to `(B, H/patch * W/patch, C)`."""
        return rearrange(self.proj(pixels), "b c h w -> b (h w) c")


class EvaVisionTransformer(nn.Module):
    """The first five sixths of the vision tower."""

    def __init__(
        self,
        config: EvaConfig,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        operations: ModuleType | Any = nn,
    ) -> None:
        super().__init__()
        where = {"device": device, "dtype": dtype}
        self.config = config
        tokens = config.grid * config.grid + 1
        self.patch_embed = EvaPatchEmbed(config, operations, where)
        self.class_token = nn.Parameter(torch.empty(1, 1, config.dim, **where))
        self.positions = nn.Parameter(torch.empty(1, tokens, config.dim, **where))
        self.blocks = nn.ModuleList(
            EvaBlock(config, operations, where) for _ in range(config.built_depth)
        )
        if operations is nn:  # the host's layers come without values, for those of a file
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Class token and positions as in ViT: normal with deviation 0.02."""
        nn.init.normal_(self.class_token, std=0.02)
        nn.init.normal_(self.positions, std=0.02)

    def forward(self, pixels: Tensor) -> Tensor:
        """The hidden state that the abstractor reads (level 4).

        Args:
            pixels: `(B, 3, 336, 336)` from `preprocess`, in the dtype to compute in.

        Returns:
            `(B, 577, C)`, class token first, not normalised.

        Raises:
            ValueError: The picture has another size.
        """
        return self.hidden_states(pixels)[-1]

    def hidden_states(self, pixels: Tensor) -> list[Tensor]:
        """All five levels, each `(B, 577, C)`; see `forward`."""
        side = self.config.image
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != (3, side, side):
            raise ValueError(f"pixels are {tuple(pixels.shape)}, expected (B, 3, {side}, {side})")
        patches = self.patch_embed(pixels)  # (B, 576, C)
        cls = self.class_token.to(patches).expand(patches.shape[0], -1, -1)  # (B, 1, C)
        x = torch.cat([cls, patches], dim=1) + self.positions.to(patches)  # (B, 577, C)
        cos, sin = (table.to(x) for table in rotary_tables(self.config.grid))
        levels: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            x = block(x, cos, sin)  # (B, 577, C)
            if index in self.config.levels:
                levels.append(x)
        return levels


def rotary_tables(grid: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the rotary angles, class token first.

    The first half of the pairs turns with the row, the second half with the column; the class
    token stands still.

    Returns:
        Two `(1 + grid * grid, 32)` in float32: one column per channel pair of a head.
    """
    pairs = HEAD_DIM // 4
    frequencies = ROPE_THETA ** (-torch.arange(pairs, dtype=torch.float32) / pairs)
    positions = torch.arange(grid, dtype=torch.float32) * ROPE_TRAINED_GRID / grid
    angles = positions[:, None] * frequencies  # (grid, 16)
    rows = angles[:, None].expand(grid, grid, pairs)
    columns = angles[None].expand(grid, grid, pairs)
    table = torch.cat([rows, columns], dim=-1).flatten(0, 1)  # (grid * grid, 32)
    table = torch.cat([torch.zeros(1, 2 * pairs), table])
    return table.cos(), table.sin()


def rotate(tokens: Tensor, cos: Tensor, sin: Tensor, num_heads: int) -> Tensor:
    """Turn the channel pairs (0, 1), (2, 3), ... of every head.

    Args:
        tokens: `(B, N, heads * 64)`.
        cos: `(N, 32)`.
        sin: `(N, 32)`.
        num_heads: Heads that share the channels.

    Returns:
        `(B, N, heads * 64)`.
    """
    even, odd = rearrange(tokens, "b n (h d two) -> two b n h d", h=num_heads, two=2)
    cos, sin = cos[:, None], sin[:, None]  # (N, 1, 32)
    turned = torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1)
    return rearrange(turned, "b n h d two -> b n (h d two)")


def preprocess(crop: Tensor) -> Tensor:
    """The tower's input picture.

    Args:
        crop: `(B, H, W, 3)` RGB in [0, 1]; the released pipeline gives the 512 px face crop.

    Returns:
        `(B, 3, 336, 336)` float32, normalised with the mean and deviation of OpenAI's CLIP.
    """
    pixels = rearrange(crop, "b h w c -> b c h w").float()
    # Released behavior: bicubic overshoot is not clamped back to [0, 1].
    pixels = interpolate(
        pixels, size=(IMAGE, IMAGE), mode="bicubic", align_corners=False, antialias=True
    )
    mean, std = (pixels.new_tensor(v).view(1, 3, 1, 1) for v in (OPENAI_MEAN, OPENAI_STD))
    return (pixels - mean) / std
