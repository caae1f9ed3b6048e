"""The host's denoiser with given weights, and its velocity, for tests that compare it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def build_model(ours, released: dict[str, Tensor], dtype=torch.float32) -> tuple[Any, Any]:
    """MODEL and adapter (injectors alone) of weights in released names, as our loader makes them.

    The host would compute bfloat16 weights in float32 on a CPU; here they compute in bfloat16,
    as on a GPU.
    """
    weights = ours("fantasyid.comfyui.weights")
    parts = ours("fantasyid.weights.released").Released(Path("seeded"), released)
    base = {name: released[key].to(dtype) for name, key in parts.keys.base.items()}
    model = weights.host_base("seeded", base, {"dtype": dtype}, False)
    model.model.manual_cast_dtype = None
    if not parts.keys.injection:
        return model, None
    patchers = []
    for part in parts.injectors():
        state = {name: tensor.to(dtype) for name, tensor in part.weights.items()}
        patchers.append(weights.managed(replace(part, weights=state)))
    none: Any = None
    return model, weights.Adapter(none, none, *patchers, tables=none, source="seeded")


def velocity(model, latents: Tensor, text: Tensor, extra_wrappers=(), timestep=801.0) -> Tensor:
    """v of the host's `apply_model` for diffusers-shaped latents `(B, T, C, H, W)`."""
    base = model.model
    sigma = base.model_sampling.sigma(torch.tensor([timestep])).expand(latents.shape[0])
    x = latents.movedim(1, 2).float()
    wrappers = {k: {n: list(f) for n, f in v.items()} for k, v in model.wrappers.items()}
    for wrapper in extra_wrappers:
        wrappers.setdefault("apply_model", {}).setdefault("identity", []).append(wrapper)
    scale = (sigma**2 + 1).sqrt().view(-1, 1, 1, 1, 1)
    denoised = base.apply_model(
        x[:, :16],
        sigma,
        c_concat=x[:, 16:],
        c_crossattn=text,
        transformer_options={"wrappers": wrappers},
    )
    return ((x[:, :16] / scale - denoised) * scale / sigma.view(-1, 1, 1, 1, 1)).movedim(2, 1)


class Taps:
    """Keeps what flows between the parts of the transformer during a `with` block.

    `block{i}` and `text{i}` leave block i, `after{i}` is `block{i}` with the injected residual,
    `residual{i}` is what injector i gave; `video`, `text` and `temb` come before the blocks.
    """

    def __init__(self, transformer: Any, injectors: Any) -> None:
        self.seen: dict[str, Tensor] = {}
        self._transformer, self._injectors = transformer, injectors.in_order()
        self._stack = ExitStack()

    def __enter__(self) -> dict[str, Tensor]:
        blocks = self._transformer.blocks
        for i, block in enumerate(blocks):
            # Made before the injection's own hooks, so it sees the block's plain output.
            self._keep(block, lambda out, i=i: {f"block{i}": out[0], f"text{i}": out[1]})
            # A copy: the video is added to it in its place.
            self._keep(self._injectors[i], lambda out, i=i: {f"residual{i}": out.clone()})
            hook = block.register_forward_pre_hook(
                lambda _m, _a, into, i=i: self._enter_block(i, **into), with_kwargs=True
            )
            self._stack.callback(hook.remove)
        hook = self._transformer.norm_final.register_forward_pre_hook(
            lambda _m, args: self.seen.update({f"after{len(blocks) - 1}": args[0]})
        )
        self._stack.callback(hook.remove)
        self._keep(self._transformer.time_embedding_linear_2, lambda out: {"temb": out})
        return self.seen

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def _enter_block(
        self, i: int, hidden_states: Tensor, encoder_hidden_states: Tensor, **_rest: Any
    ) -> None:
        if i:
            self.seen[f"after{i - 1}"] = hidden_states
        else:
            self.seen |= {"video": hidden_states, "text": encoder_hidden_states}

    def _keep(self, module: Any, names) -> None:
        hook = module.register_forward_hook(lambda _m, _a, out: self.seen.update(names(out)))
        self._stack.callback(hook.remove)
