"""Which weights the base transformer of a checkpoint must have, and what its config may say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..shapes import ShapeReader, Shapes

HEAD_DIM = 64
IN_CHANNELS = 32
PATCH = 2
TEXT_TOKENS = 226
POSITIONS = "patch_embed.pos_embedding"


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """Sizes of CogVideoX image-to-video 1.0, read from shapes under the host's names."""

    dim: int  # width (released: 3072 = 48 heads of 64)
    blocks: int  # depth (released: 42)
    time_dim: int  # width of the time embedding (released: 512)
    text_dim: int  # width of the text embeddings (released: 4096)
    out_channels: int  # latent channels (released: 16)
    positions: int  # rows of the learned position table, 0 without one

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> TransformerConfig:
        """Read the sizes.

        Raises:
            ValueError: The transformer is not CogVideoX image-to-video 1.0, or lacks a key that
                its sizes are read from.
        """
        read = ShapeReader(shapes, "transformer of CogVideoX-5B-I2V 1.0")
        dim, channels = read.axes("patch_embed.proj.weight", None, None, PATCH, PATCH)[:2]
        if channels != IN_CHANNELS:
            raise read.error(
                f"there are {channels} input channels; FantasyID needs the image-to-video kind "
                f"with {IN_CHANNELS} (noise and face latent)"
            )
        read.multiple("patch_embed.proj", dim, HEAD_DIM)
        time_dim = read.size("time_embedding_linear_1.weight", None, dim)
        return cls(
            dim=dim,
            blocks=read.count("blocks.{}."),
            time_dim=time_dim,
            text_dim=read.size("patch_embed.text_proj.weight", dim, None),
            out_channels=read.size("proj_out.weight", None, dim) // PATCH**2,
            positions=read.size(POSITIONS, 1, None, dim) if POSITIONS in shapes else 0,
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

    def differences(self, stated: Mapping[str, Any]) -> list[str]:
        """Where a `config.json` beside these weights says something else, in words."""
        found = {
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
        words = [
            f"{name} = {stated[name]}, the weights say {value}"
            for name, value in found.items()
            if name in stated and stated[name] != value
        ]
        # The learned table has a row for each text token and each patch of the trained video.
        names = ("sample_frames", "sample_height", "sample_width")
        sizes = [stated.get(name) for name in names]
        if self.positions and all(isinstance(size, int) for size in sizes):
            frames, height, width = (int(size or 0) for size in sizes)
            latent_frames = (frames - 1) // stated.get("temporal_compression_ratio", 4) + 1
            text_tokens = stated.get("max_text_seq_length", TEXT_TOKENS)
            rows = text_tokens + latent_frames * (height // PATCH) * (width // PATCH)
            if rows != self.positions:
                there = f"the weights have {self.positions}"
                words.append(f"{rows} positions ({', '.join(names)}), {there}")
        return words
