"""The samplers on the real host: seeds, second passes, masks, guidance, previews."""

from __future__ import annotations

import pytest
import torch
from host_graph import sample, sample_in_parts, watched


def small(latent: torch.Tensor, other: torch.Tensor) -> float:
    return float((latent - other).norm() / other.norm())


@pytest.fixture(scope="module")
def video(without):
    return without


@pytest.mark.parametrize("rule", ["dpm", "ddim"])
def test_the_same_seed_gives_the_same_video_and_another_does_not(host, loaded, conditioned, rule):
    one, again, other = (
        sample(host, loaded["model"], conditioned, sampler=rule, seed=seed) for seed in (5, 5, 6)
    )
    assert torch.equal(one, again)
    assert small(other, one) > 0.1


def test_every_run_says_in_one_line_whether_an_identity_was_active(
    host, loaded, with_identity, conditioned, caplog
):
    with caplog.at_level("INFO"):
        sample(host, with_identity, conditioned, steps=1)
        sample(host, loaded["model"], conditioned, steps=1)
        sample(host, with_identity, conditioned, steps=1)
    blocks = len(loaded["model"].model.diffusion_model.blocks)
    active = f"FantasyID: 1 steps, identity active on {blocks} of {blocks} blocks."
    none = "FantasyID: 1 steps, no identity: Apply Identity is not in this MODEL."
    said = [r.getMessage() for r in caplog.records if "1 steps, " in r.getMessage()]
    assert said == [active, none, active]


def test_the_two_rules_differ(host, loaded, conditioned, video):
    assert small(sample(host, loaded["model"], conditioned, sampler="ddim"), video) > 0.01


def second_pass(host, loaded, conditioned, latent, **changes):
    positive, negative, _ = conditioned
    return sample(host, loaded["model"], (positive, negative, latent), **changes)


def test_a_second_pass_with_little_denoise_stays_close(host, loaded, conditioned, video):
    little, much = (
        small(second_pass(host, loaded, conditioned, {"samples": video}, seed=77, **changes), video)
        for changes in ({"steps": 1, "denoise": 0.02}, {"steps": 3, "denoise": 1.0})
    )
    assert little < 0.3
    assert little < much / 2


def test_a_denoise_mask_keeps_what_it_covers(host, loaded, conditioned, video):
    mask = torch.zeros(1, 1, 3, 8, 12)
    mask[..., 6:] = 1.0
    latent = {"samples": video, "noise_mask": mask}
    again = second_pass(host, loaded, conditioned, latent, seed=11)
    torch.testing.assert_close(again[..., :6], video[..., :6], rtol=1e-4, atol=1e-4)
    assert small(again[..., 6:], video[..., 6:]) > 0.1


def test_under_a_mask_the_model_sees_the_kept_part_at_each_noise_level(
    host, ours, loaded, conditioned, video
):
    import comfy.sample

    seen = []

    def look(executor, x, t, *args, **kwargs):
        seen.append((float(t[0]), x[:1].clone()))
        return executor(x, t, *args, **kwargs)

    mask = torch.zeros(1, 1, 3, 8, 12)
    mask[..., 6:] = 1.0
    model = watched(loaded["model"], look)
    positive, negative, _ = conditioned
    latent = {"samples": video, "noise_mask": mask}
    sample(host, model, (positive, negative, latent), seed=11)
    diffusion = ours("fantasyid.cogvideox.schedule")
    clean = model.model.process_latent_in(video)
    noise = comfy.sample.prepare_noise(video, 11)
    assert len(seen) == 3
    for sigma, state in seen[1:]:
        known = diffusion.add_noise(clean, noise, diffusion.alpha_from_sigma(sigma))
        torch.testing.assert_close(state[..., :6], known[..., :6], rtol=1e-3, atol=1e-3)


def test_one_step_of_ddim_is_the_models_own_estimate(host, loaded, conditioned):
    """From pure noise with one step, x0 = -v exactly, also where the host's sigma is finite."""
    seen = {}

    def keep_velocity(executor, x, t, *args, **kwargs):
        denoised = executor(x, t, *args, **kwargs)
        sigma = t.view(-1, 1, 1, 1, 1)
        scale = (sigma**2 + 1).sqrt()
        seen["velocity"] = (x / scale - denoised) * scale / sigma
        return denoised

    model = watched(loaded["model"], keep_velocity)
    got = sample(host, model, conditioned, steps=1, cfg=1.0, sampler="ddim")
    expected = model.model.process_latent_out(-seen["velocity"][:1])
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_dynamic_guidance_reaches_the_same_nodes_both_ways(host, loaded, conditioned, video):
    model = loaded["model"]
    growing = sample(host, model, conditioned, dynamic_cfg=True)
    assert small(growing, video) > 1e-3
    assert torch.equal(sample_in_parts(host, model, conditioned, dynamic_cfg=True), growing)


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "steps"), [("balanced", 20), ("fast", 10)])
def test_a_preset_is_a_graph_that_one_can_wire_by_hand(host, loaded, conditioned, preset, steps):
    model = loaded["model"]
    whole = sample(host, model, conditioned, steps=20, preset=preset)
    assert torch.equal(sample_in_parts(host, model, conditioned, steps=20, preset=preset), whole)
    cached = host.run(
        "EasyCache", model=model, reuse_threshold=0.9, start_percent=0.15, end_percent=0.95,
        verbose=False,
    )[0]  # fmt: skip
    by_hand = sample(host, cached, conditioned, steps=steps)
    assert torch.equal(by_hand, whole)
    assert torch.equal(sample(host, cached, conditioned, steps=20, preset=preset), whole)
    assert small(whole, sample(host, model, conditioned, steps=steps)) > 1e-3  # steps were skipped


def test_steps_that_do_not_divide_1000_still_end_clean(host, loaded, conditioned):
    latent = sample(host, loaded["model"], conditioned, steps=7)
    assert torch.isfinite(latent).all()


def test_a_preview_picture_is_sent_per_step(host, loaded, conditioned, monkeypatch):
    import comfy.utils
    import latent_preview
    from comfy.cli_args import LatentPreviewMethod

    sent = []
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda *a, **_k: sent.append(a[2]))
    sample(host, loaded["model"], conditioned)
    assert not [p for p in sent if p is not None], "previews are off, yet some were sent"
    sent.clear()
    monkeypatch.setattr(latent_preview.args, "preview_method", LatentPreviewMethod.Latent2RGB)
    sample(host, loaded["model"], conditioned)
    pictures = [p for p in sent if p is not None]
    assert len(pictures) == 3
    kind, picture, longest = pictures[0]
    assert (kind, picture.size, longest) == ("JPEG", (12, 8), 512)
    assert picture.getextrema() != ((0, 0), (0, 0), (0, 0))


def test_bad_numbers_are_named(ours, loaded):
    host_sampler = ours("fantasyid.comfyui.sampler")
    with pytest.raises(ValueError, match='the sampler is "euler", expected one of dpm, ddim'):
        host_sampler.ReleasedSampler("euler")
    with pytest.raises(ValueError, match=r"denoise is 0\.0"):
        host_sampler.trailing_sigmas(loaded["model"], 10, 0.0)
    with pytest.raises(ValueError, match=r"500 steps at denoise 0\.1 are the end of a run of 5000"):
        host_sampler.trailing_sigmas(loaded["model"], 500, 0.1)
    with pytest.raises(ValueError, match=r"the latent is \(1, 4, 8, 8\)"):
        host_sampler.check_latent(loaded["model"], (1, 4, 8, 8))
    with pytest.raises(ValueError, match="must be multiples of 16"):
        host_sampler.check_latent(loaded["model"], (1, 16, 3, 9, 12))


@pytest.mark.parametrize(
    ("windows", "fits"),
    [
        (None, False),
        ({"dim": 0, "context_length": 13}, False),
        ({"dim": 2, "context_length": 13, "causal_window_fix": True}, False),
        ({"dim": 2, "context_length": 13, "causal_window_fix": False}, True),
    ],
)
def test_long_clips_need_windows_that_the_training_knows(ours, host, loaded, windows, fits):
    from comfy.context_windows import (
        IndexListContextHandler,
        get_matching_context_schedule,
        get_matching_fuse_method,
    )

    assert host
    model = loaded["model"].clone()
    if windows is not None:
        model.model_options["context_handler"] = IndexListContextHandler(
            get_matching_context_schedule("standard_static"),
            get_matching_fuse_method("pyramid"),
            **windows,
        )
    check = ours("fantasyid.comfyui.sampler").check_latent
    if fits:
        check(model, (1, 16, 16, 8, 12))
        return
    with pytest.raises(ValueError, match="positions beyond 13"):
        check(model, (1, 16, 16, 8, 12))
