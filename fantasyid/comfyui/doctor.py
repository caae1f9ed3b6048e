"""The doctor under a running host: everything that is connected, and the host's own folders."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import comfy.ldm.modules.attention
import comfy.model_management
import server

from ..doctor import memory
from ..doctor.command import host_finding, memory_finding
from ..doctor.findings import ERROR, NOTE, OK, Finding, as_json, as_text
from ..doctor.packages import installed, packages
from ..doctor.weights_on_disk import check_files
from ..weights.progress import in_words
from .cogvideox import frames_at_once, own_transformer, require_cogvideox_i2v
from .defects import long_prompt, mean_encoding, model_defects
from .download import model_folders
from .identity_dials import RELEASED_DIM, adapter_of, identities_on
from .injection import injection_of
from .latents import validate_size
from .model_patches import patches_on
from .weights import Adapter

# The host's attentions that hold a tensor of scores; the others are fused.
UNFUSED = ("attention_sub_quad", "attention_split", "attention_basic")
# The host takes both branches of cfg at once where its own estimate times this is free.
BATCHING_MARGIN = 1.5


def examine(
    size: memory.VideoSize,
    check_hashes: bool,
    model: Any | None = None,
    adapter: Adapter | None = None,
    clip: Any | None = None,
    vae: Any | None = None,
) -> tuple[str, str]:
    """Look at everything that is connected, and at the files.

    Args:
        size: Of the video that is planned.
        check_hashes: Compare SHA-256 of the model files, which reads every byte.
        model: MODEL that goes into the sampler.
        adapter: Whether it fits the MODEL.
        clip: Whether it cuts long prompts.
        vae: How it encodes, and what decoding takes.

    Returns:
        Sentences, and JSON.

    Raises:
        ValueError: The size is impossible.
    """
    problem = validate_size(size.width, size.height, size.length)
    if problem:
        raise ValueError(problem)
    found = [host_finding(getattr(server, "__version__", "")), _attention()]
    try:
        transformer = None if model is None else require_cogvideox_i2v(model)
    except ValueError as error:
        found.append(Finding(ERROR, "model", f"{error}.", {"fits": False}))
        model = transformer = None
    if transformer is not None:
        found += [_model(transformer), *model_defects(model), *identities_on(model)]
        found += [*patches_on(model), _memory(model, adapter, size)]
    found += [] if adapter is None else adapter_of(adapter, model)
    found += [] if clip is None else [long_prompt(clip)]
    found += [] if vae is None else [mean_encoding(vae), _decoding(vae, size)]
    found += check_files(model_folders(), deep=check_hashes, report=_stoppable)
    found += packages(installed())
    return as_text(found), as_json(found)


def _stoppable(_bytes: int) -> None:
    comfy.model_management.throw_exception_if_processing_interrupted()


def _attention() -> Finding:
    name = comfy.ldm.modules.attention.optimized_attention.__name__
    fused = name not in UNFUSED
    text = f"ComfyUI computes attention with {name}"
    text += "." if fused else ", which holds its scores in memory: expected without a GPU."
    return Finding(OK if fused else NOTE, "host", text, {"attention": name, "fused": fused})


def _model(transformer: Any) -> Finding:
    real = transformer.dim == RELEASED_DIM
    text = f"the MODEL is {transformer.dim} wide and has {len(transformer.blocks)} blocks: "
    text += "the released size." if real else "a tiny stand-in, videos made with it show nothing."
    facts = {"dim": transformer.dim, "blocks": len(transformer.blocks), "real": real, "fits": True}
    return Finding(OK if real else NOTE, "model", text, facts)


def _memory(model: Any, adapter: Adapter | None, size: memory.VideoSize) -> Finding:
    device = model.load_device
    free = _free(device) + _loaded(model, adapter)
    finding = memory_finding(size, estimate_for(model, adapter, size), free, str(device))
    host = int(model.memory_required([1, memory.LATENT_CHANNELS, *size.latent_shape]))
    return replace(finding, facts={**finding.facts, "host_estimate": host})


def _free(device: Any) -> int:
    return cast(int, comfy.model_management.get_free_memory(device))


def _injectors(model: Any, adapter: Adapter | None) -> list[Any]:
    """Patchers of the injectors that run with a MODEL, or would after an Apply."""
    injection = injection_of(model)
    if injection is not None:
        return list({a.injectors.clone_base_uuid: a.injectors for a in injection.applied}.values())
    return [] if adapter is None else [adapter.injectors]


def _loaded(model: Any, adapter: Adapter | None) -> int:
    """Bytes of the weights that are on the device already, and so are not free but ours."""
    on_cpu = comfy.model_management.is_device_cpu(model.load_device)
    patchers = (model, *_injectors(model, adapter))
    return sum(p.model_size() if on_cpu else p.loaded_size() for p in patchers)


def estimate_for(model: Any, adapter: Adapter | None, size: memory.VideoSize) -> memory.Estimate:
    """What sampling a size with a MODEL takes on its device.

    Args:
        model: MODEL of a CogVideoX.
        adapter: Counted where no identity is on the MODEL yet.
        size: Of the video; context windows on the MODEL shorten it.
    """
    transformer = own_transformer(model.model)
    seen = frames_at_once(model, size.latent_shape[0])
    size = replace(size, length=(seen - 1) * memory.FRAMES_PER_LATENT + 1)
    free = _free(model.load_device)
    dtype, stored = model.model.get_dtype_inference(), transformer.patch_embed.proj.weight
    frames, rows, columns = size.latent_shape
    both = model.memory_required([2, memory.LATENT_CHANNELS, frames, rows, columns])
    run = memory.Run(
        transformer.dim,
        transformer.patch_embed.text_proj.in_features,
        batch=2 if both * BATCHING_MARGIN < free else 1,
        compute_bytes=dtype.itemsize,
        casts=stored is not None and stored.dtype != dtype,
        fused=comfy.ldm.modules.attention.optimized_attention.__name__ not in UNFUSED,
        free_bytes=free,
    )
    injection = injection_of(model)
    applied = () if injection is None else injection.applied
    weights = sum(p.model_size() for p in (model, *_injectors(model, adapter)))
    identities = sum(a.keys_values.nbytes for a in applied)
    return memory.estimate(size, run, weights, identities)


def _decoding(vae: Any, size: memory.VideoSize) -> Finding:
    """What the host expects of decoding the whole video at once."""
    shape = (1, memory.LATENT_CHANNELS, *size.latent_shape)
    needed = int(vae.memory_used_decode(shape, vae.vae_dtype))
    free = _free(vae.device)
    text = (
        f"decoding {size.words} in one piece takes about {in_words(needed)} by ComfyUI's own "
        f"estimate, {in_words(free)} are free on {vae.device}"
    )
    text += ": use VAE Decode (Tiled)." if needed > free else "."
    return Finding(NOTE if needed > free else OK, "VAE", text, {"needed": needed, "free": free})
