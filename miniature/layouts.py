"""Names and shapes of every tensor in the released files, at sizes that one can choose.

Each function gives a dict from the released key name to its shape. The names, their order within a
layer and the ranks are those of the releases; only widths and depths differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

Shape = tuple[int, ...]
Shapes = dict[str, Shape]

HEAD_DIM = 64
TEXT_TOKENS = 226
PATCH = 2
FUSED_VERTICES = 314
SPIRAL_LENGTH = 9
FACE_PATCHES = 576
DECA_CODE = 236


@dataclass(frozen=True)
class TinySizes:
    """Widths and depths of the tiny files; what is not here is fixed by the formats.

    Attributes:
        dim: width of the video transformer, a multiple of 192 if it has learned positions.
        blocks: its depth; every block gets an injector.
        context_dim: width of identity tokens, a multiple of 128.
        time_dim: width of its time embedding.
        text_dim: width of the text embeddings, that of the tiny T5.
        eva_dim: width of EVA02-CLIP, a multiple of 64.
        eva_blocks: its depth; the hidden states after block 19 are read.
        eva_mlp: width inside its gated layers.
        eva_embed: width of its pooled embedding.
        abstractor_hidden: width of the convolutions that gather face tokens.
        fusion_dim: width of the fusion transformer, a multiple of 32.
        fusion_blocks: its depth.
        face_widths: the face tokens' widths on their way to `fusion_dim`.
        reducer_widths: channels of the reducer from vertices to tokens, multiples of 8.
        deca_widths: stem and stages of DECA's ResNet, before the expansion by 4.
        deca_blocks: blocks of each stage.
        deca_hidden: width of its hidden linear layer.
    """

    dim: int = 192
    blocks: int = 4
    context_dim: int = 128
    time_dim: int = 64
    text_dim: int = 64
    eva_dim: int = 64
    eva_blocks: int = 24
    eva_mlp: int = 170
    eva_embed: int = 48
    abstractor_hidden: int = 32
    fusion_dim: int = 32
    fusion_blocks: int = 2
    face_widths: tuple[int, ...] = (128, 64, 32)
    reducer_widths: tuple[int, ...] = (32, 64, 96, 112, 128)
    deca_widths: tuple[int, int, int, int, int] = (8, 8, 16, 32, 64)
    deca_blocks: tuple[int, int, int, int] = (1, 1, 1, 1)
    deca_hidden: int = 128


TINY = TinySizes()


def _linear(name: str, out: int, inner: int, *, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (out, inner)} | ({f"{name}.bias": (out,)} if bias else {})


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def transformer_shapes(sizes: TinySizes = TINY, positions: int = 0) -> Shapes:
    """CogVideoX by its diffusers names; `positions` > 0 adds a learned table of so many rows."""
    dim, time = sizes.dim, sizes.time_dim
    shapes: Shapes = {"patch_embed.proj.weight": (dim, 32, PATCH, PATCH)}
    shapes |= {"patch_embed.proj.bias": (dim,)} | _linear(
        "patch_embed.text_proj", dim, sizes.text_dim
    )
    if positions:
        shapes["patch_embed.pos_embedding"] = (1, positions, dim)
    shapes |= _linear("time_embedding.linear_1", time, dim)
    shapes |= _linear("time_embedding.linear_2", time, time)
    for block in range(sizes.blocks):
        name = f"transformer_blocks.{block}"
        shapes |= _linear(f"{name}.norm1.linear", 6 * dim, time) | _norm(f"{name}.norm1.norm", dim)
        shapes |= _norm(f"{name}.attn1.norm_q", HEAD_DIM) | _norm(f"{name}.attn1.norm_k", HEAD_DIM)
        for projection in ("to_q", "to_k", "to_v", "to_out.0"):
            shapes |= _linear(f"{name}.attn1.{projection}", dim, dim)
        shapes |= _linear(f"{name}.norm2.linear", 6 * dim, time) | _norm(f"{name}.norm2.norm", dim)
        shapes |= _linear(f"{name}.ff.net.0.proj", 4 * dim, dim)
        shapes |= _linear(f"{name}.ff.net.2", dim, 4 * dim)
    shapes |= _norm("norm_final", dim) | _linear("norm_out.linear", 2 * dim, time)
    return shapes | _norm("norm_out.norm", dim) | _linear("proj_out", 16 * PATCH * PATCH, dim)


def _bottleneck(name: str, inner: int, hidden: int, squeeze: int) -> Shapes:
    shapes: Shapes = {f"{name}.conv1.conv.weight": (hidden, inner, 1, 1)}
    shapes |= _norm(f"{name}.conv1.bn", hidden)
    shapes |= {f"{name}.conv2.conv.weight": (hidden, 1, 3, 3)} | _norm(f"{name}.conv2.bn", hidden)
    shapes |= {f"{name}.se.fc1.weight": (squeeze, hidden, 1, 1), f"{name}.se.fc1.bias": (squeeze,)}
    shapes |= {f"{name}.se.fc2.weight": (hidden, squeeze, 1, 1), f"{name}.se.fc2.bias": (hidden,)}
    shapes |= {f"{name}.conv3.conv.weight": (hidden, hidden, 1, 1)}
    shapes |= _norm(f"{name}.conv3.bn", hidden)
    if inner != hidden:
        shapes |= {f"{name}.downsample.conv.weight": (hidden, inner, 1, 1)}
        shapes |= _norm(f"{name}.downsample.bn", hidden)
    return shapes


def _mapping(name: str, inner: int, dim: int, out: int) -> Shapes:
    shapes = _linear(f"{name}.0", dim, inner) | _norm(f"{name}.1", dim)
    return (
        shapes
        | _linear(f"{name}.3", dim, dim)
        | _norm(f"{name}.4", dim)
        | _linear(f"{name}.6", out, dim)
    )


def abstractor_shapes(sizes: TinySizes = TINY) -> Shapes:
    """The face abstractor with its dead parts: of ten layers two matter, of five mappings one."""
    dim, hidden = sizes.eva_dim, sizes.abstractor_hidden
    root = "face_abstractor"
    shapes: Shapes = {
        f"{root}.latents": (1, 144, dim),
        f"{root}.proj_out": (dim, sizes.context_dim),
    }
    for layer in range(10):
        name = f"{root}.layers.{layer}"
        shapes[f"{name}.0.pos_emb"] = (1, FACE_PATCHES, dim)
        for stage in (0, 2):
            for block in (1, 2, 3):
                first = stage == 0 and block == 1
                inner, squeeze = (dim, hidden) if first else (hidden, hidden // 4)
                shapes |= _bottleneck(f"{name}.0.net.{stage}.b{block}", inner, hidden, squeeze)
        shapes |= _linear(f"{name}.0.readout.0", dim, hidden)
        shapes |= _linear(f"{name}.0.readout.2", dim, dim) | _norm(f"{name}.1.0", dim)
        shapes |= {f"{name}.1.1.weight": (4 * dim, dim), f"{name}.1.3.weight": (dim, 4 * dim)}
    for level in range(5):
        shapes |= _mapping(f"{root}.mapping_{level}", dim, dim, dim)
    arcface = sizes.eva_dim // 2
    return shapes | _mapping(
        f"{root}.id_embedding_mapping", arcface + sizes.eva_embed, dim, 5 * dim
    )


def fusion_shapes(sizes: TinySizes = TINY) -> Shapes:
    """Vertex queries and the fusion transformer, and the reducer to vertex tokens."""
    dim, root = sizes.fusion_dim, "vertex_spiral_net"
    shapes: Shapes = {f"{root}.vtx_query": (1, FUSED_VERTICES, dim)}
    for layer in ("0.conv.layer", "1.conv.layer", "2.layer"):
        shapes |= _linear(f"{root}.vtx_upsampler.de_layers.{layer}", dim, SPIRAL_LENGTH * dim)
    for block in range(sizes.fusion_blocks):
        name = f"{root}.transformer.layers.{block}"
        shapes |= _norm(f"{name}.0.norm", dim)
        shapes |= _linear(f"{name}.0.fn.to_qkv", 3 * dim, dim, bias=False)
        shapes |= _linear(f"{name}.0.fn.to_out.0", dim, dim) | _norm(f"{name}.1.norm", dim)
        shapes |= _linear(f"{name}.1.fn.net.0", 2 * dim, dim)
        shapes |= _linear(f"{name}.1.fn.net.3", dim, 2 * dim)
    shapes |= _linear(f"{root}.vtx_descriptor_head.0", dim, dim)
    widths = sizes.face_widths
    for index, (inner, out) in enumerate(pairwise(widths)):
        shapes |= _linear(f"{root}.hw_down.{index}.fc1", inner, inner)
        shapes |= _linear(f"{root}.hw_down.{index}.fc2", out, inner)
    channels = sizes.reducer_widths
    for index, (inner, out) in enumerate(pairwise(channels)):
        name, kernel = f"vertex_reducer.conv_block{index + 1}", 5 if index < 2 else 3
        parts = (("conv_in", inner, kernel), ("conv_out", out, 3))
        for part, width, taps in parts:
            shapes |= {f"{name}.{part}.conv1d.weight": (out, width, taps)}
            shapes |= {f"{name}.{part}.conv1d.bias": (out,)}
            shapes |= _norm(f"{name}.{part}.group_norm", out)
        shapes |= {f"{name}.residual_conv.weight": (out, inner, kernel)}
        shapes |= {f"{name}.residual_conv.bias": (out,)}
    return shapes


def injector_shapes(sizes: TinySizes = TINY) -> Shapes:
    """One injector after every block of the video transformer."""
    dim, context = sizes.dim, sizes.context_dim
    shapes: Shapes = {}
    for block in range(sizes.blocks):
        name = f"layer_attention.{block}"
        shapes |= _norm(f"{name}.norm1", context) | _norm(f"{name}.norm2", dim)
        shapes |= _linear(f"{name}.to_q", context, dim, bias=False)
        shapes |= _linear(f"{name}.to_kv", 2 * context, context, bias=False)
        shapes |= _linear(f"{name}.to_out", dim, context, bias=False)
    return shapes


def adapter_shapes(sizes: TinySizes = TINY) -> Shapes:
    """Everything that FantasyID adds to CogVideoX."""
    return abstractor_shapes(sizes) | fusion_shapes(sizes) | injector_shapes(sizes)


def eva_shapes(sizes: TinySizes = TINY) -> Shapes:
    """The image tower of EVA02-CLIP, without its computed rotary tables."""
    dim, mlp = sizes.eva_dim, sizes.eva_mlp
    shapes: Shapes = {
        "visual.cls_token": (1, 1, dim),
        "visual.pos_embed": (1, 1 + FACE_PATCHES, dim),
        "visual.patch_embed.proj.weight": (dim, 3, 14, 14),
        "visual.patch_embed.proj.bias": (dim,),
    }
    for block in range(sizes.eva_blocks):
        name = f"visual.blocks.{block}"
        shapes |= _norm(f"{name}.norm1", dim)
        shapes |= {f"{name}.attn.q_bias": (dim,), f"{name}.attn.v_bias": (dim,)}
        for projection in ("q_proj", "k_proj", "v_proj"):
            shapes |= _linear(f"{name}.attn.{projection}", dim, dim, bias=False)
        shapes |= _norm(f"{name}.attn.inner_attn_ln", dim) | _linear(f"{name}.attn.proj", dim, dim)
        shapes |= _norm(f"{name}.norm2", dim) | _linear(f"{name}.mlp.w1", mlp, dim)
        shapes |= _linear(f"{name}.mlp.w2", mlp, dim) | _norm(f"{name}.mlp.ffn_ln", mlp)
        shapes |= _linear(f"{name}.mlp.w3", dim, mlp)
    return shapes | _norm("visual.norm", dim) | _linear("visual.head", sizes.eva_embed, dim)


def eva_text_shapes(sizes: TinySizes = TINY) -> Shapes:
    """A text tower of one block: it comes with the file and is never read."""
    dim = sizes.eva_embed
    block = "text.transformer.resblocks.0"
    shapes: Shapes = {
        "text.positional_embedding": (77, dim),
        "text.text_projection": (dim, dim),
        "text.token_embedding.weight": (64, dim),
        f"{block}.attn.in_proj_weight": (3 * dim, dim),
        f"{block}.attn.in_proj_bias": (3 * dim,),
    }
    shapes |= _linear(f"{block}.attn.out_proj", dim, dim) | _norm(f"{block}.ln_1", dim)
    shapes |= _linear(f"{block}.mlp.c_fc", 4 * dim, dim) | _linear(
        f"{block}.mlp.c_proj", dim, 4 * dim
    )
    return shapes | _norm(f"{block}.ln_2", dim) | _norm("text.ln_final", dim)


def _batch_norm(name: str, width: int) -> Shapes:
    statistics: Shapes = {f"{name}.running_mean": (width,), f"{name}.running_var": (width,)}
    return _norm(name, width) | statistics | {f"{name}.num_batches_tracked": ()}


def deca_shapes(sizes: TinySizes = TINY) -> Shapes:
    """DECA's coarse encoder: a ResNet-50 and two linear layers, by its names inside `E_flame`."""
    stem, *stages = sizes.deca_widths
    shapes: Shapes = {"encoder.conv1.weight": (stem, 3, 7, 7)} | _batch_norm("encoder.bn1", stem)
    inner = stem
    for stage, (width, blocks) in enumerate(zip(stages, sizes.deca_blocks, strict=True)):
        for block in range(blocks):
            name = f"encoder.layer{stage + 1}.{block}"
            convs = ((1, inner, width, 1), (2, width, width, 3), (3, width, 4 * width, 1))
            for index, before, after, taps in convs:
                shapes[f"{name}.conv{index}.weight"] = (after, before, taps, taps)
                shapes |= _batch_norm(f"{name}.bn{index}", after)
            if block == 0:
                shapes[f"{name}.downsample.0.weight"] = (4 * width, inner, 1, 1)
                shapes |= _batch_norm(f"{name}.downsample.1", 4 * width)
            inner = 4 * width
    shapes |= _linear("layers.0", sizes.deca_hidden, inner)
    return shapes | _linear("layers.2", DECA_CODE, sizes.deca_hidden)
