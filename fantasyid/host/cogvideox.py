"""The host's CogVideoX: what it gets wrong for this model, and where the identity enters.

Everything hangs on `APPLY_MODEL` wrappers of a cloned ModelPatcher. A wrapper changes the shared
transformer only inside `try / finally` around one call, so that nothing is left on it, whatever
happens, and it stands outside whatever the host compiles or caches inside that call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import comfy.ldm.cogvideo.model
import comfy.patcher_extension
import torch
from torch import Tensor, nn

from ..identity import Identity
from ..injection import LayerInjector, LayerInjectors, injected_blocks
from ..rotary import rotary_table
from ..sincos import sincos_table

POSITIONS_KEY = "fantasyid_positions"
IDENTITY_KEY = "fantasyid_identity"
IN_CHANNELS = 32

Rotary = Callable[..., tuple[Tensor, Tensor]]


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


class ReleasedPositions:
    """Positions as the released pipeline computes them, for every size.

    The host multiplies the rotary grid of the 1.0 checkpoints by 1.875, and switches rotary off
    when the checkpoint has a learned table too (released-model facts, section 6). Its own table
    is compared with ours at each new size: a host that is already right is left alone.
    """

    def __init__(self) -> None:
        self._tables: dict[tuple, tuple[Tensor, Tensor]] = {}

    def __call__(self, executor: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Run the wrapped call with corrected positions."""
        transformer = executor.class_obj.diffusion_model
        rotary = self._corrected(transformer._get_rotary_emb)
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

    def _corrected(self, host_rotary: Rotary) -> Rotary:
        def rotary(h: int, w: int, t: int, device: torch.device) -> tuple[Tensor, Tensor]:
            key = (h, w, t, str(device))
            if key not in self._tables:
                host = host_rotary(h, w, t, device)
                ours = tuple(x.to(host[0]) for x in rotary_table(t, h, w, host[0].shape[-1]))
                right = all(
                    torch.allclose(a, b, atol=1e-4) for a, b in zip(host, ours, strict=True)
                )
                self._tables[key] = host if right else (ours[0], ours[1])
            return self._tables[key]

        return rotary


def needs_learned_positions(transformer: Any) -> bool:
    """Whether the host leaves rotary out for a checkpoint that has both kinds of positions."""
    learned = transformer.patch_embed.use_learned_positional_embeddings
    return learned and not transformer.use_rotary_positional_embeddings


def add_learned_positions(patch_embed: Any, inputs: tuple[Tensor, ...], embeds: Tensor) -> Tensor:
    """Forward hook: the whole learned table, text rows included, in place of the host's addition.

    Released behaviour: the text rows of the table are added too; for another number of frames
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
        model: MODEL.
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


class IdentityInjection:
    """Adds each injector's residual to the video hidden states after its block.

    The forward hooks are made once, so that a compiled model sees the same callables at every
    step. Keys and values are computed at the first step and dropped after the run.
    """

    def __init__(self, injectors: LayerInjectors, tokens: Tensor, strength: float) -> None:
        self._tokens, self._strength = tokens, strength
        self._keys_values: dict[tuple, tuple[Tensor, Tensor]] = {}
        self._hooks = [self._hook(i, layer) for i, layer in enumerate(injectors.in_order())]

    def __call__(self, executor: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Run the wrapped call with a hook on every injected block."""
        blocks = executor.class_obj.diffusion_model.blocks
        with ExitStack() as stack:
            for hook, i in zip(
                self._hooks, injected_blocks(len(blocks), len(self._hooks)), strict=True
            ):
                stack.callback(blocks[i].register_forward_hook(hook).remove)
            return executor(*args, **kwargs)

    def forget(self, _patcher: Any = None) -> None:
        """Free the keys and values; called by the host when sampling ends."""
        self._keys_values.clear()

    def _hook(self, number: int, injector: LayerInjector) -> Callable[..., Any]:
        def add_residual(_block: nn.Module, _inputs: Any, output: tuple[Tensor, Tensor]) -> Any:
            hidden_states, encoder_hidden_states = output
            key = (number, hidden_states.device, hidden_states.dtype)
            if key not in self._keys_values:
                self._keys_values[key] = injector.keys_values(self._tokens.to(hidden_states))
            residual = injector(hidden_states, *self._keys_values[key])
            return hidden_states + self._strength * residual, encoder_hidden_states

        return add_residual


def apply_identity(model: Any, adapter: Any, identity: Identity, strength: float) -> Any:
    """A clone of a MODEL that injects an identity into every block.

    Args:
        model: MODEL of a CogVideoX-5B-I2V; positions are corrected where they are not yet.
        adapter: `weights.Adapter`.
        identity: From the fusion stage, one person.
        strength: Factor on every residual; 1 is the released model, 0 adds nothing.

    Raises:
        ValueError: The MODEL is something else, or model, adapter and identity have different
            widths (all of them named).
    """
    transformer = require_cogvideox_i2v(model)
    config = adapter.injection
    if transformer.dim != config.dim:
        raise ValueError(
            f"the model is {transformer.dim} wide, the adapter {adapter.source} is made for "
            f"{config.dim}: they come from different checkpoints (tiny and real parts mixed?)"
        )
    injected_blocks(len(transformer.blocks), config.num_injectors)
    clone = model.clone() if has_released_positions(model) else correct_positions(model)
    if identity.is_empty or strength == 0.0:
        return clone
    if identity.tokens.shape[-1] != config.context_dim:
        raise ValueError(
            f"the identity's tokens are {identity.tokens.shape[-1]} wide, the adapter "
            f"{adapter.source} takes {config.context_dim}: make the identity with this adapter"
        )
    injection = IdentityInjection(adapter.injectors.model, identity.tokens, strength)
    clone.add_wrapper_with_key(
        comfy.patcher_extension.WrappersMP.APPLY_MODEL, IDENTITY_KEY, injection
    )
    clone.add_callback_with_key(
        comfy.patcher_extension.CallbacksMP.ON_CLEANUP, IDENTITY_KEY, injection.forget
    )
    others = clone.get_additional_models_with_key(IDENTITY_KEY)
    clone.set_additional_models(IDENTITY_KEY, [*others, adapter.injectors])
    return clone


def describe_application(model: Any, adapter: Any, identity: Identity, strength: float) -> str:
    """What the apply stage did, in a sentence or two."""
    words = ""
    if not has_released_positions(model):
        words = " The MODEL comes from another loader: its positions are corrected where needed."
    if identity.is_empty:
        return f"NO IDENTITY applied: {identity.empty_reason}.{words}"
    if strength == 0.0:
        return f"NO IDENTITY applied: strength is 0.{words}"
    count = adapter.injection.num_injectors
    return f"Identity is injected into {count} blocks at strength {strength:g}.{words}"
