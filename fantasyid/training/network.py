"""The network that is trained: diffusers' CogVideoX with the identity modules of inference.

The same classes as in the nodes, built with `torch.nn`; the injectors sit behind the blocks by the
same hooks (`injection/hooks.py`). What is trained requires gradients, everything else does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXTransformer3DModel
from torch import Tensor, nn

from ..cogvideox.config import TransformerConfig
from ..cogvideox.positions import rotary_table
from ..geometry.topology import MeshTables
from ..injection.hooks import BlockHook
from ..injection.layers import (
    InjectedIdentity,
    LayerInjectors,
    injected_blocks,
)
from ..weights.keys import shapes_of, to_released
from ..weights.released import read_released
from ..weights.third_party import read_mesh_tables
from .adapter import fresh_adapter, read_adapter
from .batches import Batch
from .config import Config
from .manifest import DataError
from .swapping import keep_on_host

HEAD_DIM = 64


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
        return self.velocity(
            noisy, batch.timesteps, batch.text, image, pairs, batch.keep, batch.paddings
        )

    def velocity(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        text: Tensor,
        image: Tensor,
        pairs: Sequence[tuple[Tensor, ...]] | None,
        keep: Tensor | None = None,
        paddings: int = 1,
    ) -> Tensor:
        """The velocity with an identity, or of the bare base.

        Args:
            noisy: `(B, F, C, H, W)`.
            timesteps: `(B,)`.
            text: `(B, L, C)`.
            image: Like `noisy`: the image-to-video channels.
            pairs: From `identity`; None is the bare base.
            keep: `(B,)` 1, or 0 for a sample without identity.
            paddings: How many equal text tokens the last one stands for. Text has no positions in
                CogVideoX, so that one token whose logits are raised by the log of their number is
                the same attention.
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
        attention = None
        if paddings > 1:
            raised = torch.zeros(len(text), 1, text.shape[1] + math.prod(grid), device=text.device)
            raised[..., text.shape[1] - 1] = math.log(paddings)
            attention = {"attention_mask": raised.to(dtype)}
        return self.transformer(
            hidden_states=torch.cat([noisy, image], dim=2).to(dtype),
            encoder_hidden_states=text.to(dtype),
            timestep=timesteps,
            image_rotary_emb=(cosines.to(noisy.device), sines.to(noisy.device)),
            attention_kwargs=attention,
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
        try:
            transformer = CogVideoXTransformer3DModel(**sizes)
        except TypeError as error:
            raise DataError(f"model.base_sizes: {error}") from error
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
