"""What the extension could leave on the host's shared objects, read by walking them."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module

PLAIN = (bool, int, float, str, bytes, type(None), torch.dtype, torch.device, torch.Size)
# What the host's memory manager itself moves from run to run.
OF_THE_HOST = {
    "_v_block_faulted",
    "prev_comfy_cast_weights",
    "comfy_patched_weights",
    "comfy_cast_weights",
}


def _seen(value: Any, depth: int = 0) -> Any:
    """A value that changes when an attribute does: contents of plain things, else identity."""
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, torch.Tensor):
        return "tensor", tuple(value.shape), value.dtype
    if isinstance(value, dict) and depth < 3:
        return {str(k): _seen(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)) and depth < 3:
        return [_seen(v, depth + 1) for v in value]
    return type(value).__qualname__, id(value)


def walk(transformer: nn.Module) -> dict[str, Any]:
    """Everything on a transformer that a run could leave changed.

    Returns:
        "module.attribute" -> what it holds: hooks of every kind, instance attributes, the
        attributes of each class, torch's global hooks, and a digest of all weights.
    """
    found: dict[str, Any] = {}
    for name, module in transformer.named_modules():
        for attribute, value in vars(module).items():
            if attribute not in OF_THE_HOST:
                found[f"{name}.{attribute}"] = _seen(value)
        for kind in type(module).__mro__:
            if not kind.__module__.startswith("torch"):
                for attribute, value in vars(kind).items():
                    found[f"class {kind.__qualname__}.{attribute}"] = id(value)
    for attribute, value in vars(torch_module).items():
        if attribute.startswith("_global_") and isinstance(value, dict):
            found[f"torch.{attribute}"] = len(value)
    digest = hashlib.sha256()
    for weight in transformer.state_dict().values():
        digest.update(weight.detach().float().cpu().contiguous().numpy().tobytes())
    found["weights"] = digest.hexdigest()
    return found


def walk_patcher(patcher: Any) -> dict[str, Any]:
    """Everything on a MODEL that a run, or a clone of it, could leave changed."""
    return {
        "wrappers": _seen(patcher.wrappers),
        "callbacks": _seen(patcher.callbacks),
        "object patches": sorted(patcher.object_patches),
        "object patches backup": sorted(patcher.object_patches_backup),
        "weight patches": sorted(patcher.patches),
        "additional models": {k: len(v) for k, v in patcher.additional_models.items()},
        "injections": sorted(patcher.injections),
        "attachments": sorted(patcher.attachments),
        "options": _seen(patcher.model_options),
    }


def hooks_on(transformer: nn.Module) -> list[str]:
    """Names of the modules that carry a hook of any kind."""
    kinds = [k for k in vars(transformer) if k.endswith("_hooks")]
    return [n for n, m in transformer.named_modules() if any(vars(m).get(k) for k in kinds)]


def holds_tensors(injection: Any) -> bool:
    """Whether anything of a run is still on a device."""
    hooks = [hook for hooks in injection._hooks.values() for hook in hooks]
    return bool(injection._kept) or any(hook.groups for hook in hooks)


def differences(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What is new, gone or changed."""
    keys = {*before, *after}
    pairs = {key: (before.get(key), after.get(key)) for key in sorted(keys)}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


@contextmanager
def leaves_no_trace(*models: Any) -> Iterator[None]:
    """Fails when anything is left on the transformer of a MODEL, or on the MODEL itself."""
    before = [(walk(m.model.diffusion_model), walk_patcher(m)) for m in models]
    yield
    gc.collect()
    for model, (transformer, patcher) in zip(models, before, strict=True):
        assert not hooks_on(model.model.diffusion_model)
        assert differences(transformer, walk(model.model.diffusion_model)) == {}
        assert differences(patcher, walk_patcher(model)) == {}
