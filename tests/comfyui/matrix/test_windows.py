"""Context windows: clips longer than 49 frames, the face in every window."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from compatibility import CONTENT
from host_graph import apply, conditioning, layer_weights, sample

pytestmark = pytest.mark.slow

FRAMES = 17  # latent frames: 65 frames of video
WINDOW = 13
SETTINGS = {
    "context_length": WINDOW,
    "context_overlap": 4,
    "context_schedule": "standard_static",
    "context_stride": 1,
    "closed_loop": False,
    "fuse_method": "pyramid",
    "dim": 2,
    "freenoise": False,
    "cond_retain_index_list": "0",
    "split_conds_to_windows": False,
    "latent_retain_index_list": "",
    "causal_window_fix": False,
}


@pytest.fixture(scope="module")
def long_clip(host, loaded, aligned):
    return conditioning(host, loaded, aligned[0], length=4 * FRAMES - 3)


@pytest.fixture
def windowed(host):
    """`windowed(model, **settings)`: a MODEL with windows, and what each call of it was given."""

    def put(model, **settings):
        (model,) = host.run("ContextWindowsManual", model=model, **{**SETTINGS, **settings})
        seen = []

        def look(executor, x, t, c_concat, c_crossattn, control, options, **kwargs):
            seen.append((list(options["context_window"].index_list), c_concat))
            return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)

        model.add_wrapper_with_key("apply_model", "look", look)
        return model, seen

    return put


def per_frame(latent):
    """The length of each latent frame."""
    return torch.linalg.vector_norm(latent, dim=(0, 1, 3, 4))


def one_step(host, model, clip):
    return sample(host, model, clip, steps=1, sampler="ddim")


SCHEDULES = ("standard_static", "standard_uniform", "looped_uniform", "batched")
EACH: dict[str, dict[str, Any]] = {
    f"schedule {name}": {"context_schedule": name} for name in SCHEDULES
}
EACH |= {f"settings {name}": entry["settings"] for name, entry in CONTENT["windows"].items()}


@pytest.mark.parametrize("name", list(EACH))
def test_every_window_sees_the_face(
    host, with_identity, loaded, long_clip, windowed, name, compatible
):
    model, seen = windowed(with_identity, **EACH[name])
    video = sample(host, model, long_clip, steps=2)
    assert video.shape == (1, 16, FRAMES, 8, 12)
    assert torch.isfinite(video).all()
    shown = long_clip[0][0][1]["concat_latent_image"]
    face = loaded["model"].model.process_latent_in(shown.clone())[0, :, 0]
    assert {frame for window, _ in seen for frame in window} == set(range(FRAMES))
    assert len({tuple(window) for window, _ in seen}) > 1, "one window does not slide"
    for window, given in seen:
        anchored = EACH[name].get("causal_window_fix", False) and window[0] > 0
        assert given.shape[2] == len(window) + anchored <= WINDOW
        for row in given:
            torch.testing.assert_close(row[:, 0], face, rtol=1e-4, atol=1e-4)
    plain, _ = windowed(loaded["model"], **EACH[name])
    bare = sample(host, plain, long_clip, steps=2)
    moved = per_frame(video - bare) / per_frame(bare)
    assert moved.min() > 1e-3, "a frame without the identity"
    result = f"{len(seen) // 2} windows, each frame moved by {moved.min():.0%} or more"
    compatible("Context Windows", result, name)


@pytest.mark.parametrize(
    "settings",
    [*({"fuse_method": name} for name in ("relative", "flat")), {"freenoise": True}],
    ids=lambda settings: next(iter(settings.values())),
)
def test_other_ways_of_joining_windows_are_finite(
    host, with_identity, long_clip, windowed, settings
):
    model, _ = windowed(with_identity, **settings)
    assert torch.isfinite(one_step(host, model, long_clip)).all()


def test_without_the_retained_face_later_windows_lose_it(host, with_identity, long_clip, windowed):
    """Why the setting is asked for; when this fails, the host keeps the face by itself."""
    model, seen = windowed(with_identity, cond_retain_index_list="")
    one_step(host, model, long_clip)
    for window, given in seen:
        assert bool(given[:, :, 0].any()) == (window[0] == 0)


@pytest.mark.parametrize(
    "settings", [{}, {"causal_window_fix": True, "context_length": 12}], ids=["plain", "anchored"]
)
def test_a_mask_over_time_is_cut_to_each_window(
    host, loaded, identity, long_clip, windowed, compatible, settings
):
    """In the last block alone, a mask over the last frames leaves all others as they were."""
    mask = torch.zeros(FRAMES, 8, 12)
    mask[WINDOW:] = 1.0
    last = layer_weights(host, layers="3")
    masked = apply(host, loaded, identity, layer_weights=last, mask=mask)
    on, off = (
        one_step(host, windowed(model, **settings)[0], long_clip)
        for model in (masked, apply(host, loaded, identity, 0.0))
    )
    assert torch.equal(on[:, :, :WINDOW], off[:, :, :WINDOW])
    assert (per_frame(on - off)[WINDOW:] > 1e-4).all()
    compatible("Context Windows with a mask over time", "frames outside the mask: the same bits")


def test_settings_that_do_not_fit_are_refused(host, with_identity, long_clip, windowed):
    for settings in ({"causal_window_fix": True}, {"dim": 0}, {"context_length": 14}):
        model, _ = windowed(with_identity, **settings)
        with pytest.raises(ValueError, match="positions beyond 13"):
            one_step(host, model, long_clip)


def test_a_short_clip_is_left_alone(host, with_identity, conditioned, expected):
    """No window is cut where the clip fits into one."""
    (model,) = host.run("ContextWindowsManual", model=with_identity, **SETTINGS)
    assert torch.equal(sample(host, model, conditioned), expected)
