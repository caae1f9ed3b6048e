"""FantasyID Decode on the real host, with the mini VAE (against diffusers: tests/golden)."""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.slow


@pytest.fixture
def vae(ours):
    return ours("fantasyid.comfyui.miniature").load_miniature().vae


@pytest.fixture
def decode(ours):
    return ours("fantasyid.comfyui.decode").decode_as_released


def noise(frames: int = 1, height: int = 40, width: int = 52) -> torch.Tensor:
    return torch.randn(1, 16, frames, height, width, generator=torch.Generator().manual_seed(3))


def test_parts_are_near_the_whole_and_are_named(host, vae, decode, monkeypatch):
    latents = noise()
    whole, in_parts = decode(latents, vae)
    assert not in_parts
    assert whole.shape == (1, 320, 416, 3)
    parts, in_parts = decode(latents, vae, "always")
    assert in_parts
    assert 0 < (parts - whole).abs().mean() < 0.05
    assert torch.equal(decode(latents, vae, "never")[0], whole)
    monkeypatch.setattr(vae.patcher, "get_free_memory", lambda _device: 0)
    assert torch.equal(decode(latents, vae)[0], parts)
    node = host.nodes.NODE_CLASS_MAPPINGS["FantasyIDDecode"].PREPARE_CLASS_CLONE(None)
    said = node.execute(samples={"samples": latents}, vae=vae, tiles="auto").ui["text"][0]
    assert "Decoded in parts that overlap" in said


def test_a_tall_picture_is_cut_as_a_wide_one_that_lies_on_its_side(vae, decode):
    sizes = {}
    for latents in (noise(1, 40, 52), noise(1, 52, 40)):
        seen = sizes.setdefault(latents.shape[-2:], [])

        def look(_module, inputs, seen=seen):
            seen.append(tuple(inputs[0].shape[-2:]))

        with vae.first_stage_model.decoder.register_forward_pre_hook(look):
            decode(latents, vae, "always")
    wide, tall = sizes.values()
    assert sorted(size[::-1] for size in tall) == sorted(wide)
    assert len(wide) > 1


def test_out_of_memory_goes_on_in_parts_unless_told_not_to(vae, decode):
    def no_room_for_the_whole(_module, inputs):
        if inputs[0].shape[-1] > 50:
            raise torch.OutOfMemoryError("CUDA out of memory")

    latents = noise()
    parts = decode(latents, vae, "always")[0]
    with vae.first_stage_model.decoder.register_forward_pre_hook(no_room_for_the_whole):
        got, in_parts = decode(latents, vae)
        with pytest.raises(torch.OutOfMemoryError):
            decode(latents, vae, "never")
    assert in_parts
    assert torch.equal(got, parts)


def test_what_it_cannot_decode_is_named(vae, decode):
    with pytest.raises(ValueError, match="the vae input is no CogVideoX VAE"):
        decode(noise(), object())
    for wrong in (noise(frames=2), noise()[:, :4], noise()[:, :, 0]):
        with pytest.raises(ValueError, match=r"the samples input has the shape \(1, .*1, 3, 5"):
            decode(wrong, vae)

    def broken(_module, _inputs, output):
        return output[0] * float("nan"), output[1]

    with (
        vae.first_stage_model.decoder.register_forward_hook(broken),
        pytest.raises(ValueError, match="the vae input decodes to values that are not numbers"),
    ):
        decode(noise(1, 4, 4), vae)
