"""The network that is trained: diffusers' CogVideoX with the identity modules of inference.

The same classes as in the nodes, built with `torch.nn`; the injectors sit behind the blocks by the
same hooks (`injection/hooks.py`). What is trained requires gradients, everything else does not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXTransformer3DModel
from torch import Tensor, nn

from ..cogvideox.config import TransformerConfig
from ..cogvideox.positions import rotary_table
from ..face.abstractor import AbstractorConfig, FaceAbstractor
from ..fusion.reducer import ReducerConfig
from ..fusion.transformer import FusionConfig, VertexFusion
from ..geometry.topology import MeshTables
from ..injection.hooks import BlockHook
from ..injection.layers import (
    InjectedIdentity,
    InjectionConfig,
    LayerInjectors,
    LayerKeysValues,
    injected_blocks,
)
from ..weights.keys import shapes_of, to_released
from ..weights.released import read_released
from ..weights.third_party import read_mesh_tables
from .batches import Batch
from .config import Config, Model
from .manifest import DataError
from .swapping import keep_on_host

HEAD_DIM = 64


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


class TrainedNetwork(nn.Module):
    """Base and adapter as one module, so that one wrapper of accelerate holds both.

    The hooks behind the blocks stay for the module's life, since gradient checkpointing runs the
    blocks again in the backward pass.

    Args:
        transformer: The base.
        abstractor: Face tokens of features.
        fusion: Vertex tokens; None leaves the vertices out (Table 3).
        keys_values: Per injector, keys and values of tokens.
        injectors: One behind every k-th block, or a single one for all of them (Table 3).
        interval: That k.
        tables: Mesh tables of the fusion.
    """

    def __init__(
        self,
        transformer: CogVideoXTransformer3DModel,
        abstractor: nn.Module,
        fusion: nn.Module | None,
        keys_values: nn.Module,
        injectors: LayerInjectors,
        interval: int,
        tables: MeshTables,
    ) -> None:
        super().__init__()
        self.transformer, self.abstractor, self.fusion = transformer, abstractor, fusion
        self.keys_values, self.injectors, self.tables = keys_values, injectors, tables
        blocks = transformer.transformer_blocks
        self._hooks = [BlockHook() for _ in range(len(blocks) // interval)]
        for number, hook in zip(
            injected_blocks(len(blocks), len(self._hooks)), self._hooks, strict=True
        ):
            blocks[number].register_forward_hook(_when_filled(hook))
        self._positions: dict[tuple[int, int, int], tuple[Tensor, Tensor]] = {}

    def identity(self, features: Tensor, vertices: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Keys and values per injector of references `(R, 577, C)` and heads `(R, V, 3)`."""
        tokens = self.abstractor(features)
        if self.fusion is not None:
            tables = self.tables.to(features.device)
            tokens = torch.cat([tokens, self.fusion(tokens, vertices, tables)], dim=1)
        return self.keys_values(tokens)

    def forward(self, noisy: Tensor, batch: Batch) -> Tensor:
        """The velocity `(B, F, C, H, W)` of noisy latents."""
        pairs = self.identity(batch.features, batch.vertices)
        each = len(batch.keep) // len(batch.features)
        if each > 1:
            pairs = [tuple(part.repeat_interleave(each, 0) for part in pair) for pair in pairs]
        image = image_latents(batch, noisy)
        return self.velocity(noisy, batch.timesteps, batch.text, image, pairs, batch.keep)

    def velocity(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        text: Tensor,
        image: Tensor,
        pairs: Sequence[tuple[Tensor, ...]] | None,
        keep: Tensor | None = None,
    ) -> Tensor:
        """The velocity with an identity, or of the bare base.

        Args:
            noisy: `(B, F, C, H, W)`.
            timesteps: `(B,)`.
            text: `(B, L, C)`.
            image: Like `noisy`: the image-to-video channels.
            pairs: From `identity`; None is the bare base.
            keep: `(B,)` 1, or 0 for a sample without identity.
        """
        self._fill(pairs, keep)
        frames, _, height, width = noisy.shape[1:]
        grid = (frames, height // 2, width // 2)
        if grid not in self._positions:
            self._positions[grid] = rotary_table(*grid, HEAD_DIM)
        cosines, sines = self._positions[grid]
        dtype = self.transformer.patch_embed.proj.weight.dtype
        if dtype.itemsize < 2:  # stored as fp8, computed in bf16
            dtype = torch.bfloat16
        return self.transformer(
            hidden_states=torch.cat([noisy, image], dim=2).to(dtype),
            encoder_hidden_states=text.to(dtype),
            timestep=timesteps,
            image_rotary_emb=(cosines.to(noisy.device), sines.to(noisy.device)),
            return_dict=False,
        )[0]

    def _fill(self, pairs: Sequence[tuple[Tensor, ...]] | None, keep: Tensor | None) -> None:
        scale = None if keep is None else keep[:, None, None]
        layers = self.injectors.in_order()
        for number, hook in enumerate(self._hooks):
            hook.clear()
            if pairs is not None:
                keys, values = pairs[number % len(pairs)]
                hook.add(layers[number % len(layers)], InjectedIdentity(keys, values, scale))


def _when_filled(hook: BlockHook) -> Any:
    def call(block: nn.Module, inputs: Any, output: Any) -> Any:
        return hook(block, inputs, output) if hook.groups else None

    return call


def image_latents(batch: Batch, noisy: Tensor) -> Tensor:
    """The image-to-video channels: the face in latent frame 0, zeros behind it."""
    each = len(batch.keep) // len(batch.face_latent)
    first = batch.face_latent.repeat_interleave(each, 0) * batch.keep_latent.view(-1, 1, 1, 1)
    image = torch.zeros_like(noisy)
    image[:, 0] = first.to(image)
    return image


def build_transformer(config: Config) -> CogVideoXTransformer3DModel:
    """The base: read, or made anew, frozen unless the configuration trains it."""
    model, path = config.model, config.weights.transformer
    if path is None:
        torch.manual_seed(config.train.seed)
        sizes = {"use_rotary_positional_embeddings": True, "in_channels": 32, **model.base_sizes}
        transformer = CogVideoXTransformer3DModel(**sizes)
    else:
        transformer = read_transformer(path)
    trains = model.base == "full"
    transformer.requires_grad_(trains)
    if not trains and config.train.precision == "bf16":
        nn.Module.to(transformer, torch.bfloat16)
    if model.base == "lora":
        from peft import LoraConfig

        names = ["to_q", "to_k", "to_v", "to_out.0"]
        transformer.add_adapter(LoraConfig(r=model.lora_rank, lora_alpha=model.lora_rank,
                                           target_modules=names))  # fmt: skip
    if config.train.fp8_base:
        transformer.enable_layerwise_casting(torch.float8_e4m3fn, torch.bfloat16)
    if config.train.swap_blocks:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        keep_on_host(list(transformer.transformer_blocks)[-config.train.swap_blocks :], device)
    if config.train.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    return transformer


def read_transformer(path: Path) -> CogVideoXTransformer3DModel:
    """diffusers' class around the weights of a released folder, or of one file of either naming.

    Raises:
        ValueError: The weights are not those of CogVideoX image-to-video 1.0.
    """
    weights = read_released(path).base()
    sizes = TransformerConfig.from_shapes(shapes_of(weights))
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=sizes.dim // HEAD_DIM,
        attention_head_dim=HEAD_DIM,
        in_channels=32,
        out_channels=sizes.out_channels,
        time_embed_dim=sizes.time_dim,
        text_embed_dim=sizes.text_dim,
        num_layers=sizes.blocks,
        use_rotary_positional_embeddings=True,
        use_learned_positional_embeddings=bool(sizes.positions),
    )
    transformer.load_state_dict(to_released("base", weights))
    return transformer


def build_network(config: Config) -> TrainedNetwork:
    """Everything that a configuration trains or stands on, on the CPU.

    A fresh adapter is drawn from the seed and changes nothing at first: its output projections
    are zero.

    Raises:
        DataError: The starting adapter does not fit the base or the configuration.
    """
    model, transformer = config.model, build_transformer(config)
    torch.manual_seed(config.train.seed + 1)
    blocks, dim = len(transformer.transformer_blocks), transformer.proj_out.in_features
    if blocks % model.injector_interval:
        raise DataError(
            f"model.injector_interval {model.injector_interval} does not divide {blocks} blocks"
        )
    count = blocks // model.injector_interval if model.layer_aware else 1
    path = config.weights.adapter
    modules = fresh_adapter(model, count, dim) if path is None else read_adapter(path, count, dim)
    dtype = getattr(torch, config.train.trained_dtype)
    abstractor, fusion, keys_values, injectors = (module.to(dtype) for module in modules)
    assert isinstance(injectors, LayerInjectors)
    return TrainedNetwork(
        transformer, abstractor, fusion if model.vertices else None, keys_values, injectors,
        model.injector_interval, read_mesh_tables(config.weights.mesh_transforms),
    )  # fmt: skip


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
