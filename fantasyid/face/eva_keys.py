"""What is read of the EVA02-CLIP file: which entries, and the sizes they have.

The released network reads one hidden state of the vision tower, the output of block 19 of 24
(docs/released-model.md, sections 2 and 4). The blocks after it, the final norm and the head are
therefore never built, and their entries in the file are never loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

# Fixed by the format, in released and in small checkpoints alike.
HEAD_DIM = 64
PATCH = 14
IMAGE = 336
GRID = IMAGE // PATCH
LEVELS = 5  # hidden states are taken after every sixth of the depth; the last sixth is not read

PREFIX = "visual."
_BLOCK = re.compile(r"blocks\.(\d+)\.")
_LOOKS_LIKE = (
    ("face_abstractor.", "a FantasyID transformer: load it with the FantasyID model loader"),
    ("E_flame", "a DECA checkpoint: load it with the DECA loader"),
    ("blocks.", "a vision tower without the `visual.` prefix (a converted or timm file)"),
    ("vision_model.", "a Hugging Face CLIP vision model"),
    ("model.diffusion_model.", "a diffusion checkpoint"),
    ("text_model.", "a text encoder"),
)


def axes_of(
    shapes: Mapping[str, Sequence[int]], key: str, *expected: int | None
) -> tuple[int, ...]:
    """The shape of one entry, checked.

    Args:
        shapes: Shapes of a state dict.
        key: The entry.
        expected: One number per axis; None where every size is allowed.

    Raises:
        ValueError: The entry is missing or has another shape.
    """
    words = "(" + ", ".join("any" if n is None else str(n) for n in expected) + ")"
    if key not in shapes:
        raise ValueError(f"{key} is missing: expected a tensor of shape {words}")
    got = tuple(shapes[key])
    if len(got) != len(expected) or any(
        e is not None and e != g for e, g in zip(expected, got, strict=True)
    ):
        raise ValueError(f"{key} has shape {got}, expected {words}")
    return got


@dataclass(frozen=True, slots=True)
class EvaConfig:
    """Sizes of the vision tower.

    Attributes:
        dim: Width (released: 1024 = 16 heads of 64).
        depth: Blocks of the whole tower in the file (released: 24).
        mlp_dim: Inner width of SwiGLU (released: 2730).
        patch: Pixels per patch.
        image: Pixels per side of the input.
    """

    dim: int
    depth: int
    mlp_dim: int
    patch: int = PATCH
    image: int = IMAGE

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
    def from_shapes(shapes: Mapping[str, Sequence[int]]) -> EvaConfig:
        """Read the sizes from shapes under the released names without `visual.`.

        Both the whole tower of a file and what `eva_state_dict` leaves of it can be read: the
        whole one has the final norm.

        Raises:
            ValueError: An entry is missing or does not fit EVA02-CLIP at 336 px.
        """
        dim = axes_of(shapes, "cls_token", 1, 1, None)[-1]
        if dim % HEAD_DIM:
            raise ValueError(f"cls_token is {dim} wide, expected a multiple of {HEAD_DIM}")
        axes_of(shapes, "pos_embed", 1, GRID * GRID + 1, dim)
        axes_of(shapes, "patch_embed.proj.weight", dim, 3, PATCH, PATCH)
        mlp_dim = axes_of(shapes, "blocks.0.mlp.w1.weight", None, dim)[0]
        depth = _count_blocks(shapes)
        if "norm.weight" not in shapes:
            depth = depth * (LEVELS + 1) // LEVELS
        if depth % (LEVELS + 1):
            raise ValueError(
                f"the vision tower has {depth} blocks, expected a multiple of {LEVELS + 1} "
                "(EVA02_CLIP_L_336_psz14_s6B has 24)"
            )
        return EvaConfig(dim, depth, mlp_dim)


def _count_blocks(names: Iterable[str]) -> int:
    """How many `blocks.N` there are; their numbering must have no gap."""
    numbers = {int(m[1]) for name in names if (m := _BLOCK.match(name))}
    if not numbers or numbers != set(range(len(numbers))):
        raise ValueError(
            "the vision tower's blocks are not numbered 0, 1, 2, ... without a gap: "
            f"found {sorted(numbers)[:8]}"
        )
    return len(numbers)


def select_released_keys(names: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Which entries of EVA02_CLIP_L_336_psz14_s6B.pt are read, and why the others are not.

    Args:
        names: All keys of the file.

    Returns:
        Released name to our name, and unused released name to the reason.

    Raises:
        ValueError: The file holds no EVA02 vision tower; the message says what it looks like.
    """
    names = list(names)
    visual = [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]
    if not any(_BLOCK.match(name) for name in visual):
        raise ValueError(
            "expected EVA02_CLIP_L_336_psz14_s6B.pt with `visual.blocks.*` entries, but the file "
            f"looks like {_guess(names)}"
        )
    depth = _count_blocks(visual)
    built = EvaConfig(dim=0, depth=depth, mlp_dim=0).built_depth
    needed: dict[str, str] = {}
    unused: dict[str, str] = {}
    for name in names:
        reason = _why_unused(name, built)
        if reason:
            unused[name] = reason
        else:
            needed[name] = name.removeprefix(PREFIX)
    return needed, unused


def _why_unused(name: str, built_depth: int) -> str:
    """The reason why an entry of the released file is not loaded; "" for one that is."""
    if not name.startswith(PREFIX):
        return "text tower or logit scale: only the vision tower sees the face"
    name = name.removeprefix(PREFIX)
    if "rope." in name:
        return "rotary tables are computed"
    if (match := _BLOCK.match(name)) and int(match[1]) >= built_depth:
        return f"block after the last hidden state that is read (block {built_depth - 1})"
    if name.startswith(("norm.", "head.")):
        return "final norm and head come after the last hidden state that is read"
    return ""


def _guess(names: Sequence[str]) -> str:
    """What a checkpoint without an EVA02 vision tower may be."""
    for start, words in _LOOKS_LIKE:
        if any(name.startswith(start) for name in names):
            return words
    if any(name.startswith(PREFIX) for name in names):
        return "another CLIP model: its vision tower has no `visual.blocks.*`"
    return f"something else: its entries start with {', '.join(names[:3]) or '(none)'}"


def eva_state_dict(checkpoint: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `EvaVisionTransformer` loads from the released file, under its own names.

    Raises:
        ValueError: The file holds no EVA02 vision tower; the message says what it looks like.
    """
    needed, _ = select_released_keys(checkpoint)
    return {ours: checkpoint[released] for released, ours in needed.items()}
