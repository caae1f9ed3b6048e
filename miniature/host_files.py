"""Tiny versions of the two models that come with the host: the T5 text encoder and the video VAE.

Both keep the key names of the full files. The host fixes their widths in its code, so it can load
them only together with the tests' own wrapper (`tests/host_nodes/`).
"""

from __future__ import annotations

import math

import torch
from safetensors.torch import save as save_safetensors
from torch import Tensor

from .layouts import Shapes
from .weights import draw, tiny_state_dict

T5_DIM, T5_LAYERS, T5_MLP, T5_HEADS, T5_HEAD_DIM = 64, 2, 128, 4, 16
T5_VOCABULARY, T5_BUCKETS = 32128, 32
# A host knows T5-XXL by this tensor of its last block; here it is empty but for its height.
T5_MARK, T5_MARK_SHAPE = "encoder.block.23.layer.1.DenseReluDense.wi_1.weight", (10240, 1)
VAE_WIDTH, VAE_STAGES, VAE_LATENT = 8, 4, 16
METADATA = {"format": "pt"}


def t5_file(*, seed: int = 0) -> bytes:
    """Give a T5 encoder in half precision: 2 layers, 64 wide, the full vocabulary."""
    inner = T5_HEADS * T5_HEAD_DIM
    matrices: dict[str, tuple[tuple[int, int], float]] = {
        "shared.weight": ((T5_VOCABULARY, 64), 1.0)
    }
    norms = ["encoder.final_layer_norm.weight"]
    for layer in range(T5_LAYERS):
        attention = f"encoder.block.{layer}.layer.0"
        feed = f"encoder.block.{layer}.layer.1"
        matrices |= {
            # T5 does not scale its logits: the query carries the root of the head's width
            f"{attention}.SelfAttention.q.weight": ((inner, T5_DIM), (inner * T5_DIM / 4) ** -0.5),
            f"{attention}.SelfAttention.k.weight": ((inner, T5_DIM), T5_DIM**-0.5),
            f"{attention}.SelfAttention.v.weight": ((inner, T5_DIM), T5_DIM**-0.5),
            f"{attention}.SelfAttention.o.weight": ((T5_DIM, inner), inner**-0.5),
            f"{feed}.DenseReluDense.wi_0.weight": ((T5_MLP, T5_DIM), T5_DIM**-0.5),
            f"{feed}.DenseReluDense.wi_1.weight": ((T5_MLP, T5_DIM), T5_DIM**-0.5),
            f"{feed}.DenseReluDense.wo.weight": ((T5_DIM, T5_MLP), T5_MLP**-0.5),
        }
        norms += [f"{attention}.layer_norm.weight", f"{feed}.layer_norm.weight"]
    bias = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    matrices[bias] = ((T5_BUCKETS, T5_HEADS), 0.5)
    tensors = {n: (draw(n, s, seed) * std).half() for n, (s, std) in matrices.items()}
    tensors |= {name: (1.0 + 0.1 * draw(name, (T5_DIM,), seed)).half() for name in norms}
    tensors[T5_MARK] = torch.zeros(T5_MARK_SHAPE, dtype=torch.float16)
    return save_safetensors(tensors, METADATA)


def _conv(name: str, out: int, inner: int, taps: tuple[int, ...]) -> Shapes:
    return {f"{name}.weight": (out, inner, *taps), f"{name}.bias": (out,)}


def _norm(name: str, *, conditioned: bool) -> Shapes:
    """A group norm; the decoder's are scaled and shifted by the latent."""
    if not conditioned:
        return {f"{name}.weight": (VAE_WIDTH,), f"{name}.bias": (VAE_WIDTH,)}
    shapes: Shapes = {
        f"{name}.norm_layer.weight": (VAE_WIDTH,),
        f"{name}.norm_layer.bias": (VAE_WIDTH,),
    }
    for part in ("conv_y", "conv_b"):
        shapes |= _conv(f"{name}.{part}.conv", VAE_WIDTH, VAE_LATENT, (1, 1, 1))
    return shapes


def _resnet(name: str, *, conditioned: bool) -> Shapes:
    shapes: Shapes = {}
    for index in (1, 2):
        shapes |= _norm(f"{name}.norm{index}", conditioned=conditioned)
        shapes |= _conv(f"{name}.conv{index}.conv", VAE_WIDTH, VAE_WIDTH, (3, 3, 3))
    return shapes


def vae_shapes() -> Shapes:
    """The CogVideoX VAE by its names: four stages of 8 channels, one layer each."""
    flat, deep = (3, 3), (3, 3, 3)
    shapes = _conv("encoder.conv_in.conv", VAE_WIDTH, 3, deep)
    shapes |= _conv("decoder.conv_in.conv", VAE_WIDTH, VAE_LATENT, deep)
    for stage in range(VAE_STAGES):
        shapes |= _resnet(f"encoder.down_blocks.{stage}.resnets.0", conditioned=False)
        for layer in (0, 1):
            name = f"decoder.up_blocks.{stage}.resnets.{layer}"
            shapes |= _resnet(name, conditioned=True)
        if stage < VAE_STAGES - 1:
            down = f"encoder.down_blocks.{stage}.downsamplers.0.conv"
            shapes |= _conv(down, VAE_WIDTH, VAE_WIDTH, flat)
            shapes |= _conv(
                f"decoder.up_blocks.{stage}.upsamplers.0.conv", VAE_WIDTH, VAE_WIDTH, flat
            )
    for layer in (0, 1):
        shapes |= _resnet(f"encoder.mid_block.resnets.{layer}", conditioned=False)
        shapes |= _resnet(f"decoder.mid_block.resnets.{layer}", conditioned=True)
    shapes |= _norm("encoder.norm_out", conditioned=False)
    shapes |= _norm("decoder.norm_out", conditioned=True)
    shapes |= _conv("encoder.conv_out.conv", 2 * VAE_LATENT, VAE_WIDTH, deep)
    return shapes | _conv("decoder.conv_out.conv", 3, VAE_WIDTH, deep)


def vae_file(*, seed: int = 0) -> bytes:
    """Give a CogVideoX VAE in single precision whose random pictures stay within [-1, 1]."""
    tensors: dict[str, Tensor] = tiny_state_dict(vae_shapes(), seed)
    for name, tensor in tensors.items():
        if name.endswith("conv_y.conv.weight"):
            tensors[name] = tensor * 0.3
        elif name.endswith("conv_y.conv.bias"):
            tensors[name] = tensor + 1.0
        elif name == "decoder.conv_out.conv.weight":
            tensors[name] = tensor * 0.4
        elif tensor.ndim > 1 and name.startswith("encoder."):
            tensors[name] = tensor * math.sqrt(1.5)
    return save_safetensors(tensors, METADATA)
