"""The C-Abstractor: 576 patch features of the vision tower become 36 face tokens.

Only the live path of the released `face_abstractor` is here. 860 of its 962 entries have no
influence on the output (docs/released-model.md, section 2): the face-recognition vector, the
hidden states 0..3 and the class token are computed there and then overwritten.

Source: paper section 3.2; the convolutional abstractor of Honeybee (arXiv 2312.06742).
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, silu

from ..key_map import KeyMap
from ..shapes import ShapeReader, Shapes
from .eva_keys import GRID

TOKEN_GRID = 6  # 6 x 6 = 36 face tokens, each the mean of 4 x 4 patches

_STAGE = "face_abstractor.layers.9.0.net"
ABSTRACTOR_KEYS = KeyMap(
    [
        ("face_abstractor.mapping_4.*", "mapping.*"),
        ("face_abstractor.layers.8.0.pos_emb", "earlier_position"),
        ("face_abstractor.layers.9.0.pos_emb", "position"),
        ("face_abstractor.layers.9.0.readout.*", "readout.*"),
        ("face_abstractor.layers.9.1.*", "feed_forward.*"),
        ("face_abstractor.proj_out", "proj_out"),
        *(
            (f"{_STAGE}.{number}.b{{i+1}}.{released}", f"{stage}.{{i}}.{ours}")
            for number, stage in ((0, "patches"), (2, "tokens"))
            for released, ours in (
                ("conv{j}.conv.*", "conv{j}.conv.*"),
                ("conv{j}.bn.*", "conv{j}.norm.*"),  # named like a batch norm, but a LayerNorm
                ("se.*", "squeeze_excite.*"),
                ("downsample.conv.*", "shortcut.conv.*"),
                ("downsample.bn.*", "shortcut.norm.*"),
            )
        ),
    ]
)


@dataclass(frozen=True, slots=True)
class AbstractorConfig:
    """Sizes of the abstractor."""

    dim: int  # width of the vision tower's hidden states (released: 1024)
    hidden: int  # width of the convolutions (released: 256)
    squeeze_first: int  # inner width of the squeeze-excite of the very first block (released: 256)
    squeeze: int  # the same in all other blocks (released: 64)
    ff_dim: int  # inner width of the feed-forward (released: 4096)
    out_dim: int  # width of the face tokens (released: 2048)

    @staticmethod
    def from_shapes(shapes: Shapes) -> AbstractorConfig:
        """Read the sizes from the shapes of a state dict in this module's names.

        Raises:
            ValueError: An entry is missing or does not fit the others.
        """
        read = ShapeReader(shapes, "face abstractor")
        dim, out_dim = read.axes("proj_out", None, None)
        for table in ("earlier_position", "position"):
            read.axes(table, 1, GRID * GRID, dim)
        hidden = read.size("patches.0.conv1.conv.weight", None, dim, 1, 1)
        return AbstractorConfig(
            dim,
            hidden,
            squeeze_first=read.size("patches.0.squeeze_excite.fc1.weight", None, hidden, 1, 1),
            squeeze=read.size("patches.1.squeeze_excite.fc1.weight", None, hidden, 1, 1),
            ff_dim=read.size("feed_forward.1.weight", None, dim),
            out_dim=out_dim,
        )


class ConvNorm(nn.Module):
    """A convolution that keeps the size, then LayerNorm over the channels of each position."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        operations: ModuleType | Any,
        where: dict,
        *,
        kernel: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.conv = operations.Conv2d(
            in_dim, out_dim, kernel, padding=kernel // 2, groups=groups, bias=False, **where
        )
        self.norm = operations.LayerNorm(out_dim, eps=1e-5, **where)

    def forward(self, features: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, C', H, W)`."""
        features = rearrange(self.conv(features), "b c h w -> b h w c")
        return rearrange(self.norm(features), "b h w c -> b c h w")


class SqueezeExcite(nn.Module):
    """Every channel times a gate in (0, 1) that is read from the means of all channels."""

    def __init__(self, dim: int, inner: int, operations: ModuleType | Any, where: dict) -> None:
        super().__init__()
        self.fc1 = operations.Conv2d(dim, inner, 1, **where)
        self.fc2 = operations.Conv2d(inner, dim, 1, **where)

    def forward(self, features: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, C, H, W)`."""
        means = features.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        return features * self.fc2(silu(self.fc1(means))).sigmoid()


class Bottleneck(nn.Module):
    """A residual block: 1x1, depthwise 3x3, squeeze-excite, 1x1."""

    def __init__(
        self, in_dim: int, dim: int, squeeze: int, operations: ModuleType | Any, where: dict
    ) -> None:
        super().__init__()
        self.conv1 = ConvNorm(in_dim, dim, operations, where)
        self.conv2 = ConvNorm(dim, dim, operations, where, kernel=3, groups=dim)
        self.squeeze_excite = SqueezeExcite(dim, squeeze, operations, where)
        self.conv3 = ConvNorm(dim, dim, operations, where)
        self.shortcut = nn.Identity() if in_dim == dim else ConvNorm(in_dim, dim, operations, where)

    def forward(self, features: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, C', H, W)`."""
        inner = silu(self.conv1(features))
        inner = self.squeeze_excite(silu(self.conv2(inner)))
        return silu(self.conv3(inner) + self.shortcut(features))


class Stage(nn.Sequential):
    """Three bottlenecks, the first of which may change the width; the size stays."""

    def __init__(
        self,
        in_dim: int,
        config: AbstractorConfig,
        squeeze_first: int,
        operations: ModuleType | Any,
        where: dict,
    ) -> None:
        dim, squeeze = config.hidden, config.squeeze
        super().__init__(
            Bottleneck(in_dim, dim, squeeze_first, operations, where),
            Bottleneck(dim, dim, squeeze, operations, where),
            Bottleneck(dim, dim, squeeze, operations, where),
        )


class FaceAbstractor(nn.Module):
    """Hidden state of the vision tower to face tokens."""

    def __init__(
        self,
        config: AbstractorConfig,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        operations: ModuleType | Any = nn,
    ) -> None:
        super().__init__()
        where = {"device": device, "dtype": dtype}
        dim, hidden = config.dim, config.hidden
        self.config = config
        self.mapping = nn.Sequential(
            operations.Linear(dim, dim, **where),
            operations.LayerNorm(dim, eps=1e-5, **where),
            nn.LeakyReLU(0.01),
            operations.Linear(dim, dim, **where),
            operations.LayerNorm(dim, eps=1e-5, **where),
            nn.LeakyReLU(0.01),
            operations.Linear(dim, dim, **where),
        )
        table = (1, GRID * GRID, dim)
        self.earlier_position = nn.Parameter(torch.empty(table, **where))
        self.position = nn.Parameter(torch.empty(table, **where))
        self.patches = Stage(dim, config, config.squeeze_first, operations, where)
        self.tokens = Stage(hidden, config, config.squeeze, operations, where)
        self.readout = nn.Sequential(
            operations.Linear(hidden, dim, **where),
            nn.SiLU(),
            operations.Linear(dim, dim, **where),
        )
        self.feed_forward = nn.Sequential(
            operations.LayerNorm(dim, eps=1e-5, **where),
            operations.Linear(dim, config.ff_dim, bias=False, **where),
            nn.GELU(),
            operations.Linear(config.ff_dim, dim, bias=False, **where),
        )
        self.proj_out = nn.Parameter(torch.empty(dim, config.out_dim, **where))
        if operations is nn:  # the host's layers come without values, for those of a file
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initial values of the tables and of the last projection; layers have their own.

        Position tables as in ViT (deviation 0.02), the projection keeps the variance.
        """
        for table in (self.earlier_position, self.position):
            nn.init.normal_(table, std=0.02)
        nn.init.normal_(self.proj_out, std=self.config.dim**-0.5)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """The face tokens.

        Args:
            hidden_states: `(B, 577, C)` from `EvaVisionTransformer`, class token first.

        Returns:
            `(B, 36, out_dim)`, row by row over the crop.

        Raises:
            ValueError: Another number of tokens or another width.
        """
        expected = (GRID * GRID + 1, self.config.dim)
        if hidden_states.ndim != 3 or tuple(hidden_states.shape[1:]) != expected:
            raise ValueError(
                f"hidden states are {tuple(hidden_states.shape)}, expected (B, "
                f"{expected[0]}, {expected[1]}): the face encoder and the adapter come from "
                "different checkpoints"
            )
        # Released behavior: the class token is dropped, and so are the hidden states 0..3.
        x = self.mapping(hidden_states[:, 1:])  # (B, 576, C)
        # Released behavior: the layer before this one adds its position table in place, so that
        # two tables are added although one was meant.
        x = x + self.earlier_position.to(x) + self.position.to(x)
        x = self.patches(rearrange(x, "b (h w) c -> b c h w", h=GRID))  # (B, hidden, 24, 24)
        x = self.tokens(adaptive_avg_pool2d(x, TOKEN_GRID))  # (B, hidden, 6, 6)
        x = self.readout(rearrange(x, "b c h w -> b (h w) c"))  # (B, 36, C)
        # Released behavior: no residual around the feed-forward.
        x = self.feed_forward(x)  # (B, 36, C)
        return x @ self.proj_out.to(x)  # (B, 36, out_dim)
