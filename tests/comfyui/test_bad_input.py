"""What does not fit is refused before sampling, in words that name it."""

from __future__ import annotations

import pytest
import torch
from host_client import bundled, changed, node_of
from host_graph import align, apply, conditioning, sample


def refusal(client, graph) -> str:
    """The words of a graph that is refused or fails; it must not have sampled."""
    run = client.run(graph)
    assert run.ending in ("refused", "execution_error")
    assert not [s for s in run.steps if s[0] == node_of(graph, "FantasyIDSampler")]
    return run.errors


@pytest.fixture(scope="module")
def graph():
    return bundled("photo_to_video")


@pytest.fixture(scope="module")
def blank_photo(photo):
    from PIL import Image

    Image.new("RGB", (320, 240), (90, 120, 90)).save(photo.with_name("blank.png"))
    return "blank.png"


@pytest.mark.parametrize(
    ("node", "field", "words"),
    [
        ("FantasyIDModelLoader", "model", ["huggingface.co/acvlab/FantasyID", "fantasyid"]),
        ("FantasyIDModelLoader", "mesh_transforms", ["assets/transform.pkl"]),
        ("FantasyIDFaceEncoderLoader", "face_encoder", ["EVA02_CLIP_L_336_psz14_s6B.pt"]),
        ("FantasyIDDecaLoader", "deca", ["deca.is.tue.mpg.de"]),
        ("FantasyIDDecaLoader", "flame", ["flame.is.tue.mpg.de"]),
    ],
)
def test_a_missing_file_is_named_with_folders_and_source(
    client, graph, host_base, node, field, words
):
    text = refusal(client, changed(graph, node, **{field: "not_there.bin"}))
    for word in ["not_there.bin", "Searched", str(host_base / "models" / "fantasyid"), *words]:
        assert word in text


@pytest.mark.parametrize(
    ("node", "field", "name", "words"),
    [
        ("FantasyIDModelLoader", "model", "cogvideox_5b_i2v.safetensors", "ComfyUI's own names"),
        ("FantasyIDModelLoader", "mesh_transforms", "generic_model.pkl", "a FLAME model"),
        ("FantasyIDFaceEncoderLoader", "face_encoder", "deca_model.tar", "DECA"),
        ("FantasyIDDecaLoader", "deca", "tiny_EVA02_CLIP_L_336_psz14_s6B.pt", "E_flame"),
        ("FantasyIDDecaLoader", "flame", "transform.pkl", "transform.pkl"),
    ],
)
def test_a_wrong_file_in_a_slot_is_called_by_its_name(client, graph, node, field, name, words):
    text = refusal(client, changed(graph, node, **{field: name}))
    assert words in text
    assert name in text


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ({"width": 100}, "width is 100: the model needs multiples of 16"),
        ({"height": 72}, "the nearest is 64"),
        ({"length": 10}, "length is 10 frames: ComfyUI decodes 8 k + 1"),
        ({"length": 13}, "length is 13 frames: ComfyUI decodes 8 k + 1"),
        ({"length": 0}, "the nearest is 1"),
        ({"width": 4096}, "up to 2048"),
    ],
)
def test_an_impossible_size_is_refused_at_queue_time(client, graph, size, words):
    run = client.run(changed(graph, "FantasyIDFaceLatent", **size))
    assert run.ending == "refused"
    assert words in run.errors


def test_positions_beyond_the_trained_range_are_refused(client, graph):
    text = refusal(client, changed(graph, "FantasyIDFaceLatent", length=57))
    assert "at most 49 frames" in text


def test_no_face_stops_with_the_reason(client, graph, blank_photo):
    text = refusal(client, changed(graph, "LoadImage", image=blank_photo))
    assert "no face found in the 320x240 photo" in text


def test_no_face_can_go_on_without_identity_and_says_so(client, graph, blank_photo):
    allowed = changed(graph, "FantasyIDAlignFace", no_face="continue without identity")
    allowed = changed(allowed, "LoadImage", image=blank_photo)
    run = client.finish(allowed)
    for node in ("FantasyIDAlignFace", "FantasyIDFuse", "FantasyIDApply"):
        (text,) = run.outputs[node_of(allowed, node)]["text"]
        assert "IDENTITY" in text
        assert "no face found" in text


def test_a_photo_with_nan_is_refused(host):
    with pytest.raises(ValueError, match="not numbers"):
        align(host, torch.full((1, 64, 64, 3), float("nan")))


def other_cogvideox(channels: int, heads: int = 3):
    """A small CogVideoX of another kind, through the host's own loader."""
    import comfy.ops
    import comfy.sd
    from comfy.ldm.cogvideo.model import CogVideoXTransformer3DModel

    module = CogVideoXTransformer3DModel(
        num_attention_heads=heads,
        attention_head_dim=64,
        in_channels=channels,
        out_channels=16,
        time_embed_dim=64,
        text_embed_dim=64,
        num_layers=4,
        use_rotary_positional_embeddings=True,
        device="cpu",
        dtype=torch.float32,
        operations=comfy.ops.disable_weight_init,
    )
    weights = {k: torch.zeros_like(v) for k, v in module.state_dict().items()}
    return comfy.sd.load_diffusion_model_state_dict(weights)


def of_another_family(loaded):
    model = loaded["model"].clone()
    model.model = type("Flux", (), {"diffusion_model": torch.nn.Linear(1, 1)})()
    return model


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda _: other_cogvideox(16), "16 input channels; FantasyID needs"),
        (of_another_family, "holds a Flux; FantasyID needs CogVideoX-5B"),
        (lambda _: other_cogvideox(32, 6), r"the model is 384 wide, the adapter .* for 192"),
    ],
    ids=["text to video", "another family", "tiny and real parts"],
)
def test_a_model_that_does_not_fit_is_refused(host, loaded, model, words):
    empty = torch.zeros(0, 36, 128), torch.zeros(0, 79, 128)
    identity = host.ours("fantasyid.identity").Identity(*empty, empty_reason="no face")
    with pytest.raises(ValueError, match=words):
        apply(host, loaded, identity, model=model(loaded))


def test_a_text_encoder_of_another_width_is_refused(host, loaded):
    wrong = [[torch.zeros(1, 226, 4096), {}]]
    conditioned = (wrong, wrong, {"samples": torch.zeros(1, 16, 3, 8, 12)})
    with pytest.raises(ValueError, match="prompt is encoded 4096 wide, the model takes 64"):
        sample(host, loaded["model"], conditioned, steps=2)


def test_a_vae_of_another_family_is_refused(host, loaded):
    vae = type("Vae", (), {"latent_channels": 4, "latent_dim": 2})()
    with pytest.raises(ValueError, match="4 latent channels in 2 dimensions"):
        conditioning(host, loaded | {"vae": vae}, torch.rand(1, 64, 64, 3))
