"""Identities into the host's CogVideoX: one `APPLY_MODEL` wrapper per MODEL.

All identities of a MODEL sit in one wrapper. Each is computed from the block's plain output and
their residuals are added, so their order does not matter. The hooks themselves are in
`injection/hooks.py`; here is what the host adds: devices, branches, masks in its coordinates, and
which call is which.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.patcher_extension
import torch
from torch import Tensor

from ..injection.applied import AppliedIdentity
from ..injection.hooks import BlockHook, injected
from ..injection.layers import InjectedIdentity, LayerInjector
from ..injection.steering import CONDITIONAL, OWN, Steering, mask_tokens
from .cogvideox import own_transformer, token_grid
from .record import Recorder, share_of_schedule

IDENTITY_KEY = "fantasyid_identity"
# A conditioning that carries this model cond is the identity-free branch of guidance.
IDENTITY_FREE = "fantasyid_identity_free"


class IdentityInjection:
    """Adds the residuals of all identities to the video hidden states after each block.

    Args:
        applied: The identities; all have as many injectors.
        recorder: Where to note how much is added, or None.
    """

    def __init__(
        self, applied: Sequence[AppliedIdentity], recorder: Recorder | None = None
    ) -> None:
        self.applied, self.recorder = tuple(applied), recorder
        # Hooks outlive a run; weighed keys and values, and masks, are kept for one run.
        self._hooks: dict[torch.device, list[BlockHook]] = {}
        self._kept: dict[tuple, Any] = {}
        self._reached: set[int] = set()  # blocks that got something in the last run

    def __call__(self, executor: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Run the wrapped call with a hook on every block that gets something."""
        if kwargs.pop(IDENTITY_FREE, None) is not None:
            return executor(*args, **kwargs)
        call = Call(executor.class_obj, args, kwargs)
        hooks = self._filled(call)
        with injected(own_transformer(call.base).blocks, hooks):
            output = executor(*args, **kwargs)
        if self.recorder is not None:
            nothing = torch.zeros(2, call.batch)
            norms = [hook.norms if hook.groups else nothing for hook in hooks]
            self.recorder.note(call.sigma, call.cond_or_uncond, norms)
        return output

    def begin(self, _patcher: Any = None) -> None:
        """Called by the host before a run."""
        self._reached.clear()
        if self.recorder is not None:
            self.recorder.begin()

    def words(self) -> str:
        """Whether and where the last run had an identity, in a line for the log."""
        blocks, count = len(self._reached), len(self.applied[0].factors)
        if not blocks:
            return f"identity NOT active: none of {count} blocks received any"
        return f"identity active on {blocks} of {count} blocks"

    def forget(self, _patcher: Any = None) -> None:
        """Free what is on the devices; called by the host when sampling ends, however it ends."""
        self._kept.clear()
        for hooks in self._hooks.values():
            for hook in hooks:
                hook.clear()

    def _filled(self, call: Call) -> list[BlockHook]:
        """The hooks of a device with what this call of the model injects after each block."""
        count = len(self.applied[0].factors)
        if call.device not in self._hooks:
            self._hooks[call.device] = [BlockHook() for _ in range(count)]
        hooks = self._hooks[call.device]
        for hook in hooks:
            hook.clear()
            hook.measure = self.recorder is not None
        for number, applied in enumerate(self.applied):
            takes_part, scale = self._scale(number, applied.steering, call)
            if not takes_part:
                continue
            key = (number, call.device, call.dtype)
            if key not in self._kept:
                self._kept[key] = applied.weighed(*key[1:])
            layers, shared = _injectors_for(call.base, applied), applied.steering.shared_layer
            for i, (keys, values) in enumerate(self._kept[key]):
                if applied.factors[i] != 0.0:
                    self._reached.add(i)
                    layer = layers[i if shared == OWN else shared]
                    hooks[i].add(layer, InjectedIdentity(keys, values, scale))
        return hooks

    def _scale(self, number: int, steering: Steering, call: Call) -> tuple[bool, Tensor | None]:
        """Whether an identity takes part in a call, and its factor where that is not 1."""
        where: dict[str, Any] = {"device": call.device, "dtype": call.dtype}
        scales: list[Tensor] = []
        if steering.changes_over_time:
            factor = steering.at(call.percent)
            if factor == 0.0:
                return False, None
            if factor != 1.0:
                scales.append(torch.full((), factor, **where))
        if steering.branches == CONDITIONAL:
            rows = call.conditional_rows
            if not any(rows):
                return False, None
            if not all(rows):
                scales.append(torch.tensor(rows, **where)[:, None, None])
        if steering.mask is not None:
            key = (number, call.device, call.dtype, *call.place)
            if key not in self._kept:
                self._kept[key] = mask_tokens(steering.mask, *call.place).to(**where)
            scales.append(self._kept[key])
        scale = None
        for part in scales:
            scale = part if scale is None else scale * part
        return True, scale


def injection_of(model: Any) -> IdentityInjection | None:
    """The identities that a MODEL carries, or None."""
    kind = comfy.patcher_extension.WrappersMP.APPLY_MODEL
    found = model.get_wrappers(kind, IDENTITY_KEY)
    return found[0] if found else None


class Call:
    """What one call of the host's `apply_model` says about itself.

    Attributes:
        base: The host's model.
        dtype: In which the transformer computes.
        sigma: `(B,)`, on the device.
        cond_or_uncond: The host's number of the branch of each part of the batch; 0 is conditional.
    """

    def __init__(self, base: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        self.base, self._x = base, args[0]
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
        return share_of_schedule(self.base.model_sampling, float(self.sigma[0]))

    @property
    def conditional_rows(self) -> list[float]:
        """1 or 0 per item of the batch."""
        repeat = self.batch // len(self.cond_or_uncond)
        return [float(branch == 0) for branch in self.cond_or_uncond for _ in range(repeat)]

    @property
    def place(self) -> tuple[int, int, int, tuple[int, ...] | None]:
        """Latent frames of the whole video, token rows and columns, and the frames seen here."""
        frames, rows, columns = token_grid(own_transformer(self.base), self._x)
        window = self._window
        if window is None or getattr(window, "dim", 2) != 2:
            return frames, rows, columns, None
        anchor = getattr(window, "causal_anchor_index", None)
        seen = [*([anchor] if anchor is not None and anchor >= 0 else []), *window.index_list]
        if len(seen) != frames:  # left over from another run
            return frames, rows, columns, None
        return window.total_frames, rows, columns, tuple(seen)


def _injectors_for(base: Any, applied: AppliedIdentity) -> list[LayerInjector]:
    """The adapter's injectors on the device of a model: with several GPUs the host copies them."""
    patcher = base.current_patcher
    if patcher is not None:
        for copy in patcher.get_additional_models_with_key(IDENTITY_KEY):
            if copy.clone_base_uuid == applied.injectors.clone_base_uuid:
                return copy.model.in_order()
    return applied.injectors.model.in_order()
