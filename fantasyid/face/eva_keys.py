"""What is read of the EVA02-CLIP file: which entries, and the sizes they have.

The released network reads one hidden state of the vision tower, the output of block 19 of 24
(docs/released-model.md, sections 2 and 4). The blocks after it, the final norm and the head are
therefore never built, and their entries in the file are never loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..key_map import KeyMap
from ..shapes import ShapeReader, Shapes

# Fixed by the format, in released and in small checkpoints alike.
HEAD_DIM = 64
PATCH = 14
IMAGE = 336
GRID = IMAGE // PATCH
LEVELS = 5  # hidden states are taken after every sixth of the depth; the last sixth is not read

_BLOCK = re.compile(r"blocks\.(\d+)\.")
# As a converted file has them; in the published one each stands behind PREFIX.
PREFIX = "visual."
EVA_KEYS = KeyMap(
    [
        ("cls_token", "class_token"),
        ("pos_embed", "positions"),
        ("patch_embed.proj.*", "patch_embed.proj.*"),
        ("blocks.{i}.attn.inner_attn_ln.*", "blocks.{i}.attn.norm.*"),
        ("blocks.{i}.mlp.w1.*", "blocks.{i}.mlp.gate.*"),
        ("blocks.{i}.mlp.w2.*", "blocks.{i}.mlp.up.*"),
        ("blocks.{i}.mlp.w3.*", "blocks.{i}.mlp.down.*"),
        ("blocks.{i}.mlp.ffn_ln.*", "blocks.{i}.mlp.norm.*"),
        ("blocks.{i}.*", "blocks.{i}.*"),
    ]
)


@dataclass(frozen=True, slots=True)
class EvaConfig:
    """Sizes of the vision tower."""

    dim: int  # width (released: 1024 = 16 heads of 64)
    depth: int  # blocks of the whole tower in the file (released: 24)
    mlp_dim: int  # inner width of SwiGLU (released: 2730)
    patch: int = PATCH  # pixels per patch
    image: int = IMAGE  # pixels per side of the input

    @property
    def grid(self) -> int:
        """Patches per side."""
        return self.image // self.patch

    @property
    def num_heads(self) -> int:
        """Attention heads; the head width is 64 in every checkpoint."""
        return self.dim // HEAD_DIM

    @property
    def levels(self) -> tuple[int, ...]:
        """Blocks whose outputs are the hidden states 0..4 (released: 3, 7, 11, 15, 19)."""
        return tuple((i + 1) * self.depth // (LEVELS + 1) - 1 for i in range(LEVELS))

    @property
    def built_depth(self) -> int:
        """Blocks that are built: up to the last level (released: 20)."""
        return self.levels[-1] + 1

    @staticmethod
    def from_shapes(shapes: Shapes) -> EvaConfig:
        """Read the sizes from the shapes of a state dict in our names.

        Raises:
            ValueError: An entry is missing or does not fit EVA02-CLIP at 336 px.
        """
        read = ShapeReader(shapes, "EVA02-CLIP")
        dim = read.size("class_token", 1, 1, None)
        read.multiple("class_token", dim, HEAD_DIM)
        read.axes("positions", 1, GRID * GRID + 1, dim)
        read.axes("patch_embed.proj.weight", dim, 3, PATCH, PATCH)
        mlp_dim = read.size("blocks.0.mlp.gate.weight", None, dim)
        built = read.count("blocks.{}.")
        if built % LEVELS:
            raise read.error(f"{built} blocks are used, expected a multiple of {LEVELS} (20 of 24)")
        return EvaConfig(dim, built // LEVELS * (LEVELS + 1), mlp_dim)


def unused_key(name: str, depth: int) -> str:
    """Why an entry of the published file is not loaded; "" for one that is.

    Args:
        name: A key of the file.
        depth: Blocks of the tower in the file.
    """
    if not name.startswith(PREFIX):
        return "text tower or logit scale: only the vision tower sees the face"
    name = name.removeprefix(PREFIX)
    last = EvaConfig(dim=0, depth=depth, mlp_dim=0).levels[-1]
    if "rope." in name:
        return "rotary tables are computed"
    if (match := _BLOCK.match(name)) and int(match[1]) > last:
        return f"block after the last hidden state that is read (block {last})"
    if name.startswith(("norm.", "head.")):
        return "final norm and head come after the last hidden state that is read"
    return ""


def used_keys(names: Iterable[str]) -> dict[str, str]:
    """The entries of EVA02_CLIP_L_336_psz14_s6B.pt that are read.

    Args:
        names: All keys of the file, the published one or a converted one.

    Returns:
        Key without `visual.` to key in the file.

    Raises:
        ValueError: The file holds no EVA02 vision tower.
    """
    keys = list(names)
    if "cls_token" in keys:
        return {key: key for key in keys}
    numbers = [int(m[1]) for k in keys if (m := _BLOCK.match(k.removeprefix(PREFIX)))]
    if (
        PREFIX + "cls_token" not in keys
        or not numbers
        or (depth := max(numbers) + 1) % (LEVELS + 1)
    ):
        raise ValueError(
            "expected EVA02_CLIP_L_336_psz14_s6B.pt, whose `visual.blocks.*` are a multiple of "
            f"{LEVELS + 1}, but {len(set(numbers))} blocks of a vision tower were found"
        )
    return {key.removeprefix(PREFIX): key for key in keys if not unused_key(key, depth)}
