"""Every dial of Apply, the layer weights, the injection report and identity guidance, for real."""

from __future__ import annotations

import json

import pytest
import torch
from host_graph import apply, sample, watched
from host_graph import layer_weights as weights

BLOCKS = 4


@pytest.fixture(scope="module")
def plain(without):
    return without


@pytest.fixture(scope="module")
def other(other_person):
    return other_person


@pytest.fixture(scope="module")
def released(expected):
    return expected


@pytest.fixture(scope="module")
def steered(host, loaded, identity):
    """`steered(model=..., person=..., **dials)`: a MODEL with an identity."""
    return lambda person=None, **dials: apply(host, loaded, person or identity, **dials)


def curve(*points):
    from comfy_api.input import CurveInput

    return CurveInput.from_raw({"points": points, "interpolation": "linear"})


def reported(host, model, latent):
    picture, text, summary = host.run(
        "FantasyIDInjectionReport", model=model, latent={"samples": latent}
    )
    content = json.loads(text)
    tables = []
    for branch in ("conditional", "unconditional"):
        rows = [[torch.nan if v is None else v for v in row] for row in content[branch]]
        tables.append(torch.tensor(rows))
    return picture, content, summary, *tables


NEUTRAL = {
    "parts": {"looks": 1.0, "shape": 1.0, "start_percent": 0.0, "end_percent": 1.0,
              "branches": "both"},
    "mask": {"mask": torch.ones(1, 64, 96)},
    "curve": {"strength_curve": [(0.0, 1.0), (1.0, 1.0)]},
    "layers": {"layer_weights": "likeness"},
    "record": {"record": True},
}  # fmt: skip
ZERO = {
    "strength": {"strength": 0.0},
    "parts": {"looks": 0.0, "shape": 0.0},
    "mask": {"mask": torch.zeros(1, 64, 96)},
    "curve": {"strength_curve": [(0.0, 0.0), (1.0, 0.0)]},
    "layers": {"layer_weights": "custom"},
}


@pytest.mark.parametrize(("end", "dial"), [*(("full", d) for d in NEUTRAL),
                                           *(("zero", d) for d in ZERO)])  # fmt: skip
def test_a_dial_at_its_end_is_all_or_nothing_to_the_bit(
    host, steered, conditioned, released, plain, end, dial
):
    dials = dict((NEUTRAL if end == "full" else ZERO)[dial])
    if "strength_curve" in dials:
        dials["strength_curve"] = curve(*dials["strength_curve"])
    if "layer_weights" in dials:
        dials["layer_weights"] = weights(host, dials["layer_weights"])
    video = sample(host, steered(**dials), conditioned)
    assert torch.equal(video, released if end == "full" else plain)


def test_looks_and_shape_are_two_different_halves(host, steered, conditioned, plain, released):
    looks, shape = (
        sample(host, steered(**dials), conditioned) for dials in ({"shape": 0.0}, {"looks": 0.0})
    )
    for one, another in ((looks, plain), (shape, plain), (looks, shape), (looks, released)):
        assert not torch.allclose(one, another, atol=1e-5)


def test_half_twice_is_one(host, steered, conditioned, released):
    twice = steered(model=steered(strength=0.5), strength=0.5)
    torch.testing.assert_close(sample(host, twice, conditioned), released, rtol=1e-4, atol=1e-5)


def test_two_people_add_up_in_any_order(host, steered, conditioned, other, released):
    first = sample(host, steered(model=steered(), person=other), conditioned)
    second = sample(host, steered(model=steered(person=other)), conditioned)
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(first, released, atol=1e-4)


def test_adapters_of_different_depth_are_refused_before_sampling(ours, steered):
    """The first identity as an adapter with injectors for every other block would leave it."""
    import dataclasses

    model, apply = steered(), ours("fantasyid.comfyui.apply")
    (applied,) = apply.injection_of(model).applied
    shallow = dataclasses.replace(applied, factors=applied.factors[:2])
    apply._attach(model, ours("fantasyid.comfyui.injection").IdentityInjection([shallow]))
    with pytest.raises(ValueError, match=r"an identity with 2 injectors, the adapter .* has 4"):
        steered(model=model)


def test_a_mask_keeps_an_identity_in_its_place(host, steered, conditioned, plain):
    """In the last block alone nothing carries it on: the other half does not change by a bit."""
    left = torch.zeros(1, 64, 96)
    left[..., :48] = 1.0
    dials = {"layer_weights": weights(host, layers=f"{BLOCKS - 1}"), "mask": left}
    video = sample(host, steered(**dials), conditioned, steps=1)
    bare = sample(host, steered(strength=0.0), conditioned, steps=1)
    assert torch.equal(video[..., 6:], bare[..., 6:])
    assert not torch.allclose(video[..., :6], bare[..., :6], atol=1e-5)
    assert plain.shape == video.shape


def test_two_people_side_by_side(host, steered, conditioned, other):
    """Each half is what its person alone gives, again in the last block."""
    left = torch.zeros(1, 64, 96)
    left[..., :48] = 1.0
    last = {"layer_weights": weights(host, layers=f"{BLOCKS - 1}")}
    both = steered(model=steered(mask=left, **last), person=other, mask=1 - left, **last)
    video = sample(host, both, conditioned, steps=1)
    for person, half in ((None, slice(0, 6)), (other, slice(6, 12))):
        alone = sample(host, steered(person=person, **last), conditioned, steps=1)
        torch.testing.assert_close(video[..., half], alone[..., half], rtol=1e-4, atol=1e-5)


def test_start_and_end_are_kept(host, steered, conditioned):
    model = steered(start_percent=0.3, end_percent=0.7, record=True)
    latent = sample(host, model, conditioned, steps=5)
    _, content, _, conditional, unconditional = reported(host, model, latent)
    inside = torch.tensor([0.3 <= p < 0.7 for p in content["percents"]])
    assert inside.tolist() == [False, False, True, True, False]
    for table in (conditional, unconditional):
        assert (table[inside] > 0).all()
        assert not table[~inside].any()


def test_a_curve_scales_each_step(host, steered, conditioned):
    """The last block's share at the first step is proportional to the curve's value."""
    shares = []
    for value in (1.0, 0.25):
        model = steered(
            strength_curve=curve((0.0, value), (1.0, value)),
            layer_weights=weights(host, layers=f"{BLOCKS - 1}"),
            record=True,
        )
        latent = sample(host, model, conditioned, steps=1)
        shares.append(reported(host, model, latent)[3][0, BLOCKS - 1])
    torch.testing.assert_close(shares[1], shares[0] / 4, rtol=1e-3, atol=1e-5)


def test_layer_weights_reach_their_blocks_only(host, steered, conditioned):
    model = steered(layer_weights=weights(host, layers="1, 3:0.5"), record=True)
    latent = sample(host, model, conditioned, steps=2)
    *_, conditional, unconditional = reported(host, model, latent)
    for table in (conditional, unconditional):
        assert (table > 0).tolist() == [[False, True, False, True]] * 2


def test_conditional_only_spares_the_other_branch(host, steered, conditioned, released):
    model = steered(branches="conditional only", record=True)
    latent = sample(host, model, conditioned)
    assert not torch.allclose(latent, released, atol=1e-4)
    *_, conditional, unconditional = reported(host, model, latent)
    assert (conditional > 0).all()
    assert not unconditional.any()
    alone, both = (
        sample(host, steered(branches=branches), conditioned, cfg=1.0)
        for branches in ("conditional only", "both")
    )
    assert torch.equal(alone, both)


def test_the_report_answers_whether_identity_is_on(host, steered, conditioned):
    model = steered(record=True)
    latent = sample(host, model, conditioned)
    picture, content, summary, conditional, unconditional = reported(host, model, latent)
    assert summary.startswith("Identity is ON: on average it moved the hidden states by cond")
    assert content["is_on"] is True
    assert conditional.shape == unconditional.shape == (3, BLOCKS)
    assert content["preset_shares"]["likeness"] == 1.0
    assert 0 < content["preset_shares"]["motion"] < content["preset_shares"]["balanced"] < 1
    assert picture.shape[0] == 1
    assert picture.std() > 0.05
    model = steered(record=True, mask=torch.zeros(1, 8, 8))
    latent = sample(host, model, conditioned)
    assert reported(host, model, latent)[2].startswith("Identity is OFF")


def test_the_report_measures_what_is_added(host, loaded, steered, conditioned):
    """Against the hidden states before and after the last block's injection."""
    seen: dict[str, torch.Tensor] = {}
    transformer = loaded["model"].model.diffusion_model

    def watch(executor, *args, **kwargs):
        # Made before the injection's own hooks, so it sees the block's plain output.
        handles = [
            transformer.blocks[-1].register_forward_hook(
                lambda _m, _a, out: seen.update(before=out[0])
            ),
            transformer.norm_final.register_forward_pre_hook(
                lambda _m, given: seen.update(after=given[0])
            ),
        ]
        try:
            return executor(*args, **kwargs)
        finally:
            for handle in handles:
                handle.remove()

    model = steered(model=watched(loaded["model"], watch), record=True)
    latent = sample(host, model, conditioned, steps=1, cfg=1.0)
    *_, conditional, unconditional = reported(host, model, latent)
    expected = (seen["after"] - seen["before"]).norm() / seen["before"].norm()
    torch.testing.assert_close(conditional[0, -1], expected.cpu(), rtol=1e-3, atol=1e-5)
    assert unconditional.isnan().all(), "cfg 1 has no unconditional branch"


def test_the_videos_of_a_batch_are_measured_together(ours):
    """Length over all videos of a branch: root of the sum of squares, of each of the two parts."""
    norms = torch.tensor([[3.0, 4.0, 0.0, 1.0], [6.0, 8.0, 1.0, 0.0]])
    ratios = ours("fantasyid.comfyui.record")._ratio(norms, 2)
    torch.testing.assert_close(ratios, torch.tensor([0.5, 1.0]))
    skewed = torch.tensor([[3.0, 4.0], [0.0, 13.0]])
    ratio = ours("fantasyid.comfyui.record")._ratio(skewed, 1)
    torch.testing.assert_close(ratio, torch.tensor([5.0 / 13.0]))


@pytest.mark.parametrize(
    ("dials", "words"),
    [({}, "nothing was recorded: turn on record"), ({"strength": 0.0}, "carries no identity")],
)
def test_a_report_without_a_record_says_why(host, steered, conditioned, dials, words):
    latent = {"samples": conditioned[2]["samples"]}
    with pytest.raises(ValueError, match=words):
        host.run("FantasyIDInjectionReport", model=steered(**dials), latent=latent)
    with pytest.raises(ValueError, match="was not sampled"):
        host.run("FantasyIDInjectionReport", model=steered(record=True), latent=latent)


def test_a_report_makes_presets_of_the_users_own_weights(host, steered, conditioned):
    model = steered(record=True)
    _, content, _, before, _ = reported(host, model, sample(host, model, conditioned, steps=1))
    layers = weights(host, preset="motion", report=json.dumps(content))
    leveled = steered(record=True, layer_weights=layers)
    *_, after, _ = reported(host, leveled, sample(host, leveled, conditioned, steps=1))
    assert float(after.sum() / before.sum()) == pytest.approx(0.5, abs=0.05)
    assert float(after.max() / after.min()) < float(before.max() / before.min())


def test_a_start_image_takes_the_crops_place(host, loaded, aligned, conditioned):
    positive, negative, _ = conditioned
    inputs = {"positive": positive, "negative": negative, "vae": loaded["vae"], "face": aligned[0]}
    inputs |= {"width": 96, "height": 64, "length": 9}

    def first_frames(image):
        out = host.run("FantasyIDFaceLatent", **inputs, start_image=image)
        return out[0][0][1]["concat_latent_image"]

    torch.manual_seed(0)
    picture, clip = torch.rand(1, 80, 80, 3), torch.rand(7, 80, 80, 3)
    assert first_frames(picture).shape == (1, 16, 1, 8, 12)
    assert first_frames(clip).shape == (1, 16, 2, 8, 12)
    assert first_frames(torch.rand(50, 80, 80, 3)).shape == (1, 16, 3, 8, 12)
    assert not torch.equal(first_frames(picture), positive[0][1]["concat_latent_image"])
