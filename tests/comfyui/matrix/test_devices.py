"""Several GPUs, as far as one CPU can tell: a second name of the CPU is the second device."""

from __future__ import annotations

import pytest
import torch
from compatibility import difference
from host_graph import apply, sample

SECOND = torch.device("cpu", 0)  # another key than torch.device("cpu"), the same memory


pytestmark = pytest.mark.usefixtures("two_devices")


class OneAfterTheOther:
    """The host's pool of threads without threads: both devices are one here."""

    def __init__(self, devices):
        self.results = {device: [] for device in devices}

    def submit(self, device, function, *args, **kwargs):
        self.results[device].append((function(*args, **kwargs), None))

    def get_result(self, device):
        return self.results[device].pop(0)

    def shutdown(self):
        self.results.clear()


@pytest.fixture
def two_devices(monkeypatch):
    import comfy.model_management as management
    import comfy.multigpu

    devices = [management.get_torch_device(), SECOND]
    assert devices[0] != devices[1]
    monkeypatch.setattr(management, "get_all_torch_devices", lambda **_: list(devices))
    monkeypatch.setattr(comfy.multigpu, "MultiGPUThreadPool", OneAfterTheOther)
    management.unload_all_models()
    yield
    management.unload_all_models()


def split_over_devices(host, model):
    (model,) = host.run("MultiGPU_WorkUnits", model=model, max_gpus=2)
    (clone,) = model.get_additional_models_with_key("multigpu")
    assert clone.load_device == SECOND
    assert clone.model is not model.model
    return model


def injectors_of(ours, patcher):
    key = ours("fantasyid.comfyui.injection").IDENTITY_KEY
    return [each.model for each in patcher.get_additional_models_with_key(key)]


@pytest.mark.parametrize("order", ["apply, then split", "split, then apply"])
def test_each_device_has_injectors_of_its_own(
    host, ours, loaded, identity, conditioned, expected, order, compatible
):
    if order.startswith("apply"):
        model = split_over_devices(host, apply(host, loaded, identity))
    else:
        model = apply(host, loaded, identity, model=split_over_devices(host, loaded["model"]))
        model.match_multigpu_clones()
    (clone,) = model.get_additional_models_with_key("multigpu")
    (first,), (second,) = injectors_of(ours, model), injectors_of(ours, clone)
    assert first is loaded["adapter"].injectors.model
    assert second is not first
    calls = []
    handles = [
        module.in_order()[0].register_forward_hook(lambda m, given, _out: calls.append((m, given)))
        for module in (first, second)
    ]
    try:
        video = sample(host, model, conditioned)
    finally:
        for handle in handles:
            handle.remove()
    used = [module for module, _ in calls]
    for module in (first, second):
        assert used.count(module.in_order()[0]) == 3, "one call per step on each device"
    assert {given[0].shape[0] for _, given in calls} == {1}
    torch.testing.assert_close(video, expected, rtol=1e-4, atol=1e-5)
    for patcher in (model, clone):
        blocks = patcher.model.diffusion_model.blocks
        assert not [block for block in blocks if block._forward_hooks]
    compatible("MultiGPU CFG Split", difference(video, expected)[1], order)


def test_identities_of_two_adapters_find_their_copies(host, ours, loaded, identity, conditioned):
    """Two Apply nodes: the copy of each adapter is told apart, one copy serves both people."""
    twice = apply(host, loaded, identity, 0.5, model=apply(host, loaded, identity, 0.5))
    alone = sample(host, twice, conditioned)
    model = split_over_devices(host, twice)
    (clone,) = model.get_additional_models_with_key("multigpu")
    assert len(injectors_of(ours, clone)) == 1
    torch.testing.assert_close(sample(host, model, conditioned), alone, rtol=1e-4, atol=1e-5)


def test_a_model_on_another_device(host, ours, loaded, identity, conditioned, expected, compatible):
    """The host's own way to a copy elsewhere: everything that the MODEL carries goes along."""
    moved = apply(host, loaded, identity).deepclone_multigpu(new_load_device=SECOND)
    assert moved.model is not loaded["model"].model
    (copy,) = injectors_of(ours, moved)
    assert copy is not loaded["adapter"].injectors.model
    torch.testing.assert_close(sample(host, moved, conditioned), expected, rtol=1e-4, atol=1e-5)
    compatible("a MODEL copied to another device", "within 1e-4")
