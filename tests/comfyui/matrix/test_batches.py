"""How the host packs calls of the model: split and batched guidance, several videos at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from compatibility import difference
from host_graph import apply, sample

pytestmark = pytest.mark.slow

TOLERANCE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture
def sizes(monkeypatch):
    """`sizes(fits)`: batch sizes of the calls of the model from now on, with room or without."""
    import comfy.model_base
    import comfy.model_patcher

    found: list[int] = []
    inner = comfy.model_base.BaseModel._apply_model

    def note(self, x, *args, **kwargs):
        found.append(x.shape[0])
        return inner(self, x, *args, **kwargs)

    def watch(fits):
        free = 1e15 if fits else 0
        found.clear()
        monkeypatch.setattr(comfy.model_patcher.ModelPatcher, "get_free_memory", lambda *_: free)
        monkeypatch.setattr(comfy.model_base.BaseModel, "_apply_model", note)
        return found

    return watch


@pytest.mark.parametrize("branches", ["both", "conditional only"])
def test_split_guidance(host, loaded, identity, conditioned, sizes, branches, compatible):
    model = apply(host, loaded, identity, branches=branches)
    found = sizes(fits=True)
    batched = sample(host, model, conditioned)
    assert found == [2, 2, 2]
    sizes(fits=False)
    split = sample(host, model, conditioned)
    assert found == [1] * 6
    torch.testing.assert_close(split, batched, **TOLERANCE)
    compatible("batched and split CFG", difference(split, batched)[1], branches)


def test_cfg_1_runs_the_positive_branch_only(
    host, with_identity, loaded, conditioned, sizes, compatible
):
    positive, negative, latent = conditioned
    found = sizes(fits=True)
    alone = sample(host, with_identity, conditioned, cfg=1.0)
    assert found == [1, 1, 1]
    other_negative = sample(host, with_identity, (positive, positive, latent), cfg=1.0)
    assert torch.equal(alone, other_negative)
    bare = sample(host, loaded["model"], conditioned, cfg=1.0)
    moved = float((alone - bare).norm() / bare.norm())
    assert moved > 1e-3
    assert negative
    compatible("CFG 1", f"one call per step; the identity moves the latent by {moved:.1%}")


def prompts(host, loaded, conditioned, *texts):
    """Positive conditionings with the face, one per text."""
    start = conditioned[0][0][1]
    found = []
    for text in texts:
        ((embedding, values),) = host.run("CLIPTextEncode", clip=loaded["clip"], text=text)[0]
        found.append([[embedding, {**start, **values}]])
    return found


def test_several_prompts_in_one_batch(host, loaded, with_identity, conditioned, sizes, compatible):
    """Each video of a batch, with a prompt of its own, is the one that it is alone."""
    one, two = prompts(host, loaded, conditioned, "a smile", "a walk through rain at night")
    negative, samples = conditioned[1], conditioned[2]["samples"]
    embeddings = torch.cat([one[0][0], two[0][0]])
    both = [[embeddings, one[0][1]]]
    latent = {"samples": samples.repeat(2, 1, 1, 1, 1), "batch_index": [0, 1]}
    found = sizes(fits=True)
    batch = sample(host, with_identity, (both, negative, latent), sampler="ddim")
    assert found == [4, 4, 4]
    for number, positive in enumerate((one, two)):
        alone = sample(
            host,
            with_identity,
            (positive, negative, {"samples": samples, "batch_index": [number]}),
            sampler="ddim",
        )
        torch.testing.assert_close(batch[number : number + 1], alone, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(batch[:1], batch[1:], atol=1e-2)
    compatible("several prompts in one batch", difference(batch[1:], alone)[1])


def test_combined_conditionings(host, loaded, identity, conditioned, sizes, compatible):
    """Two prompts for one video: three branches in a call, two of them conditional."""
    one, two = prompts(host, loaded, conditioned, "a smile", "a walk through rain at night")
    (combined,) = host.run("ConditioningCombine", conditioning_1=one, conditioning_2=two)
    model = apply(host, loaded, identity, branches="conditional only")
    given = (combined, conditioned[1], conditioned[2])
    found = sizes(fits=True)
    batched = sample(host, model, given)
    assert found == [3, 3, 3]
    sizes(fits=False)
    split = sample(host, model, given)
    assert found == [1] * 9
    torch.testing.assert_close(split, batched, **TOLERANCE)
    compatible("Conditioning (Combine)", difference(split, batched)[1])
