"""Identities into the host's CogVideoX: one wrapper per MODEL, forward hooks on its blocks.

All identities of a MODEL sit in one `APPLY_MODEL` wrapper. Each is computed from the block's plain
output and their residuals are added, so their order does not matter. Hooks live inside one
`try / finally` around one call of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..injection.layers import InjectedIdentity, LayerInjectors, injected_blocks, weigh_values
from ..injection.steering import CONDITIONAL, OWN, Steering, mask_tokens
from .cogvideox import own_transformer, token_grid
from .record import Recorder, share_of_schedule

IDENTITY_KEY = "fantasyid_identity"
# A conditioning that carries this model cond is the identity-free branch of guidance.
IDENTITY_FREE = "fantasyid_identity_free"
# A record measures all video tokens of small videos, every seventh of large ones: a seventh shares
# no factor with the usual numbers of columns, and the cost stays far below 1 % of a block.
MEASURED_ALL, MEASURED_EVERY = 4096, 7


@dataclass(frozen=True, slots=True, eq=False)
class Applied:
    """One identity on a MODEL.

    Attributes:
        injectors: Patcher of `LayerInjectors`.
        keys_values: `(L, 2, 1, K, C)` of L injectors, on the CPU, in the model's dtype.
        num_face_tokens: How many of the K are face tokens.
        steering: The dials.
        factors: Constant factor of each injector.
    """

    injectors: Any
    keys_values: Tensor
    num_face_tokens: int
    steering: Steering
    factors: tuple[float, ...]

    def weighed(self, like: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Keys and values per injector on a device, with the constant dials in the values."""
        own, shared = self.keys_values, self.steering.shared_layer
        moved = (own if shared == OWN else own[shared].expand_as(own)).to(like)
        pairs = []
        for (keys, values), factor in zip(moved, self.factors, strict=True):
            values = weigh_values(
                values, self.num_face_tokens, self.steering.looks, self.steering.shape
            )
            pairs.append((keys, values if factor == 1.0 else values * factor))
        return pairs


@dataclass(slots=True, eq=False)
class Slot:
    """What the hook of one block reads; filled before each call of the model.

    Attributes:
        groups: Per adapter, its injector and the identities for it.
        norms: Per item of the batch, `(2, B)`: length of the residual and of the hidden states;
            None where nothing is recorded.
        record: Whether to measure `norms`.
    """

    groups: list[tuple[nn.Module, list[InjectedIdentity]]] = field(default_factory=list)
    norms: Tensor | None = None
    record: bool = False


def _hook(slot: Slot) -> Callable[..., Any]:
    def add_residual(_block: nn.Module, _inputs: Any, output: tuple[Tensor, Tensor]) -> Any:
        if not isinstance(output, (tuple, list)) or len(output) != 2:
            raise ValueError(
                "a block of this ComfyUI's CogVideoX does not return video and text hidden states "
                "as a pair: update ComfyUI-FantasyID, or take the ComfyUI that its README names"
            )
        hidden_states, encoder_hidden_states = output
        (injector, identities), *others = slot.groups
        residual = injector(hidden_states, identities)
        for injector, identities in others:
            residual = residual + injector(hidden_states, identities)
        if slot.record:
            step = MEASURED_EVERY if hidden_states.shape[1] > MEASURED_ALL else 1
            lengths = [
                torch.linalg.vector_norm(part[:, ::step], dim=(1, 2), dtype=torch.float32)
                for part in (residual, hidden_states)
            ]
            slot.norms = torch.stack(lengths)
        return hidden_states + residual, encoder_hidden_states

    return add_residual


class _Run:
    """The state of one sampling run on one device; slots and hooks outlive it.

    The hooks are made once, so that a compiled transformer sees the same callables at every step.
    """

    def __init__(self, count: int) -> None:
        self.slots = [Slot() for _ in range(count)]
        self.hooks = [_hook(slot) for slot in self.slots]
        self.keys_values: dict[tuple, list[tuple[Tensor, Tensor]]] = {}
        self.masks: dict[tuple, Tensor] = {}

    def forget(self) -> None:
        """Free everything that was on the device."""
        self.keys_values.clear()
        self.masks.clear()
        for slot in self.slots:
            slot.groups, slot.norms = [], None


class IdentityInjection:
    """Adds the residuals of all identities to the video hidden states after each block.

    Args:
        applied: The identities; all have as many injectors.
        recorder: Where to note how much is added, or None.
    """

    def __init__(self, applied: Sequence[Applied], recorder: Recorder | None = None) -> None:
        self.applied, self.recorder = tuple(applied), recorder
        self._runs: dict[torch.device, _Run] = {}

    def __call__(self, executor: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Run the wrapped call with a hook on every block that gets something."""
        if kwargs.pop(IDENTITY_FREE, None) is not None:
            return executor(*args, **kwargs)
        base, call = executor.class_obj, Call(executor.class_obj, args, kwargs)
        if call.device not in self._runs:
            self._runs[call.device] = _Run(len(self.applied[0].factors))
        run = self._runs[call.device]
        self._fill(run, base, call)
        transformer = own_transformer(base)
        with ExitStack() as stack:
            numbers = injected_blocks(len(transformer.blocks), len(run.slots))
            for slot, hook, number in zip(run.slots, run.hooks, numbers, strict=True):
                if slot.groups:
                    block = transformer.blocks[number]
                    stack.callback(block.register_forward_hook(hook).remove)
            output = executor(*args, **kwargs)
        if self.recorder is not None:
            nothing = torch.zeros(2, call.batch)
            norms = [slot.norms if slot.groups else nothing for slot in run.slots]
            self.recorder.note(call.sigma, call.cond_or_uncond, norms)
        return output

    def begin(self, _patcher: Any = None) -> None:
        """Called by the host before a run."""
        if self.recorder is not None:
            self.recorder.begin()

    def forget(self, _patcher: Any = None) -> None:
        """Free what is on the devices; called by the host when sampling ends, however it ends."""
        for run in self._runs.values():
            run.forget()

    def _fill(self, run: _Run, base: Any, call: Call) -> None:
        """Put into each slot what this call of the model injects after its block."""
        for slot in run.slots:
            slot.groups, slot.norms, slot.record = [], None, self.recorder is not None
        for number, applied in enumerate(self.applied):
            there, scale = self._scale(run, number, applied.steering, call)
            if not there:
                continue
            like = torch.empty(0, device=call.device, dtype=call.dtype)
            key = (number, call.dtype)
            if key not in run.keys_values:
                run.keys_values[key] = applied.weighed(like)
            layers = _injectors_for(base, applied).in_order()
            if applied.steering.shared_layer != OWN:
                layers = [layers[applied.steering.shared_layer]] * len(layers)
            pairs = run.keys_values[key]
            for i, ((keys, values), factor) in enumerate(zip(pairs, applied.factors, strict=True)):
                if factor != 0.0:
                    _join(run.slots[i].groups, layers[i], InjectedIdentity(keys, values, scale))

    @staticmethod
    def _scale(
        run: _Run, number: int, steering: Steering, call: Call
    ) -> tuple[bool, Tensor | None]:
        """Whether an identity takes part in a call, and its factor where that is not 1."""
        scale: Tensor | None = None
        if steering.changes_over_time:
            factor = steering.at(call.percent)
            if factor == 0.0:
                return False, None
            if factor != 1.0:
                scale = torch.full((), factor, device=call.device, dtype=call.dtype)
        if steering.branches == CONDITIONAL:
            rows = call.conditional_rows
            if not any(rows):
                return False, None
            if not all(rows):
                on = torch.tensor(rows, device=call.device, dtype=call.dtype)[:, None, None]
                scale = on if scale is None else scale * on
        if steering.mask is not None:
            key = (number, call.dtype, *call.place)
            if key not in run.masks:
                run.masks[key] = mask_tokens(steering.mask, *call.place).to(call.device, call.dtype)
            scale = run.masks[key] if scale is None else scale * run.masks[key]
        return True, scale


class Call:
    """What one call of the host's `apply_model` says about itself.

    Attributes:
        dtype: In which the transformer computes.
        sigma: `(B,)`, on the device.
        cond_or_uncond: The host's number of the branch of each part of the batch; 0 is conditional.
    """

    def __init__(self, base: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        self._base, self._x = base, args[0]
        options = args[5] if len(args) > 5 else kwargs.get("transformer_options", {})
        self.device, self.dtype = self._x.device, base.get_dtype_inference()
        self.batch = self._x.shape[0]
        self.sigma: Tensor = args[1]
        self.cond_or_uncond: list[int] = list(options.get("cond_or_uncond", [0]))
        self._window = options.get("context_window")

    @property
    def percent(self) -> float:
        """Share of the schedule, 0 at the noisiest timestep. Waits for the device: only read by
        identities that change over time."""
        return share_of_schedule(self._base.model_sampling, float(self.sigma[0]))

    @property
    def conditional_rows(self) -> list[float]:
        """1 or 0 per item of the batch."""
        repeat = self.batch // len(self.cond_or_uncond)
        return [float(branch == 0) for branch in self.cond_or_uncond for _ in range(repeat)]

    @property
    def place(self) -> tuple[int, int, int, tuple[int, ...] | None]:
        """Latent frames of the whole video, token rows and columns, and the frames seen here."""
        frames, rows, columns = token_grid(own_transformer(self._base), self._x)
        window = self._window
        if window is None or getattr(window, "dim", 2) != 2:
            return frames, rows, columns, None
        anchor = getattr(window, "causal_anchor_index", None)
        seen = [*([anchor] if anchor is not None and anchor >= 0 else []), *window.index_list]
        if len(seen) != frames:  # left over from another run
            return frames, rows, columns, None
        return window.total_frames, rows, columns, tuple(seen)


def _join(
    groups: list[tuple[nn.Module, list[InjectedIdentity]]],
    injector: nn.Module,
    identity: InjectedIdentity,
) -> None:
    """Add an identity to the group of its injector."""
    for known, identities in groups:
        if known is injector:
            identities.append(identity)
            return
    groups.append((injector, [identity]))


def _injectors_for(base: Any, applied: Applied) -> LayerInjectors:
    """The adapter's injectors on the device of a model: with several GPUs the host copies them."""
    patcher = base.current_patcher
    if patcher is not None:
        for copy in patcher.get_additional_models_with_key(IDENTITY_KEY):
            if copy.clone_base_uuid == applied.injectors.clone_base_uuid:
                return copy.model
    return applied.injectors.model
