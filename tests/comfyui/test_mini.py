"""The bundled mini model on the real host: what an identity does, seen in the frames."""

from __future__ import annotations

import json
from functools import cache

import pytest
import torch
from host_client import node_of
from host_process import ROOT
from torch import Tensor

from .test_graph import saved_file

pytestmark = pytest.mark.slow

PEOPLE = ("Ada", "Bela", "Chidi", "Dara", "Emil", "Fumi")


@pytest.fixture(scope="module")
def loaded(host):
    """`loaded("Ada")`: what the loader of the mini model puts out."""
    return cache(lambda person: host.run("FantasyIDMiniLoader", person=person))


@pytest.fixture(scope="module")
def make(host, loaded):
    """`make("Ada", "a person nods, red background")`: the frames (17, 96, 96, 3) and the photo."""

    @cache
    def video(
        person: str, prompt: str, identity: bool = True, steps: int = 8, preset: str = "exact"
    ) -> tuple[Tensor, Tensor]:
        model, adapter, clip, vae, tower, head, face, photo = loaded(person)
        words = [host.run("CLIPTextEncode", clip=clip, text=t)[0] for t in (prompt, "")]
        (geometry, *_) = host.run("FantasyIDFaceVertices", deca=head, face=face, mode="as released")
        (tokens, *_) = host.run(
            "FantasyIDFaceTokens", face_encoder=tower, adapter=adapter, face=face
        )
        (fused, *_) = host.run(
            "FantasyIDFuse", adapter=adapter, face_tokens=tokens, geometry=geometry
        )
        positive, negative, latent, *_ = host.run(
            "FantasyIDFaceLatent", positive=words[0], negative=words[1], vae=vae, width=96,
            height=96, length=17, face=face if identity else None,
        )  # fmt: skip
        (patched, *_) = host.run(
            "FantasyIDApply", model=model, adapter=adapter, identity=fused,
            strength=1.0 if identity else 0.0,
        )  # fmt: skip
        (made, *_) = host.run(
            "FantasyIDSampler", model=patched, positive=positive, negative=negative,
            latent_image=latent, seed=3, steps=steps, cfg=2.5, sampler="dpm", denoise=1.0,
            dynamic_cfg=False, preset=preset,
        )  # fmt: skip
        return host.run("VAEDecode", samples=made, vae=vae)[0], photo[0]

    return video


def cheeks(picture: Tensor, box: tuple[float, float, float, float]) -> Tensor:
    """Mean color (3,) in a part of a picture (H, W, 3): left, top, right, bottom as shares."""
    height, width = picture.shape[:2]
    left, top, right, bottom = box
    part = picture[int(top * height) : int(bottom * height), int(left * width) : int(right * width)]
    return part.mean((0, 1))


@pytest.mark.parametrize(("name", "width"), [("try_it_now", 96), ("two_people_one_prompt", 200)])
def test_the_bundled_graph_makes_a_film(client, host_base, name, width):
    import av

    graph = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text("utf-8"))
    run = client.run(graph)
    assert run.ending == "execution_success", run.errors
    with av.open(str(saved_file(host_base, run, node_of(graph, "SaveVideo")))) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert frames[0].shape == (96, width, 3)
    assert len(frames) == 17


def test_a_person_keeps_the_color_of_their_skin(make):
    shown = [make(name, "a person stands still, gray background") for name in PEOPLE]
    face = (0.40, 0.40, 0.60, 0.72)
    frames = torch.stack([cheeks(video[:4].mean(0), face) for video, _ in shown])
    photos = torch.stack([cheeks(photo, face) for _, photo in shown])
    own = (frames - photos).abs().mean(1)
    others = [(frames - photos.roll(n, 0)).abs().mean(1) for n in range(1, len(PEOPLE))]
    assert own.mean() < 0.6 * torch.stack(others).mean()


def test_the_prompt_says_which_way_the_head_turns(make):
    """Where the head leaves the picture's middle, the background comes in behind it."""
    left, _ = make("Ada", "a person turns left, blue background")
    right, _ = make("Ada", "a person turns right, blue background")
    mirrored = right.flip(2)
    like = (left[-1] - mirrored[-1]).abs().mean()
    unlike = (left[-1] - right[-1]).abs().mean()
    assert like < unlike


def test_the_prompt_says_the_background(make):
    corners = {
        name: make("Bela", f"a person stands still, {name} background")[0][:, :12, :12].mean(
            (0, 1, 2)
        )
        for name in ("red", "green", "blue")
    }
    for number, name in enumerate(("red", "green", "blue")):
        assert int(corners[name].argmax()) == number, name


@pytest.mark.parametrize(("preset", "fewer"), [("balanced", 2.2), ("fast", 4.0)])
def test_presets_save_the_calls_that_the_documents_name(make, loaded, preset, fewer):
    calls = []
    block = loaded("Ada")[0].model.diffusion_model.blocks[0]
    counting = block.register_forward_hook(lambda _block, _inputs, out: calls.append(len(out[0])))
    try:
        make("Ada", "a person nods, gray background", steps=50, preset=preset)
    finally:
        counting.remove()
    assert sum(calls) <= 100 / fewer
