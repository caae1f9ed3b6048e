"""Where weights lie and in which precision: offload, unload, fp8, bf16."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from compatibility import difference
from host_graph import apply, load_base, sample

# What --novram lets every model have on the device.
NO_MEMORY = 0.1


@pytest.fixture
def squeezed(monkeypatch):
    """`squeezed(module, ...)`: these are loaded as under --novram; the CPU is the device."""
    import comfy.model_management as management

    load: Callable = management.LoadedModel.model_load

    def squeeze(*modules):
        management.unload_all_models()

        def load_little(self, lowvram_model_memory=0, force_patch_weights=False):
            if self.model.model in modules:
                lowvram_model_memory = NO_MEMORY
            return load(self, lowvram_model_memory, force_patch_weights)

        monkeypatch.setattr(management.LoadedModel, "model_load", load_little)

    yield squeeze
    management.unload_all_models()


@pytest.mark.parametrize("part", ["base and adapter", "adapter alone"])
def test_offload(host, loaded, identity, conditioned, expected, squeezed, part, compatible):
    """Weights are cast layer by layer as they are needed."""
    model = apply(host, loaded, identity)
    base, injectors = model.model, loaded["adapter"].injectors.model
    squeezed(*((base, injectors) if part.startswith("base") else (injectors,)))
    seen = []
    handle = injectors.in_order()[-1].to_q.register_forward_pre_hook(
        lambda *_: seen.append((base.model_lowvram, injectors.model_lowvram))
    )
    try:
        video = sample(host, model, conditioned)
    finally:
        handle.remove()
    assert set(seen) == {(part.startswith("base"), True)}, "the weights were loaded after all"
    error, words = difference(video, expected)
    assert error < 1e-6
    compatible("low-VRAM offload", words, part)


def test_unload_and_run_again(host, with_identity, conditioned, expected, compatible):
    import comfy.model_management as management

    management.unload_all_models()
    assert not management.loaded_models()
    assert torch.equal(sample(host, with_identity, conditioned), expected)
    management.unload_all_models()
    assert torch.equal(sample(host, with_identity.clone(), conditioned), expected)
    management.soft_empty_cache()
    compatible("unload all models, run again", "the same bits")


@pytest.mark.parametrize(("kind", "tolerance"), [("fp8_e4m3fn", 0.2), ("fp8_e5m2", 0.4)])
def test_fp8_base(
    host, loaded, identity, conditioned, expected, without, kind, tolerance, compatible
):
    """Weights in fp8, computed in the CPU's float32; the identity's own part keeps its dtype."""
    base = load_base(host, weight_dtype=kind)
    weight = base.model.diffusion_model.blocks[0].q.weight
    assert str(weight.dtype) == f"torch.float8_{kind[4:]}"
    on = sample(host, apply(host, loaded, identity, model=base), conditioned)
    off = sample(host, apply(host, loaded, identity, 0.0, model=base), conditioned)
    assert torch.isfinite(on).all()
    error = difference(on, expected)[0]
    assert 0 < error < tolerance
    moved, moved_exactly = on - off, expected - without
    kept = float(torch.nn.functional.cosine_similarity(moved.ravel(), moved_exactly.ravel(), 0))
    assert kept > 0.5, "the identity pulls elsewhere"
    compatible(
        "fp8 base", f"{error:.1%} from fp32, the identity's change has cosine {kept:.2f}", kind
    )


def test_bf16_base(host, loaded, identity, conditioned, expected, without, compatible):
    """The whole computation in bf16, keys and values of the identity too."""
    (base,) = host.run("ModelComputeDtype", model=loaded["model"], dtype="bf16")
    seen = set()
    injector = loaded["adapter"].injectors.model.in_order()[0]
    handle = injector.register_forward_pre_hook(
        lambda _module, given: seen.update({given[0].dtype, given[1][0].keys.dtype})
    )
    try:
        on = sample(host, apply(host, loaded, identity, model=base), conditioned)
    finally:
        handle.remove()
    assert seen == {torch.bfloat16}
    off = sample(host, apply(host, loaded, identity, 0.0, model=base), conditioned)
    error = difference(on, expected)[0]
    assert 0 < error < 0.1
    moved, moved_exactly = on - off, expected - without
    kept = float(torch.nn.functional.cosine_similarity(moved.ravel(), moved_exactly.ravel(), 0))
    assert kept > 0.8
    assert torch.equal(sample(host, apply(host, loaded, identity), conditioned), expected)
    compatible("bf16 base", f"{error:.1%} from fp32, the identity's change has cosine {kept:.2f}")
