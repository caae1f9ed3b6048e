"""Dials that two lines exchanged would still turn: each is compared with what it must do."""

from __future__ import annotations

import math

import pytest
import torch
from host_graph import apply, load_model, sample, sample_in_parts, watched


@pytest.fixture(scope="module")
def person(with_identity):
    return with_identity


def guided(host, model, conditioned, **changes):
    return sample_in_parts(host, model, conditioned, rule="ddim", **changes)


@pytest.mark.parametrize("cfg", [1.0, 6.0])
def test_identity_guidance_adds_what_the_identity_changes_at_any_cfg(
    host, loaded, person, conditioned, cfg
):
    """with cfg + scale * (conditional with - conditional without), in one deterministic step."""

    def run(model, **changes):
        return guided(host, model, conditioned, steps=1, **changes)

    change = run(person, cfg=1.0) - run(loaded["model"], cfg=1.0)
    assert change.norm() / run(person).norm() > 1e-4
    for scale in (0.0, 1.5):
        got = run(person, cfg=cfg, identity_scale=scale)
        expected = run(person, cfg=cfg) + scale * change
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


def test_guidance_costs_one_call_where_it_acts(host, loaded, identity, conditioned):
    calls = []

    def count(executor, *args, **kwargs):
        calls.append(args[0].shape[0])
        return executor(*args, **kwargs)

    model = apply(host, loaded, identity, model=watched(loaded["model"], count))
    items = []
    for scales in (
        {},
        {"identity_scale": 1.0},
        {"identity_scale": 1.0, "identity_start": 0.0, "identity_end": 0.5},
        {"cfg_end": 0.5},
        {"cfg_start": 0.5},
    ):
        calls.clear()
        guided(host, model, conditioned, steps=4, **scales)
        items.append(sum(calls))
    assert items == [8, 12, 10, 6, 6]


def test_outside_of_its_span_the_prompt_counts_with_one(host, person, conditioned):
    runs = {"steps": 1, "cfg": 4.0}
    whole, one = (guided(host, person, conditioned, steps=1, cfg=cfg) for cfg in (4.0, 1.0))
    assert torch.equal(guided(host, person, conditioned, cfg_end=0.5, **runs), whole)
    assert torch.equal(guided(host, person, conditioned, cfg_start=0.5, **runs), one)
    assert not torch.equal(whole, one)


def test_identity_guidance_without_an_identity_is_refused(
    host, loaded, identity, person, conditioned
):
    for model in (loaded["model"], apply(host, loaded, identity, 0.0)):
        with pytest.raises(ValueError, match="the model input carries no identity"):
            guided(host, model, conditioned, identity_scale=1.0)
    with pytest.raises(ValueError, match="identity_end must be larger"):
        guided(host, person, conditioned, identity_start=0.5, identity_end=0.5)
    with pytest.raises(ValueError, match="cfg_end must be larger"):
        guided(host, person, conditioned, cfg_start=0.5, cfg_end=0.5)


def test_dynamic_guidance_hands_over_the_scale_of_each_step(host, loaded, conditioned):
    """Growing as in CogVideoX, from 1: 1 + cfg (1 - cos(pi (i / N)^5)) / 2."""
    scales = []

    def note(step):
        scales.append(float(step["cond_scale"]))
        return step["denoised"]

    model = loaded["model"].clone()
    model.set_model_sampler_post_cfg_function(note)
    sample(host, model, conditioned, steps=4, dynamic_cfg=True)
    expected = [1 + 6.0 * (1 - math.cos(math.pi * (i / 4) ** 5)) / 2 for i in range(4)]
    assert scales == pytest.approx(expected)


@pytest.mark.parametrize(("jaw", "rotation"), [(True, False), (False, True), (False, False)])
def test_the_jaw_is_the_jaw_and_the_rotation_the_heads(host, loaded, jaw, rotation):
    stages, deca = host.ours("fantasyid.comfyui.stages"), loaded["deca"]
    photos = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(3))
    code = host.ours("fantasyid.geometry.deca").split_code(deca.encoder.model(photos))
    kept = stages.KeptCodes(True, jaw, rotation, stages.WHOLE_IMAGE)
    pose = code.pose.clone()
    if not rotation:
        pose[:, :3] = 0  # FLAME: the global rotation comes first
    if not jaw:
        pose[:, 3:] = 0
    expected = deca.flame.model(code.shape, code.expression, pose)
    assert not torch.allclose(expected, deca.flame.model(code.shape, code.expression, code.pose))
    torch.testing.assert_close(stages._read_heads(deca, photos, kept)[0], expected)


def test_conditional_only_finds_the_conditional_rows_of_a_batch(
    host, loaded, identity, conditioned
):
    """Two videos at a time give what each gives alone."""
    model = apply(host, loaded, identity, branches="conditional only")
    positive, negative, latent = conditioned
    two = {"samples": latent["samples"].repeat(2, 1, 1, 1, 1), "batch_index": [0, 1]}
    one = {"samples": latent["samples"], "batch_index": [0]}
    together, alone = (
        sample(host, model, (positive, negative, given), sampler="ddim") for given in (two, one)
    )
    assert not torch.allclose(together[:1], together[1:], atol=1e-3)
    torch.testing.assert_close(together[:1], alone, rtol=1e-3, atol=1e-3)


def test_two_adapters_on_one_model_in_both_orders(host, loaded, identity, conditioned):
    """Each identity goes through the injectors of its own adapter."""
    second = load_model(host)[1]
    with torch.no_grad():
        for parameter in second.injectors.model.parameters():
            parameter.mul_(0.5)
    other = loaded | {"adapter": second}
    first = apply(host, other, identity, model=apply(host, loaded, identity))
    swapped = apply(host, loaded, identity, model=apply(host, other, identity))
    videos = [sample(host, model, conditioned) for model in (first, swapped)]
    torch.testing.assert_close(*videos, rtol=1e-4, atol=1e-5)
    twice = sample(host, apply(host, loaded, identity, model=apply(host, loaded, identity)),
                   conditioned)  # fmt: skip
    assert not torch.allclose(videos[0], twice, atol=1e-4)
