"""Which keys and shapes the base transformer of a checkpoint must have, and its `config.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..weights.keys import ReleasedKeys, Shapes, check_state_dict
from ..weights.lookalikes import describe_keys
from ..weights.read import transformer_folder

HEAD_DIM = 64
IN_CHANNELS = 32
PATCH = 2
TEXT_TOKENS = 226
POSITIONS = "patch_embed.pos_embedding"


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """Sizes of CogVideoX image-to-video 1.0, read from shapes under the host's names.

    Attributes:
        dim: Width (released: 3072 = 48 heads of 64).
        blocks: Depth (released: 42).
        time_dim: Width of the time embedding (released: 512).
        text_dim: Width of the text embeddings (released: 4096).
        out_channels: Latent channels (released: 16).
        positions: Rows of the learned position table, 0 without one.
    """

    dim: int
    blocks: int
    time_dim: int
    text_dim: int
    out_channels: int
    positions: int

    @classmethod
    def from_shapes(cls, shapes: Mapping[str, Sequence[int]]) -> TransformerConfig:
        """Read the sizes.

        Raises:
            ValueError: The transformer is not CogVideoX image-to-video 1.0, or lacks a key that
                its sizes are read from.
        """

        def shape(name: str, axes: int) -> tuple[int, ...]:
            found = tuple(shapes.get(name, ()))
            if len(found) != axes:
                raise ValueError(
                    f"{name} is {found or 'missing'}, expected {axes} axes: this is not the "
                    "transformer of CogVideoX-5B-I2V 1.0"
                )
            return found

        dim, channels, *patch = shape("patch_embed.proj.weight", 4)
        if channels != IN_CHANNELS or patch != [PATCH, PATCH]:
            raise ValueError(
                f"the transformer has {channels} input channels and patches of {patch}; FantasyID "
                f"needs the image-to-video kind with {IN_CHANNELS} (noise and face latent)"
            )
        if dim % HEAD_DIM:
            raise ValueError(f"the transformer is {dim} wide, expected a multiple of {HEAD_DIM}")
        numbers = {int(m[1]) for name in shapes if (m := re.match(r"blocks\.(\d+)\.", name))}
        return cls(
            dim=dim,
            blocks=len(numbers),
            time_dim=shape("time_embedding_linear_1.weight", 2)[0],
            text_dim=shape("patch_embed.text_proj.weight", 2)[1],
            out_channels=shape("proj_out.weight", 2)[0] // PATCH**2,
            positions=shape(POSITIONS, 3)[1] if POSITIONS in shapes else 0,
        )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor under the host's names."""
        dim, time_dim = self.dim, self.time_dim
        found: dict[str, tuple[int, ...]] = {
            "patch_embed.proj.weight": (dim, IN_CHANNELS, PATCH, PATCH),
            "patch_embed.proj.bias": (dim,),
        }
        if self.positions:
            found[POSITIONS] = (1, self.positions, dim)
        linears = {
            "patch_embed.text_proj": (dim, self.text_dim),
            "time_embedding_linear_1": (time_dim, dim),
            "time_embedding_linear_2": (time_dim, time_dim),
            "norm_out.linear": (2 * dim, time_dim),
            "proj_out": (self.out_channels * PATCH**2, dim),
        }
        norms = {"norm_final": dim, "norm_out.norm": dim}
        for block in range(self.blocks):
            linears |= {f"blocks.{block}.{name}": (dim, dim) for name in ("q", "k", "v")}
            linears |= {
                f"blocks.{block}.attn_out": (dim, dim),
                f"blocks.{block}.ff_proj": (4 * dim, dim),
                f"blocks.{block}.ff_out": (dim, 4 * dim),
                f"blocks.{block}.norm1.linear": (6 * dim, time_dim),
                f"blocks.{block}.norm2.linear": (6 * dim, time_dim),
            }
            norms |= {f"blocks.{block}.{name}.norm": dim for name in ("norm1", "norm2")}
            norms |= {f"blocks.{block}.{name}": HEAD_DIM for name in ("norm_q", "norm_k")}
        for name, (rows, columns) in linears.items():
            found |= {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}
        for name, width in norms.items():
            found |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
        return found

    def stated(self) -> dict[str, Any]:
        """What a `config.json` beside these weights must say, where it says anything."""
        return {
            "num_layers": self.blocks,
            "num_attention_heads": self.dim // HEAD_DIM,
            "attention_head_dim": HEAD_DIM,
            "in_channels": IN_CHANNELS,
            "out_channels": self.out_channels,
            "patch_size": PATCH,
            "patch_size_t": None,
            "ofs_embed_dim": None,
            "text_embed_dim": self.text_dim,
            "time_embed_dim": self.time_dim,
            "use_learned_positional_embeddings": bool(self.positions),
        }


def check_config_file(config_file: Path, config: TransformerConfig) -> None:
    """`config.json` must agree with the weights beside it; without the file there is no check.

    Raises:
        ValueError: It is no JSON, or numbers in it differ from what the shapes say.
    """
    if not config_file.is_file():
        return
    try:
        stated = json.loads(config_file.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{config_file} is no JSON: {error}") from error
    if not isinstance(stated, dict):
        raise ValueError(f"{config_file} holds a {type(stated).__name__}, expected a table")
    differences = [
        f"{name} = {stated[name]}, the weights say {found}"
        for name, found in config.stated().items()
        if name in stated and stated[name] != found
    ]
    if config.positions:
        differences += _positions_difference(stated, config.positions)
    if differences:
        raise ValueError(
            f"{config_file} says {'; '.join(differences[:5])}: config and weights belong to "
            "different checkpoints"
        )


def _positions_difference(stated: Mapping[str, Any], positions: int) -> list[str]:
    """The learned table has a row for each text token and each patch of the trained video."""
    names = ("sample_frames", "sample_height", "sample_width")
    sizes = [stated.get(name) for name in names]
    if not all(type(size) is int for size in sizes):
        return []
    frames, height, width = (int(size or 0) for size in sizes)
    compression = stated.get("temporal_compression_ratio", 4)
    latent_frames = (frames - 1) // compression + 1
    text_tokens = stated.get("max_text_seq_length", TEXT_TOKENS)
    rows = text_tokens + latent_frames * (height // PATCH) * (width // PATCH)
    if rows == positions:
        return []
    return [f"{rows} positions ({', '.join(names)}), the weights have {positions}"]


def check_base(path: Path, keys: ReleasedKeys, shapes: Shapes) -> TransformerConfig:
    """A checkpoint must have a whole CogVideoX-5B-I2V 1.0 transformer, and nothing unknown.

    Args:
        path: The folder or file, whose `config.json` is compared too.
        keys: Its keys by part.
        shapes: The file's own names to shapes.

    Raises:
        ValueError: Names the file, what is wrong, and what the file looks like instead.
    """
    looks_like = describe_keys(shapes)
    if not keys.base:
        hint = ""
        if keys.has_adapter:
            hint = (
                ". Load it with Load FantasyID Adapter, and a CogVideoX-5B-I2V with Load "
                "Diffusion Model"
            )
        raise ValueError(f"{path} has no CogVideoX transformer: {looks_like}{hint}")
    found = {name: tuple(shapes[key]) for name, key in keys.base.items()}
    try:
        config = TransformerConfig.from_shapes(found)
    except ValueError as error:
        raise ValueError(f"{path}: {error} ({looks_like})") from error
    check_config_file(transformer_folder(path) / "config.json", config)
    unknown = {key: tuple(shapes[key]) for key in keys.unknown}
    try:
        check_state_dict(config.shapes(), found | unknown, str(path))
    except ValueError as error:
        raise ValueError(f"{error} Otherwise {looks_like}") from error
    return config
