"""The host's step caches: they skip calls of the model, and the identity with them."""

from __future__ import annotations

import json

import pytest
import torch
from host_graph import apply, sample, sample_in_parts

pytestmark = pytest.mark.slow

STEPS = 8
NEVER = {"reuse_threshold": 0.0, "start_percent": 0.0, "end_percent": 1.0, "verbose": False}
OFTEN = {**NEVER, "reuse_threshold": 3.0, "start_percent": 0.25}
CACHES = ("EasyCache", "LazyCache")


@pytest.fixture
def block_calls(loaded):
    """Counts how often the transformer's first block really runs."""
    calls: list[int] = []
    block = loaded["model"].model.diffusion_model.blocks[0]
    handle = block.register_forward_pre_hook(lambda *_: calls.append(1))
    yield calls
    handle.remove()


@pytest.fixture(scope="module")
def alone(host, with_identity, conditioned):
    return sample(host, with_identity, conditioned, steps=STEPS)


def cached(host, cache, model, settings):
    return host.run(cache, model=model, **settings)[0]


@pytest.mark.parametrize("cache", CACHES)
def test_a_cache_that_never_skips_changes_no_bit(
    host, with_identity, conditioned, alone, cache, block_calls
):
    model = cached(host, cache, with_identity, NEVER)
    assert torch.equal(sample(host, model, conditioned, steps=STEPS), alone)
    assert len(block_calls) == STEPS


def skipped_and_moved(host, loaded, identity, conditioned, alone, block_calls, cache):
    """Steps that a cache skipped, and how far the identity moved the video under it."""
    model = cached(host, cache, apply(host, loaded, identity), OFTEN)
    video = sample(host, model, conditioned, steps=STEPS)
    ran = len(block_calls)
    assert 2 <= ran < STEPS, "the cache skipped nothing"
    assert torch.isfinite(video).all()
    assert not torch.equal(video, alone)
    again = sample(host, model, conditioned, steps=STEPS)
    assert torch.equal(again, video), "something of the first run was left in the cache"
    off = cached(host, cache, apply(host, loaded, identity, 0.0), OFTEN)
    bare = sample(host, off, conditioned, steps=STEPS)
    moved = float((video - bare).norm() / bare.norm())
    assert moved > 1e-3, "no identity under the cache"
    return f"{STEPS - ran} of {STEPS} steps skipped, the identity still moves the latent by " + (
        f"{moved:.0%}"
    )


def test_easycache(host, loaded, identity, conditioned, alone, block_calls, compatible):
    result = skipped_and_moved(host, loaded, identity, conditioned, alone, block_calls, "EasyCache")
    compatible("EasyCache", result)


def test_lazycache(host, loaded, identity, conditioned, alone, block_calls, compatible):
    result = skipped_and_moved(host, loaded, identity, conditioned, alone, block_calls, "LazyCache")
    compatible("LazyCache", result)


def test_the_report_knows_the_steps_that_were_skipped(
    host, loaded, identity, conditioned, block_calls
):
    model = cached(host, "EasyCache", apply(host, loaded, identity, record=True), OFTEN)
    latent = sample(host, model, conditioned, steps=STEPS)
    _, text, summary = host.run("FantasyIDInjectionReport", model=model, latent={"samples": latent})
    assert summary.startswith("Identity is ON")
    rows = json.loads(text)["conditional"]
    measured = [row for row in rows if None not in row]
    assert len(measured) == len(block_calls)
    assert all(value > 0 for row in measured for value in row)


def guided(host, model, conditioned, scale):
    """Eight steps of the host's sampler with our guider."""
    run = {"rule": "ddim", "steps": STEPS, "identity_scale": scale}
    return sample_in_parts(host, model, conditioned, **run)


def test_identity_guidance_under_easycache(host, loaded, identity, conditioned, compatible):
    """The branch without the identity comes after the branches that the cache measures."""
    plain = apply(host, loaded, identity)
    never, often = (cached(host, "EasyCache", plain, settings) for settings in (NEVER, OFTEN))
    exact = guided(host, plain, conditioned, 1.0)
    assert torch.equal(guided(host, never, conditioned, 1.0), exact)
    on, off = (guided(host, often, conditioned, scale) for scale in (1.0, 0.0))
    assert torch.isfinite(on).all()
    assert (on - off).norm() / off.norm() > 1e-4
    compatible("EasyCache with identity guidance", "never skipping: the same bits; skipping: on")
