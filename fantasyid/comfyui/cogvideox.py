"""The host's CogVideoX: which MODEL fits, and what the host gets wrong for this one.

Everything hangs on `APPLY_MODEL` wrappers of a cloned ModelPatcher. A wrapper changes the shared
transformer only inside `try / finally` around one call, so that nothing is left on it, whatever
happens, and it stands outside whatever the host compiles or caches inside that call.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import comfy.ldm.cogvideo.model
import comfy.patcher_extension
import torch
from torch import Tensor, nn

from ..cogvideox.positions import rotary_table, sincos_table

POSITIONS_KEY = "fantasyid_positions"
IN_CHANNELS = 32


def require_cogvideox_i2v(model: Any) -> Any:
    """The transformer of a MODEL that this extension can steer.

    Raises:
        ValueError: The MODEL is of another family, or a CogVideoX without image channels, or of
            the 1.5 generation.
    """
    transformer: Any = getattr(model.model, "diffusion_model", None)
    kind: Any = comfy.ldm.cogvideo.model.CogVideoXTransformer3DModel
    if not isinstance(transformer, kind):
        raise ValueError(
            f"the model input holds a {type(model.model).__name__}; FantasyID needs CogVideoX-5B "
            "image-to-video: use Load FantasyID Model, or load CogVideoX-5B-I2V"
        )
    if transformer.in_channels != IN_CHANNELS:
        raise ValueError(
            f"the model input holds a CogVideoX with {transformer.in_channels} input channels; "
            f"FantasyID needs the image-to-video kind with {IN_CHANNELS} (noise and face latent)"
        )
    if transformer.patch_size_t is not None:
        raise ValueError(
            "the model input holds a CogVideoX 1.5 (patches over time); FantasyID is trained on "
            "CogVideoX-5B-I2V 1.0"
        )
    return transformer


def compute_dtype(model: Any) -> torch.dtype:
    """In which dtype a MODEL will compute.

    The shared base tells what the clone that is loaded just now computes in, so it is asked only
    for what this MODEL leaves as it is.
    """
    return model.get_model_object("manual_cast_dtype") or model.model.get_dtype()


def own_transformer(base: Any) -> Any:
    """The transformer of a host's model itself, also while a compiled form stands in its place."""
    transformer = base.diffusion_model
    return getattr(transformer, "_orig_mod", transformer)


@contextmanager
def _attribute(module: nn.Module, name: str, value: Any) -> Iterator[None]:
    """Set a plain attribute of a module for the length of a `with` block."""
    had = name in vars(module)
    before = vars(module).get(name)
    setattr(module, name, value)
    try:
        yield
    finally:
        if had:
            setattr(module, name, before)
        else:
            vars(module).pop(name, None)


class FixedRotary:
    """Stands in for the transformer's own rotary method at one size.

    One object per size lasts for the life of the MODEL, so a compiled transformer sees the same
    callable at every step.
    """

    def __init__(self, table: tuple[Tensor, Tensor]) -> None:
        self._table = table

    def __call__(self, *_size: int, **_where: Any) -> tuple[Tensor, Tensor]:
        """Cosines and sines `(t * h * w, head_dim)`; the arguments are the host's."""
        return self._table


class ReleasedPositions:
    """Positions as the released pipeline computes them, for every size.

    The host multiplies the rotary grid of the 1.0 checkpoints by 1.875, and switches rotary off
    when the checkpoint has a learned table too (docs/released-model.md, section 6). Its own table
    is compared with ours at each new size: a host that is already right is left alone.
    """

    def __init__(self) -> None:
        self._rotary: dict[tuple, FixedRotary] = {}

    def __call__(self, executor: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Run the wrapped call with corrected positions."""
        transformer = own_transformer(executor.class_obj)
        rotary = self._corrected(transformer, args[0])
        with ExitStack() as stack:
            stack.enter_context(_attribute(transformer, "_get_rotary_emb", rotary))
            if needs_learned_positions(transformer):
                embed = transformer.patch_embed
                for module, name, value in (
                    (transformer, "use_rotary_positional_embeddings", True),
                    (embed, "use_learned_positional_embeddings", False),
                    (embed, "use_positional_embeddings", False),
                ):
                    stack.enter_context(_attribute(module, name, value))
                stack.callback(embed.register_forward_hook(add_learned_positions).remove)
            return executor(*args, **kwargs)

    def _corrected(self, transformer: Any, x: Tensor) -> FixedRotary:
        size = token_grid(transformer, x)
        key = (*size, str(x.device))
        if key not in self._rotary:
            t, h, w = size
            host = transformer._get_rotary_emb(h, w, t, device=x.device)
            ours = tuple(part.to(host[0]) for part in rotary_table(t, h, w, host[0].shape[-1]))
            right = all(torch.allclose(a, b, atol=1e-4) for a, b in zip(host, ours, strict=True))
            self._rotary[key] = FixedRotary(host if right else (ours[0], ours[1]))
        return self._rotary[key]


def token_grid(transformer: Any, x: Tensor) -> tuple[int, int, int]:
    """Frames, rows and columns of video tokens for latents `(B, C, T, H, W)`, odd sides padded."""
    frames, height, width = x.shape[-3:]
    patch = transformer.patch_size
    return frames, -(-height // patch), -(-width // patch)


def needs_learned_positions(transformer: Any) -> bool:
    """Whether the host leaves rotary out for a checkpoint that has both kinds of positions."""
    learned = transformer.patch_embed.use_learned_positional_embeddings
    return learned and not transformer.use_rotary_positional_embeddings


def add_learned_positions(patch_embed: Any, inputs: tuple[Tensor, ...], embeds: Tensor) -> Tensor:
    """Forward hook: the whole learned table, text rows included, in place of the host's addition.

    Released behavior: the text rows of the table are added too; for another number of frames
    than the table's, it is replaced by a sine-cosine table without text rows.
    """
    text, latents = inputs  # (B, L, C_text), (B, T, C, H, W)
    size, expected = _table_size(patch_embed), latents.shape[1:2] + latents.shape[3:]
    num_text = text.shape[1]
    num_video = embeds.shape[1] - num_text
    table = embeds.new_zeros(1, embeds.shape[1], embeds.shape[2])
    if expected[0] == size[0]:
        rows = patch_embed.pos_embedding.to(embeds)
        max_text = patch_embed.max_text_seq_length
        table[:, num_text:] = rows[:, max_text : max_text + num_video]
        table[:, : min(num_text, max_text)] = rows[:, : min(num_text, max_text)]
    else:
        rows, columns = (side // patch_embed.patch_size for side in expected[1:])
        positions = sincos_table(expected[0], rows, columns, embeds.shape[2])
        table[:, num_text:] = positions.to(embeds)
    return embeds + table


def _table_size(patch_embed: Any) -> tuple[int, int, int]:
    """Latent frames, height and width that a learned table was made for."""
    frames = (patch_embed.sample_frames - 1) // patch_embed.temporal_compression_ratio + 1
    return frames, patch_embed.sample_height, patch_embed.sample_width


def check_learned_size(model: Any, height: int, width: int) -> None:
    """Refuse latents that a learned position table has no room for.

    Args:
        height: Latent rows.
        width: Latent columns.

    Raises:
        ValueError: The checkpoint has learned positions, made for another height or width.
    """
    transformer = require_cogvideox_i2v(model)
    if not transformer.patch_embed.use_learned_positional_embeddings:
        return
    _, table_height, table_width = _table_size(transformer.patch_embed)
    if (height, width) != (table_height, table_width):
        raise ValueError(
            f"this checkpoint has learned positions for {table_width * 8}x{table_height * 8} "
            f"pixels only, the latent is {width * 8}x{height * 8}: set that size in the FantasyID "
            "Face Latent node"
        )


def frames_at_once(model: Any, frames: int) -> int:
    """How many latent frames one call of a MODEL gets, with the host's context windows or not."""
    windows = model.model_options.get("context_handler")
    if windows is None or getattr(windows, "dim", 2) != 2:
        return frames  # windows over another axis do not shorten the clip
    anchor = int(bool(getattr(windows, "causal_window_fix", False)))
    return min(frames, getattr(windows, "context_length", frames) + anchor)


def has_released_positions(model: Any) -> bool:
    """Whether a MODEL already carries the corrected positions."""
    kind = comfy.patcher_extension.WrappersMP.APPLY_MODEL
    return bool(model.get_wrappers(kind, POSITIONS_KEY))


def correct_positions(model: Any) -> Any:
    """A clone of a MODEL with the positions of the released pipeline."""
    clone = model.clone()
    clone.add_wrapper_with_key(
        comfy.patcher_extension.WrappersMP.APPLY_MODEL, POSITIONS_KEY, ReleasedPositions()
    )
    return clone
