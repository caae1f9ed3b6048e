"""Best of N on the real host: the finished take is that of its seed alone, bit for bit."""

from __future__ import annotations

import pytest
import torch
from host_graph import apply

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def parts(host, loaded, identity, conditioned):
    """Guider, schedule and latent of a run of five steps."""
    positive, negative, latent = conditioned
    model = apply(host, loaded, identity)
    inputs = {"model": model, "positive": positive, "negative": negative, "cfg": 6.0}
    (guider,) = host.run("FantasyIDGuider", **inputs, dynamic_cfg=True)
    (sigmas,) = host.run("FantasyIDScheduler", model=model, steps=5, denoise=1.0)
    return {"guider": guider, "sigmas": sigmas, "latent_image": latent}


def choose(host, loaded, parts, rule="dpm", **changes):
    (sampler,) = host.run("FantasyIDSamplerSelect", sampler=rule)
    inputs = {"sampler": sampler, "vae": loaded["vae"], "first_seed": 7, "takes": 3}
    inputs |= {
        "probe_steps": 2,
        "likeness": 0.0,
        "preview_scale": 0.5,
        "recogniser": "none: FM only",
    }
    return host.run("FantasyIDBestOf", **(parts | inputs | {"detector": "cascade"} | changes))


def alone(host, parts, seed, rule="dpm"):
    (sampler,) = host.run("FantasyIDSamplerSelect", sampler=rule)
    (noise,) = host.run("RandomNoise", noise_seed=seed)
    return host.run("SamplerCustomAdvanced", noise=noise, sampler=sampler, **parts)[0]["samples"]


@pytest.mark.parametrize("rule", ["dpm", "ddim"])
def test_the_best_take_is_its_seed_alone_to_the_bit(host, loaded, parts, rule):
    latent, seed, sheet, report = choose(host, loaded, parts, rule)
    assert seed in (7, 8, 9)
    assert torch.equal(latent["samples"], alone(host, parts, seed, rule))
    assert f"Went on with seed {seed} of 3" in report
    assert sheet.shape[0] == 1
    assert sheet.std() > 0.05


def test_the_take_with_the_highest_score_is_finished(host, ours, loaded, parts, monkeypatch):
    """With motion given from outside, the node finishes the liveliest, whichever it is."""
    module = ours("fantasyid.comfyui.best_of")
    real, motions = module.measure_clip, iter([1.0, 3.0, 2.0])

    def measured(frames, request):
        import dataclasses

        assert frames.shape[0] == 9
        assert frames.shape[1] < 64, "the preview is not small"
        return dataclasses.replace(real(frames, request), fm=next(motions))

    monkeypatch.setattr(module, "measure_clip", measured)
    latent, seed, _, report = choose(host, loaded, parts)
    assert seed == 8
    assert "seed 8: likeness unknown, motion 3, score 1.00" in report.replace("\n", " ")
    assert torch.equal(latent["samples"], alone(host, parts, 8))


def test_a_cached_sampler_starts_anew_each_time(host, parts):
    (sampler,) = host.run("FantasyIDSamplerSelect", sampler="dpm")
    (noise,) = host.run("RandomNoise", noise_seed=7)
    first, second = (
        host.run("SamplerCustomAdvanced", noise=noise, sampler=sampler, **parts)[0]["samples"]
        for _ in range(2)
    )
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"likeness": 0.5}, "likeness cannot be measured: no reference is connected"),
        ({"likeness": 1.0, "reference": torch.rand(1, 64, 64, 3)}, "no face recogniser was chosen"),
    ],
)
def test_what_cannot_work_is_refused_before_the_first_step(host, loaded, parts, changes, words):
    with pytest.raises(ValueError, match=words):
        choose(host, loaded, parts, **changes)


def test_a_probe_as_long_as_the_run_leaves_its_last_step(host, loaded, parts):
    long, last = (choose(host, loaded, parts, probe_steps=n, takes=2) for n in (99, 4))
    assert torch.equal(long[0]["samples"], last[0]["samples"])
    assert long[1] == last[1]


def test_a_foreign_sampler_is_refused(host, loaded, parts):
    (euler,) = host.run("KSamplerSelect", sampler_name="euler")
    with pytest.raises(ValueError, match="not from FantasyID Sampler Select"):
        choose(host, loaded, parts, sampler=euler)
