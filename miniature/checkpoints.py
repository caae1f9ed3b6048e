"""Writes the tiny model files in the layouts of the released ones."""

from __future__ import annotations

import io
import json
from collections import OrderedDict

import numpy as np
import torch
from safetensors.torch import save as save_safetensors
from torch import Tensor

from .deca_calibration import calibrate
from .head import HeadMesh
from .layouts import (
    TEXT_TOKENS,
    TINY,
    TinySizes,
    adapter_shapes,
    deca_shapes,
    eva_shapes,
    eva_text_shapes,
    transformer_shapes,
)
from .legacy_torch import legacy_torch_bytes
from .motion import JOINTS, PARENTS, build_motion
from .pickle_writer import ChumpyArray, flame_pickle, transforms_pickle
from .transforms import build_transforms, sparse_columns
from .weights import tiny_state_dict

SAMPLE_WIDTH, SAMPLE_HEIGHT, SAMPLE_FRAMES = 90, 60, 49  # latents of the released 720x480, frames
SHARD_STEM = "diffusion_pytorch_model"


def num_positions(
    width: int = SAMPLE_WIDTH, height: int = SAMPLE_HEIGHT, frames: int = SAMPLE_FRAMES
) -> int:
    """Count the rows of a learned position table for videos of one size."""
    return TEXT_TOKENS + ((frames - 1) // 4 + 1) * (height // 2) * (width // 2)


def transformer_config(sizes: TinySizes = TINY, *, learned: bool = False) -> dict[str, object]:
    """Give the `config.json` of the transformer folder, with FantasyID's own entries."""
    return {
        "_class_name": "IDTransformer3DModel",
        "_diffusers_version": "0.32.1",
        "activation_fn": "gelu-approximate",
        "attention_bias": True,
        "attention_head_dim": 64,
        "cross_attn_interval": 1,
        "dropout": 0.0,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": 32,
        "is_kps": False,
        "is_train_face": True,
        "max_text_seq_length": TEXT_TOKENS,
        "norm_elementwise_affine": True,
        "norm_eps": 1e-05,
        "num_attention_heads": sizes.dim // 64,
        "num_layers": sizes.blocks,
        "out_channels": 16,
        "patch_size": 2,
        "sample_frames": SAMPLE_FRAMES,
        "sample_height": SAMPLE_HEIGHT,
        "sample_width": SAMPLE_WIDTH,
        "spatial_interpolation_scale": 1.875,
        "temporal_compression_ratio": 4,
        "temporal_interpolation_scale": 1.0,
        "text_embed_dim": sizes.text_dim,
        "time_embed_dim": sizes.time_dim,
        "timestep_activation_fn": "silu",
        "use_learned_positional_embeddings": learned,
        "use_rotary_positional_embeddings": True,
    }


def transformer_files(
    sizes: TinySizes = TINY,
    *,
    seed: int = 0,
    learned: bool = False,
    dtype: torch.dtype = torch.float32,
    shards: int = 2,
) -> dict[str, bytes]:
    """Give the files of the transformer folder by name: config, shards and their index."""
    shapes = transformer_shapes(sizes, num_positions() if learned else 0) | adapter_shapes(sizes)
    tensors = {n: t.to(dtype) for n, t in tiny_state_dict(shapes, seed).items()}
    names = sorted(tensors)
    files = {"config.json": _json(transformer_config(sizes, learned=learned))}
    weight_map: dict[str, str] = {}
    for shard in range(shards):
        part = names[shard * len(names) // shards : (shard + 1) * len(names) // shards]
        file_name = f"{SHARD_STEM}-{shard + 1:05d}-of-{shards:05d}.safetensors"
        weight_map |= dict.fromkeys(part, file_name)
        files[file_name] = save_safetensors({n: tensors[n] for n in part}, {"format": "pt"})
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    return files | {f"{SHARD_STEM}.safetensors.index.json": _json(index)}


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def rotary_tables(grid: int = 24, trained_grid: int = 16) -> tuple[Tensor, Tensor]:
    """Compute the rotary tables that EVA02-CLIP files carry along: cosines, sines, (576, 64)."""
    frequencies = 10000.0 ** (-torch.arange(0, 32, 2, dtype=torch.float32) / 32)
    positions = torch.arange(grid, dtype=torch.float32) * trained_grid / grid
    angles = (positions[:, None] * frequencies).repeat_interleave(2, dim=1)  # (24, 32)
    rows = angles[:, None].expand(grid, grid, 32)
    columns = angles[None].expand(grid, grid, 32)
    table = torch.cat([rows, columns], dim=2).reshape(grid * grid, 64)
    return table.cos(), table.sin()


def eva_file(sizes: TinySizes = TINY, *, seed: int = 0) -> bytes:
    """Give an EVA02-CLIP checkpoint: both towers in half precision, with the rotary tables."""
    tensors = tiny_state_dict(eva_shapes(sizes) | eva_text_shapes(sizes), seed)
    cosines, sines = (table.half() for table in rotary_tables())
    state: OrderedDict[str, Tensor] = OrderedDict({n: t.half() for n, t in tensors.items()})
    blocks = [f"visual.blocks.{block}.attn.rope" for block in range(sizes.eva_blocks)]
    for name in ("visual.rope", *blocks):
        state[f"{name}.freqs_cos"], state[f"{name}.freqs_sin"] = cosines, sines
    state["logit_scale"] = torch.tensor(4.6052).half()
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def deca_file(sizes: TinySizes = TINY, *, seed: int = 0) -> bytes:
    """Give a DECA checkpoint in torch's format from before 1.6, with the parts that go unread."""
    random = tiny_state_dict({f"E_flame.{n}": s for n, s in deca_shapes(sizes).items()}, seed)
    encoder = {name.removeprefix("E_flame."): tensor for name, tensor in random.items()}
    detail = {"layers.0.weight": (16, 32), "layers.0.bias": (16,)}
    content = {"E_flame": calibrate(encoder, sizes.deca_blocks, seed)}
    for part in ("E_detail", "D_detail"):
        drawn = tiny_state_dict({f"{part}.{n}": s for n, s in detail.items()}, seed)
        content[part] = {name.removeprefix(f"{part}."): tensor for name, tensor in drawn.items()}
    return legacy_torch_bytes(content)


def flame_file(mesh: HeadMesh, *, seed: int = 0) -> bytes:
    """Give a FLAME model as Python 2 pickled it; the shape directions are in single precision."""
    motion = build_motion(mesh, seed=seed)
    rows, columns = np.nonzero(motion.joint_regressor)
    weights = motion.joint_regressor[rows, columns]
    regressor = sparse_columns(rows, columns, weights, motion.joint_regressor.shape, np.float64)
    model: dict[str, object] = {
        "f": mesh.triangles.astype(np.uint32),
        "J_regressor": regressor,
        "kintree_table": np.array([PARENTS, range(len(PARENTS))], dtype=np.uint32),
        "J": JOINTS,
        "bs_style": "lbs",
        "bs_type": "lrotmin",
        "weights": motion.skinning,
        "posedirs": motion.pose_directions,
        "v_template": mesh.vertices,
        "shapedirs": ChumpyArray(motion.shape_directions.astype(np.float32)),
    }
    return flame_pickle(model)


def transforms_file(mesh: HeadMesh) -> bytes:
    """Give the mesh transforms of a template as they were released: a dict of five lists."""
    levels = build_transforms(mesh)
    return transforms_pickle(
        {
            "vertices": list(levels.vertices),
            "face": list(levels.triangles),
            "adj": list(levels.adjacency),
            "down_transform": list(levels.down),
            "up_transform": list(levels.up),
        }
    )
