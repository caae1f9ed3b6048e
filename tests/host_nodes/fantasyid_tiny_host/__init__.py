"""Lets a test server's stock loaders take the tiny T5 and the tiny CogVideoX VAE.

For tests only, and no part of the extension: ComfyUI writes the sizes of these two models
into its code, so files of other sizes need the sizes told at load. Only state dicts with exactly
the tiny shapes are touched; every other file goes through the host's functions as it came.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import comfy.ldm.cogvideo.vae
import comfy.sd
from comfy_api.latest import ComfyExtension, io

T5_SIZES = {"num_layers": 2, "d_model": 64, "d_ff": 128, "d_kv": 16, "num_heads": 4}
T5_SHAPES = {
    "shared.weight": (32128, 64),
    "encoder.block.0.layer.0.SelfAttention.q.weight": (64, 64),
    "encoder.block.1.layer.1.DenseReluDense.wi_1.weight": (128, 64),
}
VAE_SIZES = {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "groups": 4}
VAE_SHAPES = {
    "encoder.conv_in.conv.weight": (8, 3, 3, 3, 3),
    "decoder.conv_in.conv.weight": (8, 16, 3, 3, 3),
    "decoder.up_blocks.3.resnets.1.conv2.conv.weight": (8, 8, 3, 3, 3),
}
WRAPPED = "_fantasyid_tiny_host"


def has_shapes(state_dict: Any, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Tell whether a state dict holds tensors of exactly these shapes."""
    return isinstance(state_dict, dict) and all(
        name in state_dict and tuple(state_dict[name].shape) == shape
        for name, shape in shapes.items()
    )


def wrap_text_encoders(load: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the host's text encoder loader so that it is told the sizes of a tiny T5."""
    signature = inspect.signature(load)

    @functools.wraps(load)
    def load_any(*args: Any, **kwargs: Any) -> Any:
        call = signature.bind(*args, **kwargs)
        state_dicts = call.arguments.get("state_dicts") or []
        if any(has_shapes(state_dict, T5_SHAPES) for state_dict in state_dicts):
            options = dict(call.arguments.get("model_options") or {})
            call.arguments["model_options"] = {**options, "t5xxl_model_config": T5_SIZES}
        return load(*call.args, **call.kwargs)

    setattr(load_any, WRAPPED, True)
    return load_any


def wrap_vae(init: Callable[..., None]) -> Callable[..., None]:
    """Wrap the constructor of the host's VAE so that it builds a tiny VAE for the tiny file."""
    signature = inspect.signature(init)
    module = comfy.ldm.cogvideo.vae

    @functools.wraps(init)
    def init_any(*args: Any, **kwargs: Any) -> None:
        state_dict = signature.bind(*args, **kwargs).arguments.get("sd")
        if not has_shapes(state_dict, VAE_SHAPES):
            init(*args, **kwargs)
            return
        full_size = module.AutoencoderKLCogVideoX
        module.AutoencoderKLCogVideoX = functools.partial(full_size, **VAE_SIZES)
        try:
            init(*args, **kwargs)
        finally:
            module.AutoencoderKLCogVideoX = full_size

    setattr(init_any, WRAPPED, True)
    return init_any


def install() -> None:
    """Wrap the host's two functions, once per process."""
    if not hasattr(comfy.sd.load_text_encoder_state_dicts, WRAPPED):
        comfy.sd.load_text_encoder_state_dicts = wrap_text_encoders(
            comfy.sd.load_text_encoder_state_dicts
        )
    if not hasattr(comfy.sd.VAE.__init__, WRAPPED):
        comfy.sd.VAE.__init__ = wrap_vae(comfy.sd.VAE.__init__)


class TinyHost(ComfyExtension):
    """An extension without nodes: loading it is all that is needed."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Give no nodes."""
        return []


async def comfy_entrypoint() -> TinyHost:
    """Install the wrappers when the host loads its custom nodes."""
    install()
    return TinyHost()
