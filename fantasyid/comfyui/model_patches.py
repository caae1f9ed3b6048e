"""What else is on a MODEL, and what it means for the identity."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import comfy.patcher_extension
from comfy_api.torch_helpers.torch_compile import COMPILE_KEY

from ..cogvideox.positions import MAX_LATENT_FRAMES
from ..doctor.findings import NOTE, OK, WARNING, Finding, Level
from .cogvideox import POSITIONS_KEY, own_transformer
from .injection import IDENTITY_KEY

CACHE_KEYS = ("easycache", "lazycache")
WINDOWS_KEYS = ("ContextWindows_prepare_sampling", "ContextWindows_sampler_sample")
KNOWN_KEYS = (POSITIONS_KEY, IDENTITY_KEY, COMPILE_KEY, *CACHE_KEYS, *WINDOWS_KEYS)
WINDOW_OPTIONS = (
    "dim", "context_length", "context_overlap", "causal_window_fix", "cond_retain_index_list",
)  # fmt: skip
HIGH_THRESHOLD = 0.3
OPTION_WORDS = {
    "model_function_wrapper": "wraps every call of the model",
    "sampler_cfg_function": "replaces classifier-free guidance",
    "sampler_post_cfg_function": "changes the result of classifier-free guidance",
    "sampler_pre_cfg_function": "changes what classifier-free guidance gets",
    "sampler_calc_cond_batch_function": "replaces how the branches are computed",
}


def patches_on(model: Any) -> list[Finding]:
    """A finding for everything on a MODEL besides this extension's own."""
    checks = (_cache, _compiled, _windows, _loras, _objects, _blocks, _attention, _unread, _others)
    return [finding for check in checks for finding in check(model)]


def _finding(level: Level, text: str, facts: dict[str, Any]) -> Finding:
    return Finding(level, "patch", text, facts)


def _cache(model: Any) -> Iterator[Finding]:
    cache = model.model_options["transformer_options"].get("easycache")
    if cache is None:
        return
    name = getattr(cache, "name", "a step cache")
    threshold = float(getattr(cache, "reuse_threshold", 0.0))
    high = threshold > HIGH_THRESHOLD
    text = (
        f"{name} (threshold {threshold:g}) skips steps that change little; a skipped step repeats "
        "what the identity gave before it."
    )
    text += " That is a high threshold: likeness and motion suffer; 0.2 is common." * high
    facts = {"patch": name, "threshold": threshold}
    yield _finding(WARNING if high else NOTE, text, facts)


def _compiled(model: Any) -> Iterator[Finding]:
    kind = comfy.patcher_extension.WrappersMP.APPLY_MODEL
    if model.get_wrappers(kind, COMPILE_KEY) or "torch_compile_kwargs" in model.model_options:
        text = "torch.compile is on: the identity is computed beside the compiled blocks."
        yield _finding(OK, text, {"patch": "torch.compile"})


def _windows(model: Any) -> Iterator[Finding]:
    handler = model.model_options.get("context_handler")
    if handler is None:
        return
    found = {name: getattr(handler, name, None) for name in WINDOW_OPTIONS}
    problems = list(_window_problems(found))
    facts = {"patch": "context windows", **found, "problems": problems}
    text = f"Context Windows: {found['context_length']} latent frames at a time, set right."
    if problems:
        text = f"Context Windows is set wrongly for CogVideoX: {'; '.join(problems)}."
    yield _finding(WARNING if problems else OK, text, facts)


def _window_problems(found: dict[str, Any]) -> Iterator[str]:
    if found["dim"] != 2:
        yield f"dim is {found['dim']} and must be 2, the axis of time"
    length = found["context_length"] or 0
    if length > MAX_LATENT_FRAMES:
        yield (
            f"context_length is {length} latent frames, and positions beyond {MAX_LATENT_FRAMES} "
            "were never trained"
        )
    if found["causal_window_fix"]:
        yield "causal_window_fix is on and adds a frame to every window: switch it off"
    if 0 not in (found["cond_retain_index_list"] or []):
        yield "cond_retain_index_list lacks 0, so windows after the first do not see the face"
    if not found["context_overlap"]:
        yield "context_overlap is 0, so the windows do not join"


def _loras(model: Any) -> Iterator[Finding]:
    if model.patches:
        most = max(len(patches) for patches in model.patches.values())
        text = (
            f"{len(model.patches)} weights are changed by LoRAs or merges (up to {most} on one). "
            "They move what the identity layers were trained on: likeness may drop with strength."
        )
        facts = {"patch": "LoRA", "weights": len(model.patches), "most_on_one": most}
        yield _finding(NOTE, text, facts)


def _objects(model: Any) -> Iterator[Finding]:
    for name in sorted(model.object_patches):
        inside = name.startswith("diffusion_model.")
        text = f"{name} is replaced by another node"
        text += "; the identity may then act elsewhere." if inside else "."
        level = WARNING if inside and name.endswith(("forward", "blocks")) else NOTE
        yield _finding(level, text, {"patch": "object", "name": name})


def _blocks(model: Any) -> Iterator[Finding]:
    transformer = own_transformer(model.model)
    modules = {"the transformer": transformer}
    modules |= {f"block {n}": block for n, block in enumerate(transformer.blocks)}
    replaced = [
        name for name, module in modules.items() if {"forward", "_forward"} & set(vars(module))
    ]
    hooked = [name for name, module in modules.items() if module._forward_hooks]
    for what, names in (("forward was replaced", replaced), ("forward hooks were left", hooked)):
        if names:
            shown = ", ".join(names[:3]) + ", ..." * (len(names) > 3)
            text = (
                f"{what} on {shown} by another extension, on the MODEL that all graphs share: the "
                "identity may be lost or added twice. Restart ComfyUI without it to compare."
            )
            yield _finding(WARNING, text, {"patch": what, "where": names})


def _attention(model: Any) -> Iterator[Finding]:
    override = model.model_options["transformer_options"].get("optimized_attention_override")
    if override is not None:
        name = getattr(override, "__qualname__", type(override).__name__)
        text = (
            f"the attention of the transformer is replaced ({name}); the identity's own attention "
            "is not touched."
        )
        yield _finding(NOTE, text, {"patch": "attention", "name": name})


def _unread(model: Any) -> Iterator[Finding]:
    options = model.model_options["transformer_options"]
    names = [n for n in ("patches", "patches_replace") if options.get(n)]
    if names:
        inside = sorted({str(part) for name in names for part in options[name]})
        text = (
            f"another node patches {', '.join(inside)} of the transformer; ComfyUI's CogVideoX "
            "never reads such patches, so that node does nothing here."
        )
        yield _finding(WARNING, text, {"patch": "unread", "names": inside})


def _others(model: Any) -> Iterator[Finding]:
    for name, words in OPTION_WORDS.items():
        if model.model_options.get(name):
            yield _finding(NOTE, f"{name}: another node {words}.", {"patch": name})
    strangers = {
        f"{key or 'unnamed'} ({kind})"
        for kind, by_key in model.wrappers.items()
        for key, functions in by_key.items()
        if functions and key not in KNOWN_KEYS
    }
    if strangers:
        names = sorted(strangers)
        text = f"other extensions wrap the MODEL: {', '.join(names)}. They see the identity too."
        yield _finding(NOTE, text, {"patch": "wrappers", "names": names})
    for name, there in (("injections", model.injections), ("hooks", model.hook_patches)):
        if there:
            text = f"the MODEL carries {name} of other nodes; they are loaded with it."
            yield _finding(NOTE, text, {"patch": name, "count": len(there)})
