"""Layer-aware injection: the cross-attention that each transformer block has of its own.

Source: paper section 3.5, equation 2; docs/released-model.md, section 3. After block `l` of the
diffusion transformer, `hidden_states + LayerInjector_l(hidden_states, tokens)` replaces the video
hidden states; the text hidden states are never touched. The light network F_l of the paper (a
convolution block and a norm) is one linear layer in the release, `to_out`.

Keys and values depend on the identity tokens alone. So the layer is in two halves: `KeysValues`,
which runs once per identity, and `LayerInjector`, which runs at every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..attention import attend
from ..key_map import KeyMap
from ..shapes import ShapeReader, Shapes

INJECTION_KEYS = KeyMap(
    [
        ("layer_attention.{i}.norm1.*", "injectors.{i}.norm_tokens.*"),
        ("layer_attention.{i}.norm2.*", "injectors.{i}.norm_hidden.*"),
        *(
            (f"layer_attention.{{i}}.{name}.weight", f"injectors.{{i}}.{name}.weight")
            for name in ("to_q", "to_kv", "to_out")
        ),
    ]
)

HEAD_DIM = 128


@dataclass(frozen=True, slots=True)
class InjectionConfig:
    """Sizes of all injectors of a checkpoint."""

    num_injectors: int  # how many blocks have one (released: 42, every block)
    dim: int  # width of the transformer's hidden states (released: 3072)
    context_dim: int  # width of the identity tokens (released: 2048 = 16 heads of 128)

    @property
    def num_heads(self) -> int:
        """Attention heads of one injector; the head width is 128 in every checkpoint."""
        return self.context_dim // HEAD_DIM

    @staticmethod
    def from_shapes(shapes: Shapes) -> InjectionConfig:
        """Read the sizes from the shapes of a state dict in this module's names.

        Raises:
            ValueError: A key is missing, the numbering has a gap, or the width is not a
                multiple of 128.
        """
        read = ShapeReader(shapes, "layer_attention")
        count = read.count("injectors.{}.")
        context_dim, dim = read.axes("injectors.0.to_q.weight", None, None)
        read.multiple("injectors.0.to_q", context_dim, HEAD_DIM)
        return InjectionConfig(count, dim, context_dim)


class KeysValues(nn.Module):
    """Keys and values of one injector: the half that sees the identity tokens only."""

    def __init__(
        self,
        config: InjectionConfig,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        operations: ModuleType | Any = nn,
    ) -> None:
        super().__init__()
        context_dim, where = config.context_dim, {"device": device, "dtype": dtype}
        self.norm_tokens = operations.LayerNorm(context_dim, eps=1e-5, **where)
        self.to_kv = operations.Linear(context_dim, 2 * context_dim, bias=False, **where)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of identity tokens `(B, K, C)`: two `(B, K, C)`."""
        keys, values = self.to_kv(self.norm_tokens(tokens)).chunk(2, dim=-1)
        return keys, values


class LayerInjector(nn.Module):
    """Cross-attention from one block's video tokens to identity tokens, run at every step."""

    def __init__(
        self,
        config: InjectionConfig,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        operations: ModuleType | Any = nn,
    ) -> None:
        super().__init__()
        dim, context_dim, where = config.dim, config.context_dim, {"device": device, "dtype": dtype}
        self.num_heads = config.num_heads
        self.norm_hidden = operations.LayerNorm(dim, eps=1e-5, **where)
        self.to_q = operations.Linear(dim, context_dim, bias=False, **where)
        self.to_out = operations.Linear(context_dim, dim, bias=False, **where)
        if operations is nn:  # the host's layers skip initialization: a file is read into them
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """A zero output projection, so that training starts at the bare model."""
        nn.init.zeros_(self.to_out.weight)

    def forward(self, hidden_states: Tensor, identities: Sequence[InjectedIdentity]) -> Tensor:
        """The residual to add to the block's video hidden states.

        Queries and output are computed once for all identities: a second person costs one
        attention over its tokens. With one identity without a scale this is the released layer.

        Args:
            hidden_states: `(B, N, dim)` video tokens.
            identities: At least one.

        Returns:
            `(B, N, dim)`.

        Raises:
            ValueError: The batch of an identity is neither 1 nor `B`.
        """
        batch = hidden_states.shape[0]
        query = self.to_q(self.norm_hidden(hidden_states))  # (B, N, C)
        attended: Tensor | None = None
        for keys, values, scale in identities:
            if keys.shape[0] not in (1, batch):
                raise ValueError(
                    f"{keys.shape[0]} identities for a batch of {batch}: give one, or one per item"
                )
            keys, values = keys.expand(batch, -1, -1), values.expand(batch, -1, -1)
            # Released behavior: q and k are each scaled by head_dim^-1/4, which is the default
            # scale.
            part = attend(query, keys, values, self.num_heads)  # (B, N, C)
            part = part if scale is None else part * scale
            attended = part if attended is None else attended + part
        if attended is None:
            raise ValueError("no identity to inject")
        return self.to_out(attended)  # (B, N, dim)


class InjectedIdentity(NamedTuple):
    """What one identity brings to one injector."""

    keys: Tensor  # `(1 or B, K, C)` from `KeysValues`; one identity serves a whole batch
    values: Tensor  # like `keys`, times whatever does not change over a run (`weigh_values`)
    # Broadcastable to `(B, N, 1)`: what changes over steps, branches or places; None is 1.
    scale: Tensor | None = None


class LayerKeysValues(nn.Module):
    """The token halves of all injectors of a checkpoint."""

    def __init__(self, config: InjectionConfig, **where: Any) -> None:
        super().__init__()
        self.injectors = nn.ModuleList(
            KeysValues(config, **where) for _ in range(config.num_injectors)
        )

    def forward(self, tokens: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Keys and values per injector of identity tokens `(B, K, C)`."""
        return [layer(tokens) for layer in self.injectors]


class LayerInjectors(nn.Module):
    """All injectors of a checkpoint, in the order of the blocks that they follow."""

    def __init__(self, config: InjectionConfig, **where: Any) -> None:
        super().__init__()
        self.config = config
        self.injectors = nn.ModuleList(
            LayerInjector(config, **where) for _ in range(config.num_injectors)
        )

    def in_order(self) -> list[LayerInjector]:
        """The injectors, first block first."""
        return [layer for layer in self.injectors if isinstance(layer, LayerInjector)]


def weigh_values(values: Tensor, num_face_tokens: int, looks: float, shape: float) -> Tensor:
    """Values with the share of face and vertex tokens changed.

    The residual is linear in the values, so it is `looks` times what the face tokens give plus
    `shape` times what the vertex tokens give, with the attention between them unchanged.

    Args:
        values: `(B, K, C)`, face tokens first.
        num_face_tokens: How many of the `K` are face tokens.
        looks: Factor on the face tokens' values; 1 is released.
        shape: Factor on the vertex tokens' values; 1 is released.
    """
    if looks == 1.0 and shape == 1.0:
        return values
    factors = values.new_full((values.shape[1], 1), shape)
    factors[:num_face_tokens] = looks
    return values * factors


def injected_blocks(num_blocks: int, num_injectors: int) -> list[int]:
    """Which blocks an injector follows: every k-th one, starting with block 0.

    Source: docs/released-model.md, section 0 (after block `i` when `i % k == 0`; the entries are
    consumed in order).

    Raises:
        ValueError: The blocks are not a multiple of the injectors.
    """
    if num_injectors < 1 or num_blocks % num_injectors:
        raise ValueError(
            f"the adapter has injectors for {num_injectors} blocks, the model has {num_blocks} "
            "blocks: they come from different checkpoints"
        )
    return list(range(0, num_blocks, num_blocks // num_injectors))
