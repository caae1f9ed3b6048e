"""The fusion transformer: face tokens and head vertices become vertex tokens.

Source: paper section 3.4 for the transformer, 3.3 for spirals and depth; docs/released-model.md,
section 1, for their order: the paper has the spirals before the fusion, the release after it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import elu, gelu

from ..attention import attend
from ..geometry.spiral import gather_spirals
from ..geometry.topology import MeshTables, pool_vertices
from ..key_map import KeyMap
from ..shapes import ShapeReader, Shapes
from .reducer import ReducerConfig, VertexReducer

_BLOCK = "vertex_spiral_net.transformer.layers.{i}"
_UPSAMPLER = "vertex_spiral_net.vtx_upsampler.de_layers"
_REDUCER = "vertex_reducer.conv_block{i+1}"
FUSION_KEYS = KeyMap(
    [
        ("vertex_spiral_net.vtx_query", "vertex_queries"),
        ("vertex_spiral_net.hw_down.*", "face_projection.*"),
        (f"{_BLOCK}.0.norm.*", "blocks.{i}.norm1.*"),
        (f"{_BLOCK}.0.fn.to_qkv.*", "blocks.{i}.to_qkv.*"),
        (f"{_BLOCK}.0.fn.to_out.0.*", "blocks.{i}.to_out.*"),
        (f"{_BLOCK}.1.norm.*", "blocks.{i}.norm2.*"),
        (f"{_BLOCK}.1.fn.net.0.*", "blocks.{i}.fc1.*"),
        (f"{_BLOCK}.1.fn.net.3.*", "blocks.{i}.fc2.*"),
        (f"{_UPSAMPLER}.0.conv.layer.*", "upsample.0.*"),
        (f"{_UPSAMPLER}.1.conv.layer.*", "upsample.1.*"),
        (f"{_UPSAMPLER}.2.layer.*", "upsample.2.*"),
        ("vertex_spiral_net.vtx_descriptor_head.0.*", "descriptor.*"),
        (f"{_REDUCER}.conv_in.conv1d.*", "reducer.{i}.conv_in.*"),
        (f"{_REDUCER}.conv_out.conv1d.*", "reducer.{i}.conv_out.*"),
        (f"{_REDUCER}.conv_in.group_norm.*", "reducer.{i}.norm_in.*"),
        (f"{_REDUCER}.conv_out.group_norm.*", "reducer.{i}.norm_out.*"),
        (f"{_REDUCER}.residual_conv.*", "reducer.{i}.residual.*"),
    ]
)

HEAD_DIM = 32
NUM_UPSAMPLE_LAYERS = 3


@dataclass(frozen=True)
class FusionConfig:
    """Sizes of the fusion transformer and what surrounds it."""

    dim: int  # width of the vertex queries and of the transformer
    num_heads: int  # attention heads of 32 channels
    mlp_dim: int  # inner width of the transformer's MLPs
    num_layers: int  # transformer blocks
    num_queries: int  # vertices that enter (314)
    spiral_length: int  # vertices that a spiral convolution gathers (9)
    face_widths: tuple[int, ...]  # width of the face tokens before and after every projection
    reducer: ReducerConfig  # sizes of the reducer; its first width is `dim`

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> FusionConfig:
        """Read every size from the shapes of a state dict with this module's names.

        Raises:
            ValueError: A tensor is missing, or its shape contradicts another one's.
        """
        read = ShapeReader(shapes, "fusion")
        _, num_queries, dim = read.axes("vertex_queries", 1, None, None)
        rows = read.size("blocks.0.to_qkv.weight", None, dim)
        face_widths = [read.axes("face_projection.0.fc1.weight", None, None)[1]]
        for i in range(read.count("face_projection.{}.fc1.weight")):
            width = face_widths[-1]
            read.axes(f"face_projection.{i}.fc1.weight", width, width)
            face_widths.append(read.size(f"face_projection.{i}.fc2.weight", None, width))
        reducer = ReducerConfig.from_shapes(read.below("reducer."))
        for name, width in (("face_projection", face_widths[-1]), ("reducer", reducer.widths[0])):
            if width != dim:
                raise read.error(f"{name} has width {width}, but vertex_queries has width {dim}")
        gathered = read.size("upsample.0.weight", dim, None)
        return cls(
            dim=dim,
            num_heads=read.multiple("blocks.0.to_qkv", rows, 3 * HEAD_DIM),
            mlp_dim=read.size("blocks.0.fc1.weight", None, dim),
            num_layers=read.count("blocks.{}.to_qkv.weight"),
            num_queries=num_queries,
            spiral_length=read.multiple("upsample.0", gathered, dim),
            face_widths=tuple(face_widths),
            reducer=reducer,
        )


def depth_embedding(depth_m: Tensor, dim: int) -> Tensor:
    """Sines and cosines of a vertex's depth, at wavelengths that grow geometrically.

    Args:
        depth_m: `(B, V)` z coordinates in metres, in the head's frame.
        dim: Even number of channels.

    Returns:
        `(B, V, dim)` float32 in [-1, 1]; sine and cosine of a frequency lie side by side.

    Source: docs/released-model.md, section 1; angle = 2 pi (z / 2 + 1/2), frequencies
    10000^(-2k/dim).
    """
    if dim % 2:
        raise ValueError(f"depth_embedding: expected an even number of channels, got {dim}")
    angle_rad = 2 * math.pi * (0.5 * depth_m.float() + 0.5)
    exponent = 2 * torch.arange(dim // 2, dtype=torch.float32, device=depth_m.device) / dim
    waves = angle_rad[..., None] / 10000.0**exponent  # (B, V, dim / 2)
    return rearrange([waves.sin(), waves.cos()], "pair b v k -> b v (k pair)")


class Mlp(nn.Module):
    """Linear, exact GELU, Linear."""

    def __init__(
        self, dim: int, hidden: int, out: int, *, operations: ModuleType | Any = nn, **made: Any
    ) -> None:
        super().__init__()
        self.fc1 = operations.Linear(dim, hidden, **made)
        self.fc2 = operations.Linear(hidden, out, **made)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """`(B, N, C)` to `(B, N, C')`."""
        return self.fc2(gelu(self.fc1(hidden_states)))


class FusionBlock(nn.Module):
    """A pre-norm transformer block."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_dim: int,
        *,
        operations: ModuleType | Any = nn,
        **made: Any,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        inner = num_heads * HEAD_DIM
        self.norm1 = operations.LayerNorm(dim, eps=1e-5, **made)
        self.to_qkv = operations.Linear(dim, 3 * inner, bias=False, **made)
        self.to_out = operations.Linear(inner, dim, **made)
        self.norm2 = operations.LayerNorm(dim, eps=1e-5, **made)
        self.fc1 = operations.Linear(dim, mlp_dim, **made)
        self.fc2 = operations.Linear(mlp_dim, dim, **made)

    def forward(self, tokens: Tensor) -> Tensor:
        """`(B, N, C)` to `(B, N, C)`."""
        query, key, value = self.to_qkv(self.norm1(tokens)).chunk(3, dim=-1)
        tokens = tokens + self.to_out(attend(query, key, value, self.num_heads))
        return tokens + self.fc2(gelu(self.fc1(self.norm2(tokens))))


class VertexFusion(nn.Module):
    """Vertex tokens from face tokens and head vertices.

    The depth of 314 vertices becomes as many queries; a transformer mixes them with the face
    tokens; spiral convolutions carry the result to all 5023 vertices; the reducer makes tokens.

    Released behavior: of the vertices only the depth of these 314 enters, uncentered and in
    metres, so head pose changes the tokens more than head shape does.
    """

    def __init__(
        self,
        config: FusionConfig,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        operations: ModuleType | Any = nn,
    ) -> None:
        super().__init__()
        self.config = config
        dim, widths = config.dim, config.face_widths
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.vertex_queries = nn.Parameter(torch.empty(1, config.num_queries, dim, **made))
        made["operations"] = operations
        self.face_projection = nn.ModuleList(
            Mlp(before, before, after, **made) for before, after in pairwise(widths)
        )
        self.blocks = nn.ModuleList(
            FusionBlock(dim, config.num_heads, config.mlp_dim, **made)
            for _ in range(config.num_layers)
        )
        self.upsample = nn.ModuleList(
            operations.Linear(config.spiral_length * dim, dim, device=device, dtype=dtype)
            for _ in range(NUM_UPSAMPLE_LAYERS)
        )
        self.descriptor = operations.Linear(dim, dim, device=device, dtype=dtype)
        self.reducer = VertexReducer(config.reducer, **made)
        if operations is nn:  # the host's layers skip initialization: a file is read into them
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Small random queries; the depth embedding beside them has channels of length 1."""
        nn.init.trunc_normal_(self.vertex_queries, std=0.02)

    def forward(self, face_tokens: Tensor, vertices: Tensor, tables: MeshTables) -> Tensor:
        """Make the vertex tokens.

        Args:
            face_tokens: `(B, 36, C)`; everything but the depth embedding runs in their dtype.
            vertices: `(B, 5023, 3)` in metres, in FLAME order and in the head's frame.
            tables: Mesh tables on the device of the vertices.

        Returns:
            `(B, 79, C)` in the dtype of `face_tokens`.
        """
        return self.reducer(self.describe(face_tokens, vertices, tables))

    def describe(self, face_tokens: Tensor, vertices: Tensor, tables: MeshTables) -> Tensor:
        """Descriptors of all vertices, `(B, 5023, dim)`: `forward` without the reducer.

        Args and dtype as in `forward`. The released run has this part in float32 and the reducer
        in the file's dtype; a caller gets that by calling the two one after the other.
        """
        self._check(face_tokens, vertices, tables)
        queries = self.queries(vertices, tables).to(face_tokens)  # (B, 314, dim)
        tokens = self.mix(queries, self.project_face(face_tokens))  # (B, 314 + 36, dim)
        coarse = tokens[:, : self.config.num_queries]  # (B, 314, dim)
        return self.descriptor(self.upsample_stages(coarse, tables)[-1])  # (B, 5023, dim)

    def queries(self, vertices: Tensor, tables: MeshTables) -> Tensor:
        """`(B, 5023, 3)` vertices in metres to `(B, 314, dim)` float32 queries."""
        depth_m = vertices[:, tables.coarse_index, 2]  # (B, 314)
        return self.vertex_queries.to(depth_m.device, torch.float32) + depth_embedding(
            depth_m, self.config.dim
        )

    def project_face(self, face_tokens: Tensor) -> Tensor:
        """`(B, 36, C)` face tokens to `(B, 36, dim)`."""
        for projection in self.face_projection:
            face_tokens = projection(face_tokens)
        return face_tokens

    def mix(self, queries: Tensor, face: Tensor) -> Tensor:
        """The transformer over `(B, 314, dim)` queries and `(B, 36, dim)` face tokens."""
        tokens = torch.cat([queries, face], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens

    def upsample_stages(self, coarse: Tensor, tables: MeshTables) -> tuple[Tensor, Tensor, Tensor]:
        """Features on 1256 vertices, on 5023, and on 5023 after the last spiral convolution."""
        first, second, last = self.upsample
        middle = gather_spirals(pool_vertices(coarse, tables.pools[0]), tables.spirals[0])
        middle = elu(first(middle))  # (B, 1256, dim)
        fine = gather_spirals(pool_vertices(middle, tables.pools[1]), tables.spirals[1])
        fine = elu(second(fine))  # (B, 5023, dim)
        return middle, fine, last(gather_spirals(fine, tables.spirals[1]))

    def _check(self, face_tokens: Tensor, vertices: Tensor, tables: MeshTables) -> None:
        batch = face_tokens.shape[0]
        read = ShapeReader(
            {
                "face_tokens": face_tokens.shape,
                "vertices": vertices.shape,
                "coarse_index": tables.coarse_index.shape,
            },
            "VertexFusion",
        )
        read.axes("face_tokens", batch, None, self.config.face_widths[0])
        read.axes("vertices", batch, tables.num_vertices, 3)
        read.axes("coarse_index", self.config.num_queries)
