"""Heads of several photos, read at once and averaged by what each photo is worth."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from host_graph import average, face_tokens
from host_graph import face_vertices as read
from torch.nn.functional import avg_pool2d


@pytest.fixture(scope="module")
def crops(aligned):
    """The astronaut's crop: as it is, mirrored, and blurred."""
    crop = aligned[1]
    blurred = avg_pool2d(crop.permute(0, 3, 1, 2), 21, stride=1, padding=10)
    return torch.cat([crop, crop.flip(2), blurred.permute(0, 2, 3, 1)])


@pytest.fixture(scope="module")
def heads(host, loaded, crops):
    return read(host, loaded, crops)


def turned(ours, head, degrees):
    turn = ours("fantasyid.geometry.rotations").rotation_matrix(
        torch.tensor([0.0, math.radians(degrees), 0.0])
    )
    return replace(head, vertices=head.vertices @ turn.T)


@pytest.mark.parametrize("mode", ["as released", "neutral (paper)"])
def test_a_batch_of_photos_gives_the_head_of_each(host, ours, loaded, crops, mode, monkeypatch):
    monkeypatch.setattr(ours("fantasyid.comfyui.stages"), "CROPS_AT_ONCE", 2)
    together = read(host, loaded, crops, mode)
    assert together.vertices.shape == (3, 5023, 3)
    assert together.betas.shape == (3, 100)
    for number in range(3):
        alone = read(host, loaded, crops[number : number + 1], mode)
        torch.testing.assert_close(alone.vertices[0], together.vertices[number])
        torch.testing.assert_close(alone.betas[0], together.betas[number])
        assert alone.sharpness == together.sharpness[number : number + 1]


def test_the_sharpness_is_that_of_the_aligned_crop(host, ours, loaded, aligned, heads):
    measure = ours("fantasyid.face.quality").sharpness
    assert read(host, loaded, aligned[0]).sharpness == (measure(aligned[1][0]),)
    assert heads.sharpness[2] < 0.004 < 0.012 < heads.sharpness[0]
    assert read(host, loaded, torch.rand(1, 64, 80, 3)).sharpness == ()


def test_weighted_is_frontality_times_sharpness(host, ours, loaded, heads):
    ahead_of = ours("fantasyid.geometry.average").frontality
    single = ours("fantasyid.comfyui.head_average")._single_heads(heads)
    given = [single[0], turned(ours, single[1], 50), single[2]]
    expected = []
    for head in given:
        ahead = float(ahead_of([head.vertices[0]])[0])
        expected.append(ahead * min(max(head.sharpness[0] / 0.012, 0.05), 1.0))
    expected = [weight / sum(expected) for weight in expected]
    assert expected[2] < expected[0] / 2
    made, report = average(host, given, deca=loaded["deca"])
    betas = sum(w * head.betas for w, head in zip(expected, given, strict=True))
    torch.testing.assert_close(made.betas, betas, atol=1e-5, rtol=1e-4)
    for number, (weight, head) in enumerate(zip(expected, given, strict=True), start=1):
        assert f"head {number} {weight:.2f} (frontality " in report
        assert f"sharpness {head.sharpness[0]:.3f})" in report
    typed, report = average(host, given, weights="0, 0, 1", deca=loaded["deca"])
    torch.testing.assert_close(typed.betas, given[2].betas)
    assert "head 3 1.00." in report
    facing, report = average(host, given, "by frontality", deca=loaded["deca"])
    assert not torch.allclose(facing.betas, made.betas)
    assert "sharpness" not in report


def test_a_head_of_unknown_sharpness_leaves_frontality(host, loaded, heads, crops):
    unknown = replace(read(host, loaded, crops[:1]), sharpness=())
    made, report = average(host, [heads, unknown], deca=loaded["deca"])
    assert "The sharpness of head 4 is not known" in report
    facing, _ = average(host, [heads, unknown], "by frontality", deca=loaded["deca"])
    assert torch.equal(made.betas, facing.betas)


@pytest.mark.parametrize("method", ["mean", "median", "weighted", "by frontality"])
def test_a_batch_counts_as_its_heads(host, ours, loaded, heads, method):
    single = ours("fantasyid.comfyui.head_average")._single_heads(heads)
    for more in ({}, {"deca": loaded["deca"]}):
        together, words = average(host, [heads], method, **more)
        apart, same_words = average(host, single, method, **more)
        assert together.vertices.shape == (1, 5023, 3)
        assert torch.equal(together.vertices, apart.vertices)
        assert words == same_words
        assert f"{method} of 3 heads" in words


def test_several_heads_are_refused_where_one_is_needed(host, loaded, heads, aligned):
    match = "the geometry is of 3 heads: put FantasyID Average Geometry behind Face Vertices"
    adapter, tokens = loaded["adapter"], face_tokens(host, loaded, aligned[0])
    at_rest = dict.fromkeys(("face_width", "jaw_sharpness", "chin_depth"), 0.0)
    at_rest |= dict.fromkeys(("cheek_depth", "nose_depth", "brow_depth"), 0.0)
    for node, inputs in (
        ("FantasyIDFuse", {"adapter": adapter, "face_tokens": tokens}),
        ("FantasyIDVerticesToMesh", {"size": 64}),
        ("FantasyIDSaveVertices", {"filename_prefix": "x", "format": "ply"}),
        ("FantasyIDEditGeometry", {"amount": 1.0, "side": "both sides", "size": 64, **at_rest}),
    ):
        with pytest.raises(ValueError, match=match):
            host.run(node, geometry=heads, **inputs)
