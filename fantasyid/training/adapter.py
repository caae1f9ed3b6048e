"""The adapter as training builds it: fresh at chosen sizes, or read from a file."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..face.abstractor import AbstractorConfig, FaceAbstractor
from ..fusion.reducer import ReducerConfig
from ..fusion.transformer import FusionConfig, VertexFusion
from ..injection.layers import InjectionConfig, LayerInjectors, LayerKeysValues
from ..weights.released import read_released
from .config import Model
from .manifest import DataError


@dataclass(frozen=True, slots=True)
class AdapterSizes:
    """Sizes of a fresh adapter; the defaults are the released ones (docs/released-model.md, 0).

    Attributes:
        tower_dim: Width of the vision tower.
        context_dim: Width of the identity tokens, a multiple of 128.
        abstractor_dim: Width of the abstractor's convolutions; `squeeze_first`, `squeeze` and
            `abstractor_ff` are its inner widths.
        fusion_dim: Width of the fusion transformer, a multiple of 32.
        fusion_layers: Its depth L (paper 3.4).
        face_widths: Inner widths of the projection of the face tokens, before `fusion_dim`.
        reducer_widths: Channels of the residual convolutions, before `context_dim`.
    """

    tower_dim: int = 1024
    context_dim: int = 2048
    abstractor_dim: int = 256
    squeeze_first: int = 256
    squeeze: int = 64
    abstractor_ff: int = 4096
    fusion_dim: int = 128
    fusion_layers: int = 6
    face_widths: tuple[int, ...] = (1024, 512, 256)
    reducer_widths: tuple[int, ...] = (256, 512, 1024)

    @staticmethod
    def of(model: Model) -> AdapterSizes:
        """The sizes that a configuration names.

        Raises:
            DataError: A name is unknown.
        """
        known = {f.name for f in dataclasses.fields(AdapterSizes)}
        unknown = sorted(model.adapter_sizes.keys() - known)
        if unknown:
            raise DataError(
                f"model.adapter_sizes has {', '.join(unknown)}, known are "
                f"{', '.join(sorted(known))}"
            )
        given: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in model.adapter_sizes.items()
        }
        return AdapterSizes(**given)

    def abstractor(self) -> AbstractorConfig:
        """Of the C-Abstractor."""
        return AbstractorConfig(
            self.tower_dim, self.abstractor_dim, self.squeeze_first, self.squeeze,
            self.abstractor_ff, self.context_dim,
        )  # fmt: skip

    def fusion(self) -> FusionConfig:
        """Of the fusion transformer and its reducer."""
        return FusionConfig(
            self.fusion_dim, self.fusion_dim // 32, 2 * self.fusion_dim, self.fusion_layers, 314, 9,
            (self.context_dim, *self.face_widths, self.fusion_dim),
            ReducerConfig(
                (self.fusion_dim, *self.reducer_widths, self.context_dim), (5, 5, 3, 3)
            ),
        )  # fmt: skip


class QFormer(nn.Module):
    """In the abstractor's place (Table 3): learned queries that read the patches by attention.

    Args:
        sizes: As many tokens, of the same width, as the abstractor gives.
        layers: Cross-attention layers.
    """

    def __init__(self, sizes: AdapterSizes, layers: int = 2, num_tokens: int = 36) -> None:
        super().__init__()
        dim = sizes.abstractor_dim
        self.queries = nn.Parameter(torch.randn(1, num_tokens, dim) * 0.02)
        self.proj_in = nn.Linear(sizes.tower_dim, dim)
        self.layers = nn.ModuleList(
            nn.TransformerDecoderLayer(
                dim, max(1, dim // 32), 4 * dim, 0.0, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        self.proj_out = nn.Linear(dim, sizes.context_dim)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """`(B, 577, C)` to `(B, 36, context_dim)`."""
        patches = self.proj_in(hidden_states[:, 1:])
        tokens = self.queries.expand(len(patches), -1, -1)
        for layer in self.layers:
            tokens = layer(tokens, patches)
        return self.proj_out(tokens)


def fresh_adapter(model: Model, count: int, dim: int) -> list[nn.Module]:
    """Abstractor, fusion and both halves of the injectors, drawn from torch's generator.

    Args:
        count: Injectors.
        dim: Width of the base.
    """
    sizes = AdapterSizes.of(model)
    injection = InjectionConfig(count, dim, sizes.context_dim)
    plain = model.abstractor == "c_abstractor"
    return [
        FaceAbstractor(sizes.abstractor()) if plain else QFormer(sizes),
        VertexFusion(sizes.fusion()),
        LayerKeysValues(injection),
        LayerInjectors(injection),
    ]


def read_adapter(path: Path, count: int, dim: int) -> list[nn.Module]:
    """The same from a file, released or exported.

    Raises:
        DataError: Its injectors are for another base.
        ValueError: It is no adapter, or damaged.
    """
    modules = []
    for part in read_released(path).adapter_modules():
        module = part.build(device=None, dtype=None, operations=nn)
        module.load_state_dict({name: tensor.float() for name, tensor in part.weights.items()})
        modules.append(module)
    found = modules[-1].config
    if (found.num_injectors, found.dim) != (count, dim):
        raise DataError(
            f"weights.adapter {path} has {found.num_injectors} injectors for hidden states "
            f"{found.dim} wide; this training has {count} for {dim}: set model.injector_interval, "
            "or start from the adapter of this base"
        )
    return modules
