"""Four references of one person, from Combine References to sampled latents."""

from __future__ import annotations

import pytest
import torch
from host_graph import apply, face_tokens, face_vertices, fuse, sample

pytestmark = pytest.mark.slow

REFERENCES = 4
COUNTS = {"mean": 36, "norm-preserving mean": 36, "weighted": 36, "concatenated": 36 * REFERENCES}


@pytest.fixture(scope="module")
def crops(aligned):
    """Four different crops."""
    crop = aligned[1]
    return torch.cat([crop, crop.flip(2), crop.pow(2.0), crop.roll(24, 1)])


@pytest.fixture(scope="module")
def references(host, loaded, crops):
    return face_tokens(host, loaded, crops)


def combine(host, tokens, mode, **more):
    return host.run("FantasyIDCombine", face_tokens=tokens, mode=mode, **more)[0]


@pytest.fixture(scope="module")
def combined(host, references):
    """The outputs of the node by mode."""
    return {mode: combine(host, references, mode, weights="1, 2, 0, 1") for mode in COUNTS}


@pytest.fixture(scope="module")
def sampled(host, loaded, aligned, combined, conditioned, without):
    """The latents by mode, and without an identity."""
    geometry = face_vertices(host, loaded, aligned[0])
    latents = {"none": without}
    for mode, tokens in combined.items():
        identity = fuse(host, loaded, tokens, geometry)
        assert identity.tokens.shape == (1, COUNTS[mode] + 79, 128)
        latents[mode] = sample(host, apply(host, loaded, identity), conditioned)
    return latents


def test_only_concatenating_makes_more_tokens(references, combined):
    assert references.tokens.shape == (REFERENCES, 36, 128)
    assert {mode: tokens.tokens.shape[1] for mode, tokens in combined.items()} == COUNTS
    joined = combined["concatenated"].tokens[0]
    assert torch.equal(joined, torch.cat(list(references.tokens)))


@pytest.mark.parametrize("mode", COUNTS)
def test_the_references_reach_the_video(sampled, mode):
    plain = sampled["none"]
    assert sampled[mode].shape == plain.shape
    assert torch.isfinite(sampled[mode]).all()
    assert (sampled[mode] - plain).norm() / plain.norm() > 1e-3


def test_each_way_of_combining_gives_another_video(sampled):
    modes = list(sampled)
    for number, mode in enumerate(modes):
        for other in modes[:number]:
            assert not torch.equal(sampled[mode], sampled[other]), (mode, other)


def test_the_weights_are_read_by_the_weighted_mode_alone(host, references):
    for mode in COUNTS:
        note = {"weights": "a note to myself"}
        if mode == "weighted":
            with pytest.raises(ValueError, match='"a" is no weight'):
                combine(host, references, mode, **note)
        else:
            tokens = combine(host, references, mode, **note).tokens
            assert tokens.shape == (1, COUNTS[mode], 128)


def test_a_batch_of_crops_gives_the_tokens_of_each(host, loaded, references, crops):
    assert references.tokens.shape == (4, 36, 128)
    for number in range(4):
        alone = face_tokens(host, loaded, crops[number : number + 1])
        torch.testing.assert_close(alone.tokens[0], references.tokens[number])


def test_more_crops_than_fit_at_once_are_read_in_parts(host, ours, loaded, crops, monkeypatch):
    whole = face_tokens(host, loaded, crops[:3])
    monkeypatch.setattr(ours("fantasyid.comfyui.stages"), "CROPS_AT_ONCE", 1)
    split = face_tokens(host, loaded, crops[:3])
    torch.testing.assert_close(split.tokens, whole.tokens)


def test_uncombined_references_and_other_sizes_are_refused(host, ours, loaded, references):
    geometry = ours("fantasyid.identity").FaceGeometry.empty("a test")
    with pytest.raises(ValueError, match="of 4 references: put FantasyID Combine References"):
        fuse(host, loaded, references, geometry)
    with pytest.raises(ValueError, match="0 weights for 4 references"):
        combine(host, references, "weighted")
    joined = combine(host, references, "concatenated")
    with pytest.raises(ValueError, match="different sizes"):
        combine(host, references, "mean", face_tokens_2=joined)


def test_references_without_a_face_are_left_out(host, ours, references):
    kinds = ours("fantasyid.identity")
    nobody = kinds.FaceTokens(torch.zeros(0, 36, 128), "no face in photo 2")
    combined = combine(host, nobody, "mean", face_tokens_2=references)
    torch.testing.assert_close(combined.tokens, references.tokens.mean(0, keepdim=True))
    assert combine(host, nobody, "mean").empty_reason == "no face in photo 2"
