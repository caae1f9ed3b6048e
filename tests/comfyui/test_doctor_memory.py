"""The estimate of memory against what sampling takes, counted by torch, on the real host."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from host_graph import sample
from torch.profiler import ProfilerActivity, profile

from miniature.checkpoints import transformer_files
from miniature.layouts import TinySizes

pytestmark = pytest.mark.slow

WITHIN = 0.15
MEDIUM = TinySizes(dim=576, blocks=2, context_dim=384, time_dim=192)
LARGEST = (192, 128, 17)


@pytest.fixture(scope="module")
def folders(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("medium") / "transformer"
    folder.mkdir()
    for name, content in transformer_files(MEDIUM).items():
        (folder / name).write_bytes(content)
    return {"tiny": tiny.model, "medium": folder.parent}


@pytest.fixture
def attention(monkeypatch):
    """`attention(name)`: let the host compute attention with one of its own functions."""
    import comfy.ldm.cogvideo.model
    import comfy.ldm.modules.attention as host_attention

    def choose(name):
        function = getattr(host_attention, f"attention_{name}")
        for module in (host_attention, comfy.ldm.cogvideo.model):
            monkeypatch.setattr(module, "optimized_attention", function)

    return choose


def load(ours, tiny, path, dtype):
    """A model with an identity of noise on it."""
    weights = ours("fantasyid.comfyui.weights")
    options = {} if dtype is None else {"dtype": dtype}
    model, adapter = weights.load_model(path, tiny.transforms, options)
    width = adapter.injection.context_dim
    identity = ours("fantasyid.identity").Identity(
        torch.randn(1, 36, width), torch.randn(1, 79, width)
    )
    steering = ours("fantasyid.injection.steering").Steering()
    return ours("fantasyid.comfyui.apply").apply_identity(model, adapter, identity, steering)


def conditioned(text_dim, size):
    width, height, length = size
    latent = torch.zeros(1, 16, (length - 1) // 4 + 1, height // 8, width // 8)
    face = torch.randn_like(latent)
    conds = [[[torch.randn(1, 226, text_dim), {"concat_latent_image": face}]] for _ in range(2)]
    return *conds, {"samples": latent}


def peak_bytes(function):
    """The most bytes that lived at once of those that a call allocates, kernels' own included."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as measured:
        function()
    kineto: Any = measured.profiler
    now = highest = count = 0
    for event in kineto.kineto_results.events():
        if event.name() == "[memory]":
            now, count = now + event.nbytes(), count + 1
            highest = max(highest, now)
    assert count > 500, "the profiler saw no allocations"
    return highest


@pytest.mark.parametrize(
    ("which", "size", "kind", "dtype"),
    [
        ("tiny", (96, 64, 9), "sub_quad", None),
        ("tiny", LARGEST, "sub_quad", None),
        ("tiny", LARGEST, "pytorch", None),
        ("medium", (96, 64, 9), "sub_quad", None),
        ("medium", LARGEST, "pytorch", None),
        ("medium", (96, 64, 9), "pytorch", torch.bfloat16),  # weights cast layer by layer
    ],
)
def test_the_estimate_is_what_sampling_takes(
    host, ours, tiny, folders, attention, which, size, kind, dtype
):
    attention(kind)
    model = load(ours, tiny, folders[which], dtype)
    doctor, video = (
        ours("fantasyid.comfyui.doctor"),
        ours("fantasyid.doctor.memory").VideoSize(*size),
    )
    conds = conditioned(model.model.diffusion_model.patch_embed.text_proj.in_features, size)
    sample(host, model, conds, steps=1)  # loads the weights and makes the tables
    measured = peak_bytes(lambda: sample(host, model, conds, steps=2))
    expected = doctor.estimate_for(model, None, video)
    assert expected.activations == pytest.approx(measured, rel=WITHIN)
    injectors = model.get_additional_models_with_key("fantasyid_identity")
    modules = (model.model, *(patcher.model for patcher in injectors))
    kept = sum(t.nbytes for m in modules for t in m.state_dict().values())
    assert expected.total == pytest.approx(kept + measured, rel=WITHIN)


def test_one_branch_takes_half_of_two(ours):
    memory = ours("fantasyid.doctor.memory")
    size = memory.VideoSize(720, 480, 49)
    one, two = (memory.block_bytes(size, memory.Run(3072, 4096, batch=n)) for n in (1, 2))
    assert two == 2 * one


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_estimate_of_a_call_holds_in_bf16_on_every_device(
    ours, tiny, folders, attention, device
):
    """The transformer alone, moved by hand: the tests' host itself is started for the CPU."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    attention("pytorch")
    memory = ours("fantasyid.doctor.memory")
    model = load(ours, tiny, folders["medium"], None).model
    transformer = copy.deepcopy(model.diffusion_model).to(device, torch.bfloat16)
    size = memory.VideoSize(*LARGEST)
    text_dim = transformer.patch_embed.text_proj.in_features
    latents = torch.randn(2, 32, *size.latent_shape, device=device, dtype=torch.bfloat16)
    text = torch.randn(2, memory.TEXT_TOKENS, text_dim, device=device, dtype=torch.bfloat16)
    timestep = torch.full((2,), 500.0, device=device)

    def call():
        transformer(latents, timestep, text)

    call()
    if device == "cpu":
        measured = peak_bytes(call)
    else:
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        measured = torch.cuda.max_memory_allocated() - before
    expected = memory.block_bytes(size, memory.Run(transformer.dim, text_dim))
    assert expected == pytest.approx(measured, rel=WITHIN)
