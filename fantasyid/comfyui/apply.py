"""The apply stage: an identity and its dials onto a clone of a MODEL."""

from __future__ import annotations

import hashlib
from typing import Any
from weakref import WeakKeyDictionary

import comfy.patcher_extension
import torch
from torch import Tensor, nn

from ..identity import Identity, identity_mismatch
from ..injection.applied import AppliedIdentity, NothingApplied, check_fit, nothing_applied
from ..injection.steering import CONDITIONAL, OWN, Curve, Steering
from .cogvideox import (
    compute_dtype,
    correct_positions,
    has_released_positions,
    require_cogvideox_i2v,
)
from .injection import IDENTITY_KEY, IdentityInjection, injection_of
from .record import Recorder
from .weights import Adapter, load_to_device

KEPT = 4  # sets of keys and values that an adapter remembers

_keys_values: WeakKeyDictionary[nn.Module, dict[tuple, Tensor]] = WeakKeyDictionary()


def curve_of(value: Any) -> Curve | None:
    """The function of a CURVE socket, or None where nothing is connected."""
    from comfy_api.input import CurveInput  # at the top it would be a circle in the host

    return None if value is None else CurveInput.from_raw(value).interp


def keys_values(adapter: Adapter, tokens: Tensor, dtype: torch.dtype) -> Tensor:
    """Keys and values of an identity for every injector, computed once and remembered.

    Args:
        tokens: `(1, K, C)`.
        dtype: In which the model will compute.

    Returns:
        `(L, 2, 1, K, C)` on the CPU.
    """
    module = adapter.keys_values.model
    known = _keys_values.setdefault(module, {})
    digest = hashlib.sha256(tokens.float().cpu().contiguous().numpy().tobytes()).digest()
    key = (digest, tuple(tokens.shape), dtype)
    if key not in known:
        device = load_to_device(adapter.keys_values)
        pairs = module(tokens.to(device, dtype))
        while len(known) >= KEPT:
            known.pop(next(iter(known)))
        known[key] = torch.stack([torch.stack(pair) for pair in pairs]).cpu()
    return known[key]


def apply_identity(
    model: Any, adapter: Adapter, identity: Identity, steering: Steering, record: bool = False
) -> Any:
    """A clone of a MODEL that injects an identity into every block.

    Args:
        model: MODEL of a CogVideoX-5B-I2V; positions are corrected where they are not yet. The
            identities that it already carries stay and are added up.
        identity: From the fusion stage, one person.
        record: Note at each step how much is added, for the injection report.

    Raises:
        ValueError: The MODEL is something else, or model, adapter and identity have different
            widths (all of them named), the identity was made with another adapter (both hashes
            named), or a dial is set to something impossible.
    """
    transformer = require_cogvideox_i2v(model)
    config = adapter.injection
    check_fit(config, adapter.source, transformer.dim, len(transformer.blocks))
    before = injection_of(model)
    if before is not None and len(before.applied[0].factors) != config.num_injectors:
        raise ValueError(
            f"the model carries an identity with {len(before.applied[0].factors)} injectors, "
            f"the adapter {adapter.source} has {config.num_injectors}: apply both with one adapter"
        )
    nothing = nothing_applied(identity, steering, config)
    clone = model.clone() if has_released_positions(model) else correct_positions(model)
    if nothing is not None:
        return clone
    if identity.tokens.shape[-1] != config.context_dim:
        raise ValueError(
            f"the identity's tokens are {identity.tokens.shape[-1]} wide, the adapter "
            f"{adapter.source} takes {config.context_dim}: make the identity with this adapter"
        )
    mismatch = identity_mismatch(identity.provenance, adapter)
    if mismatch is not None:
        raise ValueError(mismatch)
    applied = AppliedIdentity(
        adapter.injectors,
        keys_values(adapter, identity.tokens, compute_dtype(model)),
        identity.face_tokens.shape[1],
        steering,
        tuple(steering.per_layer(config.num_injectors)),
    )
    earlier, recorder = ((), None) if before is None else (before.applied, before.recorder)
    _attach(clone, IdentityInjection((*earlier, applied), Recorder() if record else recorder))
    return clone


def _attach(clone: Any, injection: IdentityInjection) -> None:
    """Make an injection the only one of a MODEL that is nobody else's yet."""
    wrapper, callback = comfy.patcher_extension.WrappersMP, comfy.patcher_extension.CallbacksMP
    clone.remove_wrappers_with_key(wrapper.APPLY_MODEL, IDENTITY_KEY)
    clone.add_wrapper_with_key(wrapper.APPLY_MODEL, IDENTITY_KEY, injection)
    for kind, function in (
        (callback.ON_PRE_RUN, injection.begin),
        (callback.ON_CLEANUP, injection.forget),
    ):
        clone.remove_callbacks_with_key(kind, IDENTITY_KEY)
        clone.add_callback_with_key(kind, IDENTITY_KEY, function)
    patchers = {a.injectors.clone_base_uuid: a.injectors for a in injection.applied}
    clone.set_additional_models(IDENTITY_KEY, list(patchers.values()))


def describe_application(
    model: Any, adapter: Adapter, identity: Identity, steering: Steering
) -> str:
    """What the apply stage did, in a sentence or two."""
    words = ""
    if not has_released_positions(model):
        words = " The MODEL comes from another loader: its positions are corrected where needed."
    nothing = nothing_applied(identity, steering, adapter.injection)
    if nothing is not None:
        reasons = {
            NothingApplied.EMPTY_IDENTITY: identity.empty_reason,
            NothingApplied.NO_STRENGTH: "strength is 0",
            NothingApplied.NEITHER_LOOKS_NOR_SHAPE: "looks and shape are both 0",
            NothingApplied.NO_LAYER: "every layer weight is 0",
        }
        return f"NO IDENTITY applied: {reasons[nothing]}.{words}"
    factors = steering.per_layer(adapter.injection.num_injectors)
    count = sum(factor != 0.0 for factor in factors)
    text = f"Identity is injected into {count} blocks at strength {steering.strength:g}"
    text = ", ".join([text, *_turned_dials(steering, factors)]) + "."
    before = injection_of(model)
    if before is not None:
        text += f" It is identity number {len(before.applied) + 1} of this MODEL."
    return text + words


def _turned_dials(steering: Steering, factors: list[float]) -> list[str]:
    """What differs from the released model, dial by dial."""
    start, end = steering.start_percent, steering.end_percent
    dials = [
        (
            (steering.looks, steering.shape) != (1.0, 1.0),
            f"looks {steering.looks:g}, shape {steering.shape:g}",
        ),
        ((start, end) != (0.0, 1.0), f"from {start:.0%} to {end:.0%} of the schedule"),
        (steering.curve is not None, "following a curve"),
        (
            min(factors) != max(factors),
            f"weights {min(factors):.2g} to {max(factors):.2g} over the layers",
        ),
        (
            steering.shared_layer != OWN,
            f"every block with the injector of layer {steering.shared_layer}",
        ),
        (steering.branches == CONDITIONAL, "in the conditional branch only"),
        (steering.mask is not None, "inside a mask"),
    ]
    return [words for turned, words in dials if turned]
