"""ResConv1D: the residual 1-d convolutions that turn 5023 vertex descriptors into 79 tokens.

Source: paper section 3.4; docs/released-model.md, section 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import mish

from ..shapes import ShapeReader

NUM_GROUPS = 8


@dataclass(frozen=True)
class ReducerConfig:
    """Sizes of the reducer."""

    widths: tuple[int, ...]  # channels before the first block and after each block
    kernels: tuple[int, ...]  # kernel size per block; a block strides by one less and pads by half

    @classmethod
    def from_shapes(cls, read: ShapeReader) -> ReducerConfig:
        """Read the sizes from the shapes of `{n}.conv_in.weight`.

        Raises:
            ValueError: A block is missing or does not continue the one before.
        """
        widths = [read.axes("0.conv_in.weight", None, None, None)[1]]
        kernels = []
        for block in range(read.count("{}.conv_in.weight")):
            width, _, kernel = read.axes(f"{block}.conv_in.weight", None, widths[-1], None)
            read.multiple(f"{read.prefix}{block}.conv_in", width, NUM_GROUPS)
            widths.append(width)
            kernels.append(kernel)
        return cls(tuple(widths), tuple(kernels))


class ResidualConv(nn.Module):
    """Two convolutions, the first of which shortens the sequence, beside a third one.

    No activation follows the sum.
    """

    def __init__(
        self,
        in_width: int,
        out_width: int,
        kernel: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        operations: ModuleType | Any = nn,
    ) -> None:
        super().__init__()
        made = {"device": device, "dtype": dtype}
        shorten = {"kernel_size": kernel, "stride": kernel - 1, "padding": kernel // 2}
        self.conv_in = operations.Conv1d(in_width, out_width, **shorten, **made)
        self.norm_in = operations.GroupNorm(NUM_GROUPS, out_width, **made)
        self.conv_out = operations.Conv1d(out_width, out_width, kernel_size=3, padding=1, **made)
        self.norm_out = operations.GroupNorm(NUM_GROUPS, out_width, **made)
        self.residual = operations.Conv1d(in_width, out_width, **shorten, **made)

    def forward(self, sequence: Tensor) -> Tensor:
        """`(B, C_in, N)` to `(B, C_out, N')`."""
        hidden = mish(self.norm_in(self.conv_in(sequence)))  # (B, C_out, N')
        return mish(self.norm_out(self.conv_out(hidden))) + self.residual(sequence)


class VertexReducer(nn.ModuleList):
    """The blocks of the reducer, in order."""

    def __init__(
        self,
        config: ReducerConfig,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        operations: ModuleType | Any = nn,
    ) -> None:
        super().__init__(
            ResidualConv(
                in_width, out_width, kernel, device=device, dtype=dtype, operations=operations
            )
            for in_width, out_width, kernel in zip(
                config.widths[:-1], config.widths[1:], config.kernels, strict=True
            )
        )

    def forward(self, descriptors: Tensor) -> Tensor:
        """Shorten and widen the descriptors.

        Args:
            descriptors: `(B, 5023, C)` in vertex order: neighbors in the sequence are neighbors
                in the vertex numbering, not on the mesh.

        Returns:
            `(B, 79, C')`.
        """
        sequence = rearrange(descriptors, "b v c -> b c v")
        for block in self:
            sequence = block(sequence)
        return rearrange(sequence, "b c k -> b k c")
