"""Four references of one person, from Combine References to sampled latents."""

from __future__ import annotations

import pytest
import torch
from host_graph import apply, sample

pytestmark = pytest.mark.slow

REFERENCES = 4
COUNTS = {"mean": 36, "norm-preserving mean": 36, "weighted": 36, "concatenated": 36 * REFERENCES}


@pytest.fixture(scope="module")
def references(host, loaded, aligned):
    """The face tokens of four different crops."""
    crop = aligned[1]
    crops = torch.cat([crop, crop.flip(2), crop.pow(2.0), crop.roll(24, 1)])
    return host.run(
        "FantasyIDFaceTokens",
        face_encoder=loaded["encoder"],
        adapter=loaded["adapter"],
        face=crops,
    )[0]


@pytest.fixture(scope="module")
def combined(host, references):
    """The outputs of the node by mode."""
    return {
        mode: host.run("FantasyIDCombine", face_tokens=references, mode=mode, weights="1, 2, 0, 1")[
            0
        ]
        for mode in COUNTS
    }


@pytest.fixture(scope="module")
def sampled(host, loaded, aligned, combined, conditioned):
    """The latents by mode, and without an identity."""
    (geometry,) = host.run(
        "FantasyIDFaceVertices", deca=loaded["deca"], face=aligned[0], mode="as released"
    )
    latents = {"none": sample(host, loaded["model"], conditioned)}
    for mode, tokens in combined.items():
        (identity,) = host.run(
            "FantasyIDFuse", adapter=loaded["adapter"], face_tokens=tokens, geometry=geometry
        )
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
        run = {"face_tokens": references, "mode": mode, "weights": "a note to myself"}
        if mode == "weighted":
            with pytest.raises(ValueError, match='"a" is no weight'):
                host.run("FantasyIDCombine", **run)
        else:
            assert host.run("FantasyIDCombine", **run)[0].tokens.shape == (1, COUNTS[mode], 128)
