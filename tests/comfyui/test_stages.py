"""Each stage as its node, on the real host, with tiny format-true files."""

from __future__ import annotations

import pytest
import torch
from host_graph import apply, conditioning, sample, sample_in_parts
from host_traces import holds_tensors

pytestmark = pytest.mark.slow


def test_align_gives_a_crop_boxes_and_words(aligned):
    face, crop, boxes, preview, report = aligned
    assert tuple(crop.shape) == (1, 512, 512, 3)
    assert 0 <= crop.min() < crop.max() <= 1
    assert len(boxes) == 1
    assert len(boxes[0]) == 1
    assert boxes[0][0]["label"] == "face"
    assert preview.shape == (1, 512, 512, 3)
    assert "cascade" in report
    assert face.empty_reason == ""


def test_identity_has_the_released_number_of_tokens(identity):
    assert identity.face_tokens.shape == (1, 36, 128)
    assert identity.vertex_tokens.shape == (1, 79, 128)
    assert torch.isfinite(identity.tokens).all()
    assert identity.tokens.std() > 1e-3


def test_another_face_gives_another_identity_and_video(
    host, loaded, other_person, identity, conditioned, expected
):
    assert not torch.allclose(other_person.face_tokens, identity.face_tokens, atol=1e-3)
    assert not torch.allclose(other_person.vertex_tokens, identity.vertex_tokens, atol=1e-4)
    other = sample(host, apply(host, loaded, other_person), conditioned)
    assert (expected - other).norm() / expected.norm() > 1e-5


def test_all_weights_are_under_the_hosts_memory_manager(loaded):
    from comfy.model_patcher import ModelPatcher

    adapter, deca = loaded["adapter"], loaded["deca"]
    patchers = [adapter.abstractor, adapter.fusion, adapter.injectors, deca.encoder, deca.flame]
    for patcher in [*patchers, loaded["encoder"].patcher, loaded["model"]]:
        assert isinstance(patcher, ModelPatcher)


def test_face_latent_has_the_videos_size(conditioned):
    positive, _, latent = conditioned
    assert latent["samples"].shape == (1, 16, 3, 8, 12)
    assert positive[0][1]["concat_latent_image"].shape == (1, 16, 1, 8, 12)


def test_identity_changes_the_video_and_strength_zero_does_not(
    host, loaded, identity, conditioned, expected, without
):
    plain = without
    off = sample(host, apply(host, loaded, identity, 0.0), conditioned)
    assert torch.equal(plain, off)
    assert (expected - plain).norm() / plain.norm() > 1e-3
    half = sample(host, apply(host, loaded, identity, 0.5), conditioned)
    assert 0 < (half - plain).norm() < (expected - plain).norm() * 1.5
    assert torch.equal(plain, sample(host, loaded["model"], conditioned)), "a trace was left"


def test_the_face_latent_changes_the_video(host, loaded, photo_image, without):
    other = sample(host, loaded["model"], conditioning(host, loaded, 1 - photo_image))
    assert (without - other).norm() / without.norm() > 1e-4


def test_the_native_sampler_path_gives_the_same_video(host, with_identity, conditioned, expected):
    video = sample_in_parts(host, with_identity, conditioned, guider="CFGGuider")
    assert torch.equal(video, expected)


def test_a_model_of_the_hosts_own_loader_gives_the_same_video(
    host, loaded, identity, conditioned, native, expected
):
    theirs = sample(host, apply(host, loaded, identity, model=native), conditioned)
    torch.testing.assert_close(expected, theirs)
    bare = sample(host, native, conditioned)
    corrected = sample(host, apply(host, loaded, identity, 0.0, model=native), conditioned)
    assert not torch.allclose(bare, corrected, atol=1e-4), "the host no longer needs correction"


def test_keys_and_values_are_dropped_after_the_run(host, ours, loaded, identity, conditioned):
    model = apply(host, loaded, identity)
    sample(host, model, conditioned)
    key = ours("fantasyid.comfyui.injection").IDENTITY_KEY
    (injection,) = model.get_wrappers("apply_model", key)
    assert not holds_tensors(injection)
