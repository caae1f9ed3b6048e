"""The short way on the real host: one loader, one node from photo to identity."""

from __future__ import annotations

import shutil

import pytest
import torch
from host_graph import apply, conditioning, sample

pytestmark = pytest.mark.slow

NAMES = {
    "model": "tiny-fantasyid",
    "text_encoder": "tiny_t5xxl.safetensors",
    "vae": "tiny_cogvideox_vae.safetensors",
    "face_encoder": "tiny_EVA02_CLIP_L_336_psz14_s6B.pt",
    "deca": "tiny_deca_model.tar",
    "flame": "tiny_generic_model.pkl",
    "mesh_transforms": "tiny_transform.pkl",
}
CHOICE = {"choose": "nearest centre", "index": 0, "no_face": "stop", "detector": "cascade"}


@pytest.fixture(scope="module")
def parts(host):
    model, clip, vae, adapter, encoder, deca = host.run(
        "FantasyIDLoader", **NAMES, weight_dtype="default"
    )
    return {
        "model": model, "clip": clip, "vae": vae, "adapter": adapter, "encoder": encoder,
        "deca": deca,
    }  # fmt: skip


def from_photo(host, parts, image, head="as released", **changes):
    return host.run(
        "FantasyIDFromPhoto",
        image=image,
        adapter=parts["adapter"],
        face_encoder=parts["encoder"],
        head_model=parts["deca"],
        head=head,
        **CHOICE | changes,
    )


@pytest.fixture(scope="module")
def made(host, parts, photo_image):
    return from_photo(host, parts, photo_image)


def test_it_gives_the_identity_and_the_face_of_the_stages(identity, aligned, made):
    ours, face, crop, preview, words = made
    assert torch.equal(crop, face.images)
    assert torch.equal(ours.tokens, identity.tokens)
    assert torch.equal(face.images, aligned[0].images)
    assert ours.provenance.source_hashes == identity.provenance.source_hashes
    assert preview.shape[1] == 512
    assert "36 face tokens" in words
    assert "cascade" in words


def test_the_video_is_that_of_the_stages(host, parts, made, expected):
    video = sample(host, apply(host, parts, made[0]), conditioning(host, parts, made[1]))
    assert torch.equal(video, expected)


def test_several_photos_are_averaged_and_one_without_a_face_is_left_out(
    host, parts, photo_image, made
):
    other = photo_image.flip(2).pow(1.5)
    blank = torch.full_like(photo_image, 0.4)
    one = made[0]
    several, face, _, _, words = from_photo(
        host, parts, torch.cat([blank, photo_image, other]), no_face="skip this image"
    )
    two = from_photo(host, parts, other)[0]
    assert several.tokens.shape == one.tokens.shape
    assert not torch.allclose(several.tokens, one.tokens, atol=1e-4)
    assert len(several.provenance.source_hashes) == 2
    assert "2 of 3 images have a face" in words
    assert face.box is not None
    lengths = [i.face_tokens.norm(dim=-1).mean() for i in (one, two, several)]
    assert min(lengths[:2]) * 0.99 < lengths[2] < max(lengths[:2]) * 1.01


def test_the_neutral_head_differs_and_no_face_may_go_on(host, parts, photo_image, made):
    released, neutral = made[0], from_photo(host, parts, photo_image, head="neutral (paper)")[0]
    assert torch.equal(released.face_tokens, neutral.face_tokens)
    assert not torch.allclose(released.vertex_tokens, neutral.vertex_tokens, atol=1e-4)
    blank = torch.full_like(photo_image, 0.4)
    go_on = {"no_face": "continue without identity"}
    identity, face, _, _, words = from_photo(host, parts, blank, **go_on)
    assert identity.is_empty
    assert face.empty_reason
    assert words.startswith("EMPTY IDENTITY: no face found")
    with pytest.raises(ValueError, match="no face found"):
        from_photo(host, parts, blank)


def test_everything_that_is_missing_is_one_message(host):
    gone = {name: f"gone_{name}.bin" for name in NAMES}
    with pytest.raises(FileNotFoundError) as raised:
        host.run("FantasyIDLoader", **gone, weight_dtype="default")
    head, *lines = str(raised.value).split("\n")
    assert head == "Files are missing: 7."
    assert len(lines) == len(NAMES)
    sources = {
        "model": "acvlab/FantasyID", "text_encoder": "flux_text_encoders", "vae": "CogVideoX-5b",
        "face_encoder": "QuanSun/EVA-CLIP", "deca": "deca.is.tue.mpg.de",
        "flame": "flame.is.tue.mpg.de", "mesh_transforms": "assets/transform.pkl",
    }  # fmt: skip
    for name, line in zip(gone, lines, strict=True):
        folder = {"text_encoder": "text_encoders", "vae": "vae"}.get(name, "fantasyid")
        assert gone[name] in line
        assert f"models/{folder}" in line
        assert sources[name] in line


def test_the_message_comes_once_over_http(client):
    named = {name: f"gone_{name}.bin" for name in ("vae", "deca", "flame")}
    inputs = {**NAMES, **named, "weight_dtype": "default"}
    graph = {
        "1": {"class_type": "FantasyIDLoader", "inputs": inputs},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": ""}},
        "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}},
    }
    run = client.run(graph)
    assert run.ending == "execution_error"
    assert run.executed in ([], ["1"])
    for name in named.values():
        assert run.errors.count(f'"{name}"') == 1


def test_two_missing_files_of_a_stage_are_two_lines(ours):
    node = ours("nodes.loaders").FantasyIDDecaLoader
    lines = str(node.validate_inputs("gone.tar", "gone.pkl")).split("\n")
    assert ["gone.tar" in lines[0], "gone.pkl" in lines[1], len(lines)] == [True, True, 2]


def test_a_file_in_a_clones_folder_is_found_by_its_name(ours, host_base):
    files = ours("fantasyid.comfyui.files")
    own = host_base / "models" / "fantasyid"
    (own / "clone").mkdir()
    (own / "clone" / "only_here.pt").write_bytes(b"x")
    assert files.find(files.FACE_ENCODER, "only_here.pt") == own / "clone" / "only_here.pt"
    shutil.rmtree(own / "clone")
    assert files.missing_files((files.FACE_ENCODER, "only_here.pt"))
    assert files.find(files.FACE_ENCODER, "tiny_EVA02_CLIP_L_336_psz14_s6B.pt").parent == own


COMPARE = {"recogniser": "auto", "detector": "cascade", "height": 200}


@pytest.mark.usefixtures("arcface")
def test_compare_shows_the_likeness_of_each_frame(host, photo_image, aligned):
    near = photo_image[:, :300, 60:380]
    clip = torch.cat([near, near.pow(1.5), torch.full_like(near, 0.5)])
    frames, likeness, words = host.run("FantasyIDCompare", clip=clip, reference=near, **COMPARE)
    assert frames.shape[0] == 3
    assert [side % 2 for side in frames.shape[1:3]] == [0, 0]
    assert "over 2 of 3 frames" in words
    best, worst = (float(words.split(f"{w} frame ")[1][7:12]) for w in ("best", "worst"))
    assert worst <= likeness <= best
    assert 0 < likeness <= 1
    left = frames[:, :200, :200]
    assert torch.equal(left[0], left[2]), "the reference is the same beside every frame"
    bars = frames[:, 202:]
    assert not torch.equal(bars[0], bars[1])
    by_face = host.run("FantasyIDCompare", clip=clip, reference=aligned[0], **COMPARE)[0]
    assert by_face.shape[0] == 3


def test_compare_without_a_recogniser_says_what_is_missing(host, photo_image, aligned):
    clip = photo_image[:, :300, 60:380]
    _, likeness, words = host.run("FantasyIDCompare", clip=clip, reference=aligned[0], **COMPARE)
    assert likeness != likeness
    assert "no likeness" in words
    assert "No RS and IFS" in words
