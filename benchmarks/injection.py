"""What the injection costs: time and memory of a step, with and without, in one run.

    python benchmarks/injection.py [--comfyui DIR] [--cpu] [--layers N] [--tokens N]
                                   [--rounds N] [--dtype NAME] [--markdown]

Blocks of the host's CogVideoX and injectors at the released width, with random weights, take the
same step in four ways: bare, with an identity as the Apply node puts it there, with the released
form of the injector, and with the folded form. Each round runs all four, one after another, and a
ratio is one of times of the same round. On a GPU the default is the whole model; on a CPU it is
one block, few video tokens and one thread, and times are the processor's. Operations are counted
for what is measured and for the whole model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from host import arguments, start_host
from injection_forms import (
    BARE,
    COLUMNS,
    CONTEXT_DIM,
    DIM,
    FACE_TOKENS,
    FOLDED,
    FOLDED_WIDTH,
    FULL_TOKENS,
    IDENTITY_TOKENS,
    LAYERS,
    OURS,
    RELEASED,
    ROWS,
    TEXT_DIM,
    TEXT_TOKENS,
    TIME_DIM,
    FoldedForm,
    ReleasedForm,
    layers_that_fit,
    operations_rows,
    weights_rows,
)
from meters import activation_peak, interleaved, milliseconds, num_bytes, ratio, reads, table
from torch import Tensor, nn

CPU_TOKENS = ROWS * COLUMNS * 2
Layer = Callable[[Tensor], Tensor]


def random_weights(module: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """A state dict of the shapes of a module on the meta device, scaled to keep variances.

    Parameters of one role and shape are one tensor in all layers: quick to make.
    """
    generator = torch.Generator().manual_seed(0)
    made: dict[Any, Tensor] = {}
    weights: dict[str, Tensor] = {}
    for name, parameter in module.state_dict().items():
        *_, owner, kind = name.split(".")
        role = (owner, kind, parameter.shape)
        if role not in made:
            spread = 0.02 if parameter.ndim == 1 else parameter.shape[1:].numel() ** -0.5
            values = torch.randn(parameter.shape, generator=generator) * spread
            made[role] = (values + float("norm" in owner and kind == "weight")).to(dtype)
        weights[name] = made[role]
    return weights


class Bench:
    """The host's model, an adapter and an identity, all random, and one step of them.

    Args:
        layers: Blocks, each with an injector.
        frames: Latent frames of 60x90.
        dtype: Of weights and activations.
    """

    def __init__(self, layers: int, frames: int, dtype: torch.dtype) -> None:
        import comfy.ldm.cogvideo.model
        import comfy.model_management
        import comfy.ops
        import comfy.sd

        from fantasyid.comfyui.apply import apply_identity
        from fantasyid.comfyui.weights import Adapter, managed
        from fantasyid.identity import Identity
        from fantasyid.injection.layers import InjectionConfig, LayerInjectors, LayerKeysValues
        from fantasyid.injection.steering import Steering
        from fantasyid.weights.released import ModuleWeights

        transformer = comfy.ldm.cogvideo.model.CogVideoXTransformer3DModel(
            num_attention_heads=DIM // 64,
            attention_head_dim=64,
            in_channels=32,
            time_embed_dim=TIME_DIM,
            text_embed_dim=TEXT_DIM,
            num_layers=layers,
            use_rotary_positional_embeddings=True,
            device="meta",
            operations=comfy.ops.disable_weight_init,
        )
        model: Any = comfy.sd.load_diffusion_model_state_dict(
            random_weights(transformer, dtype), model_options={"dtype": dtype}
        )
        model.model.manual_cast_dtype = None  # the host would compute in float32 on a CPU
        config = InjectionConfig(layers, DIM, CONTEXT_DIM)
        parts = []
        for kind in (LayerKeysValues, LayerInjectors):
            weights = random_weights(kind(config, device="meta"), dtype)
            parts.append(managed(ModuleWeights(partial(kind, config), weights)))
        nothing: Any = None
        adapter = Adapter(nothing, nothing, *parts, tables=nothing, source="random")
        tokens = torch.randn(1, IDENTITY_TOKENS, CONTEXT_DIM)
        identity = Identity(tokens[:, :FACE_TOKENS], tokens[:, FACE_TOKENS:])
        self.applied: Any = apply_identity(model, adapter, identity, Steering())
        comfy.model_management.load_models_gpu([self.applied, *parts], force_full_load=True)

        self.device: torch.device = self.applied.load_device
        self.base: Any = self.applied.model
        self.keys_values, self.injectors = (part.model for part in parts)
        self.tokens = tokens.to(self.device, dtype)
        self.pairs = self.keys_values(self.tokens)
        self.dtype, self.frames = dtype, frames
        self._latents = torch.randn(1, 32, frames, 2 * ROWS, 2 * COLUMNS, device=self.device)
        self._text = torch.randn(1, TEXT_TOKENS, TEXT_DIM, device=self.device, dtype=dtype)
        self._sigma = self.base.model_sampling.sigma(torch.tensor([801.0])).to(self.device)

    def step(self, wrappers: dict[str, Any]) -> Tensor:
        """One call of the host's model."""
        options = {"wrappers": wrappers, "cond_or_uncond": [0]}
        return self.base.apply_model(
            self._latents[:, :16],
            self._sigma,
            c_concat=self._latents[:, 16:],
            c_crossattn=self._text,
            transformer_options=options,
        )

    def forms(self, layer: int) -> dict[str, Layer]:
        """The three forms of one injector, each from hidden states to residual."""
        from fantasyid.injection.layers import InjectedIdentity

        injector, (keys, values) = self.injectors.injectors[layer], self.pairs[layer]
        ours = [InjectedIdentity(keys, values)]
        return {
            OURS: lambda hidden: injector(hidden, ours),
            RELEASED: ReleasedForm(self.keys_values.injectors[layer], injector, self.tokens),
            FOLDED: FoldedForm(injector, keys, values),
        }

    def steps(self) -> dict[str, Callable[[], Tensor]]:
        """The four ways to take a step."""
        forms = [self.forms(i) for i in range(len(self.pairs))]

        def hooked(name: str) -> Tensor:
            with self._hooks([form[name] for form in forms]):
                return self.step({})

        return {
            BARE: lambda: self.step({}),
            OURS: lambda: self.step(self.applied.wrappers),
            RELEASED: lambda: hooked(RELEASED),
            FOLDED: lambda: hooked(FOLDED),
        }

    @contextmanager
    def _hooks(self, layers: Sequence[Layer]) -> Iterator[None]:
        def hook(layer: Layer) -> Callable[..., Any]:
            return lambda _block, _inputs, out: (out[0] + layer(out[0]), out[1])

        blocks = self.base.diffusion_model.blocks
        handles = [b.register_forward_hook(hook(f)) for b, f in zip(blocks, layers, strict=True)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def resident(self) -> dict[str, int]:
        """Bytes that each way keeps on the device from step to step."""
        bare = num_bytes(self.base.diffusion_model.parameters())
        injectors = num_bytes(self.injectors.parameters())
        norms = num_bytes(
            p for layer in self.injectors.injectors for p in layer.norm_hidden.parameters()
        )
        folded = 2 * DIM * FOLDED_WIDTH * self.dtype.itemsize * len(self.pairs)
        return {
            BARE: bare,
            OURS: bare + injectors + num_bytes(t for pair in self.pairs for t in pair),
            RELEASED: bare + injectors + num_bytes(self.keys_values.parameters()),
            FOLDED: bare + norms + folded,
        }


def step_rows(bench: Bench, rounds: int) -> list[list[str]]:
    """Time and memory of the four ways to take a step."""
    steps = bench.steps()
    times = interleaved(steps, rounds, bench.device)
    peaks = {name: activation_peak(work, bench.device) for name, work in steps.items()}
    waits = {name: reads(work) for name, work in steps.items()}
    kept = bench.resident()
    counted = dict(zip(steps, operations_rows(bench.frames * ROWS * COLUMNS)[1:], strict=True))
    heading = ["step", "time", "/ bare", "/ bare, counted", "activations", "/ bare"]
    rows = [[*heading, "with weights", "/ bare", "waits for the device"]]
    for name in steps:
        whole, bare = kept[name] + peaks[name], kept[BARE] + peaks[BARE]
        rows.append(
            [
                name,
                milliseconds(times[name]),
                ratio(times, name, BARE),
                counted[name][2],
                f"{peaks[name] / 2**20:.0f} MiB",
                f"{peaks[name] / peaks[BARE]:.3f}",
                f"{whole / 2**20:.0f} MiB",
                f"{whole / bare:.3f}",
                str(waits[name]),
            ]
        )
    return rows


def injection_rows(bench: Bench, rounds: int) -> list[list[str]]:
    """Time and memory of one injection at the full number of tokens, and its rounding error."""
    hidden = torch.randn(1, FULL_TOKENS, DIM, device=bench.device).to(bench.dtype)
    forms = bench.forms(0)
    works = {name: lambda form=form: form(hidden) for name, form in forms.items()}
    once = bench.keys_values.injectors[0]
    keys_values = "keys and values (once)"
    times = interleaved({**works, keys_values: lambda: once(bench.tokens)}, rounds, bench.device)
    part = hidden[:, :: FULL_TOKENS // 1000]
    exact = plain_float64(bench, part)
    rows = [["one injection", "time", "/ ours", "memory", "error"]]
    for name, work in works.items():
        error = (forms[name](part).double().cpu() - exact).norm() / exact.norm()
        peak = f"{activation_peak(work, bench.device) / 2**20:.0f} MiB"
        rows.append(
            [name, milliseconds(times[name]), ratio(times, name, OURS), peak, f"{error:.1e}"]
        )
    rows.append([keys_values, milliseconds(times[keys_values]), "", "", ""])
    return rows


def plain_float64(bench: Bench, hidden: Tensor) -> Tensor:
    """The residual of the first injector with its weights as they are, computed in float64."""
    from fantasyid.injection.layers import (
        InjectedIdentity,
        InjectionConfig,
        KeysValues,
        LayerInjector,
    )

    config = InjectionConfig(1, DIM, CONTEXT_DIM)
    once, injector = KeysValues(config).double(), LayerInjector(config).double()
    once.load_state_dict(bench.keys_values.injectors[0].state_dict())
    injector.load_state_dict(bench.injectors.injectors[0].state_dict())
    pair = once(bench.tokens.double().cpu())
    return injector(hidden.double().cpu(), [InjectedIdentity(*pair)])


def main() -> None:
    """Print the tables."""
    sizes = {"layers": 0, "tokens": 0, "rounds": 10, "dtype": "bfloat16"}
    given = arguments(__doc__, cpu=False, markdown=False, **sizes)
    dtype = getattr(torch, given.dtype)
    cpu = given.cpu or not torch.cuda.is_available()
    layers = given.layers or (1 if cpu else layers_that_fit(torch.cuda.mem_get_info()[0], dtype))
    tokens = given.tokens or (CPU_TOKENS if cpu else FULL_TOKENS)
    frames = max(1, round(tokens / ROWS / COLUMNS))
    start_host(given.comfyui, cpu=cpu)
    import comfy.cli_args

    # On a CPU the host would take another attention than on a GPU: one that trades time for memory.
    comfy.cli_args.args.use_pytorch_cross_attention = cpu
    import comfy_api.latest  # noqa: F401 - before its parts, which import each other

    if cpu:
        torch.set_num_threads(1)
    with torch.inference_mode():
        bench = Bench(layers, frames, dtype)
        where = "CPU, one thread" if cpu else torch.cuda.get_device_name()
        print(
            f"{where}, {given.dtype}, torch {torch.__version__}: {layers} of {LAYERS} blocks, "
            f"{frames * ROWS * COLUMNS} of {FULL_TOKENS} video tokens, {given.rounds} rounds\n",
            flush=True,
        )
        for rows in (
            step_rows(bench, given.rounds),
            injection_rows(bench, given.rounds),
            operations_rows(FULL_TOKENS),
            weights_rows(),
        ):
            print(table(rows, given.markdown), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
