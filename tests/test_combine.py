"""Several into one: references to tokens, and what lies between two identities."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from identities import assert_same, make_identity

from fantasyid.combine import (
    CONCATENATED,
    MEAN,
    MODES,
    NORM_PRESERVING,
    WEIGHTED,
    blend_heads,
    blend_identities,
    blend_tokens,
    combine_tokens,
    parse_weights,
)
from fantasyid.identity import FaceGeometry, Identity, Provenance, make_thumbnail

A, B = make_identity(), make_identity(step=11)
inside = st.floats(0.01, 0.99)


def tokens(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 36, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("mode", MODES)
def test_one_reference_is_left_as_it_is(mode: str) -> None:
    one = tokens(1)
    torch.testing.assert_close(combine_tokens(one, mode, [3.0]), one)


@given(count=st.integers(1, 6), seed=st.integers(0, 99))
def test_oracles(count: int, seed: int) -> None:
    given = tokens(count, seed)
    before = given.clone()
    mean = given.sum(0) / count
    torch.testing.assert_close(combine_tokens(given, MEAN)[0], mean)
    kept = combine_tokens(given, NORM_PRESERVING)[0]
    torch.testing.assert_close(kept.norm(dim=-1), given.norm(dim=-1).sum(0) / count)
    torch.testing.assert_close(
        torch.nn.functional.normalize(kept, dim=-1), torch.nn.functional.normalize(mean, dim=-1)
    )
    weights = [float(i + 1) for i in range(count)]
    weighted = sum(w * g for w, g in zip(weights, given, strict=True)) / sum(weights)
    torch.testing.assert_close(combine_tokens(given, WEIGHTED, weights)[0], weighted)
    joined = combine_tokens(given, CONCATENATED)
    assert torch.equal(joined[0], torch.cat(list(given)))
    assert torch.equal(given, before)


def test_equal_and_scaled_weights_are_the_mean() -> None:
    given = tokens(3)
    for weights in ([1, 1, 1], [0.2, 0.2, 0.2]):
        torch.testing.assert_close(
            combine_tokens(given, WEIGHTED, weights), combine_tokens(given, MEAN)
        )
    torch.testing.assert_close(combine_tokens(given, WEIGHTED, [0, 2, 0]), given[1:2])


@pytest.mark.parametrize(
    ("mode", "weights", "words"),
    [
        ("median", [], 'mode is "median"'),
        (WEIGHTED, [1.0], "1 weights for 2 references"),
        (WEIGHTED, [0.0, 0.0], "not all 0"),
        (WEIGHTED, [1.0, -1.0], "0 or more"),
    ],
)
def test_what_does_not_fit_is_named(mode: str, weights: list[float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        combine_tokens(tokens(2), mode, weights)


def test_no_reference_is_named() -> None:
    with pytest.raises(ValueError, match="R > 0"):
        combine_tokens(tokens(0), MEAN)


def test_weights_are_read_from_text() -> None:
    assert parse_weights("1, 0.5;2 3\n") == [1, 0.5, 2, 3]
    assert parse_weights(" ") == []
    for text in ("1, x", "nan"):
        with pytest.raises(ValueError, match="is no weight"):
            parse_weights(text)


def slow_blend(a, b, amount):
    """One token after the other."""
    out = torch.empty_like(a)
    for token in range(a.shape[1]):
        x, y = a[0, token], b[0, token]
        mean = (1 - amount) * x + amount * y
        length = (1 - amount) * x.norm() + amount * y.norm()
        out[0, token] = mean * (length / mean.norm())
    return out


@given(inside)
def test_tokens_equal_the_plain_loop(amount):
    got = blend_tokens(A.face_tokens, B.face_tokens, amount)
    torch.testing.assert_close(got, slow_blend(A.face_tokens, B.face_tokens, amount))


@given(inside)
def test_every_token_has_the_length_between_the_two(amount):
    got = blend_tokens(A.face_tokens, B.face_tokens, amount).norm(dim=-1)
    lengths = A.face_tokens.norm(dim=-1), B.face_tokens.norm(dim=-1)
    torch.testing.assert_close(got, (1 - amount) * lengths[0] + amount * lengths[1])


@given(inside)
def test_the_way_back_is_the_same_way(amount):
    there = blend_tokens(A.face_tokens, B.face_tokens, amount)
    back = blend_tokens(B.face_tokens, A.face_tokens, 1 - amount)
    torch.testing.assert_close(there, back)


@given(inside, inside)
def test_an_identity_and_itself_give_itself(looks, shape):
    same = blend_identities(A, A, looks, shape)
    torch.testing.assert_close(same.tokens, A.tokens)
    assert same.geometry is not None
    assert A.geometry is not None
    assert torch.equal(same.geometry.vertices, A.geometry.vertices)
    assert same.provenance.source_hashes == A.provenance.source_hashes


def test_opposite_tokens_do_not_become_numbers_that_are_none():
    assert torch.isfinite(blend_tokens(A.face_tokens, -A.face_tokens, 0.5)).all()


def test_both_ends_are_the_identities_themselves():
    assert blend_identities(A, B, 0.0, 0.0) is A
    assert blend_identities(A, B, 1.0, 1.0) is B


@given(st.sampled_from([0.0, 1.0]), inside)
def test_looks_and_shape_are_exact_at_their_own_ends(end, other):
    looks = blend_identities(A, B, end, other)
    assert torch.equal(looks.face_tokens, (A, B)[int(end)].face_tokens)
    assert looks.thumbnail is (A, B)[int(end)].thumbnail
    shape = blend_identities(A, B, other, end)
    assert torch.equal(shape.vertex_tokens, (A, B)[int(end)].vertex_tokens)
    assert shape.geometry is (A, B)[int(end)].geometry


def test_looks_of_a_on_the_shape_of_b():
    mixed = blend_identities(A, B, 0.0, 1.0)
    assert torch.equal(mixed.face_tokens, A.face_tokens)
    assert torch.equal(mixed.vertex_tokens, B.vertex_tokens)
    assert mixed.geometry is B.geometry
    assert mixed.thumbnail is A.thumbnail
    assert mixed.provenance.source_hashes == (f"{37:064x}", "5c" * 32, f"{11:064x}")


def test_the_head_lies_between_the_heads():
    assert A.geometry is not None
    assert B.geometry is not None
    head = blend_heads(A.geometry, B.geometry, 0.25)
    assert head is not None
    expected = 0.75 * A.geometry.vertices + 0.25 * B.geometry.vertices
    torch.testing.assert_close(head.vertices, expected)
    assert head.betas is not None
    assert "75% of (deca_model.tar" in head.source
    other_betas = replace(B.geometry, betas=torch.zeros(1, 3))
    assert getattr(blend_heads(A.geometry, other_betas, 0.25), "betas", 0) is None
    assert blend_heads(A.geometry, None, 0.25) is None


def test_an_identity_without_head_or_thumbnail_can_be_blended():
    bare = replace(B, geometry=None, thumbnail=None)
    blend = blend_identities(A, bare, 0.5, 0.5)
    assert blend.geometry is None
    assert blend.thumbnail is None


def test_inputs_are_not_changed():
    blend_identities(A, B, 0.3, 0.6)
    assert_same(A, make_identity())
    assert_same(B, make_identity(step=11))


def test_an_empty_identity_goes_through_with_its_reason():
    empty = Identity(torch.zeros(0, 36, 8), torch.zeros(0, 79, 8), "no face found")
    assert blend_identities(empty, A, 0.5, 0.5).empty_reason == "no face found"
    assert blend_identities(A, empty, 0.5, 0.0).empty_reason == "no face found"
    assert blend_identities(A, empty, 0.0, 0.0) is A


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"looks is 1\.5: expected 0"):
        blend_identities(A, B, 1.5, 0.0)
    with pytest.raises(ValueError, match="8 and 16 wide"):
        blend_identities(A, make_identity(width=16), 0.5, 0.5)
    two = make_identity(references=2)
    with pytest.raises(ValueError, match="36 and 72 face tokens"):
        blend_identities(A, two, 0.5, 0.5)
    assert blend_identities(A, two, 1.0, 0.5).face_tokens.shape == (1, 72, 8)


@pytest.mark.parametrize("part", ["encoder", "adapter"])
def test_identities_of_different_weights_are_refused_with_both_hashes(part):
    origin = replace(B.provenance, **{f"{part}_hash": "0f" * 32})
    with pytest.raises(ValueError, match=rf"different .*{part}s, .* and 0f0f0f0f0f0f0f0f: make"):
        blend_identities(A, replace(B, provenance=origin), 0.5, 0.5)


def test_what_several_come_from_is_all_that_is_known_of_each():
    known = Provenance("cascade", "", "ad" * 32, ("aa" * 32,), "note 1", "some file")
    other = Provenance("insightface", "e1" * 32, "", ("bb" * 32, "aa" * 32), "note 2")
    both = Provenance.of_all("they", [known, other, Provenance(), known])
    assert both == Provenance(
        "cascade, insightface", "e1" * 32, "ad" * 32, ("aa" * 32, "bb" * 32), "note 1\nnote 2"
    )


def test_a_thumbnail_has_the_steps_of_a_file():
    image = torch.rand(2, 512, 512, 3)
    small = make_thumbnail(image)
    assert small.shape == (1, 128, 128, 3)
    assert torch.equal((small * 255).round().byte().float() / 255, small)
    torch.testing.assert_close(small.mean(), image[0].mean(), atol=2e-3, rtol=0)
    assert make_thumbnail(torch.rand(1, 64, 48, 3)).shape == (1, 128, 128, 3)


def test_a_head_keeps_the_triangles_that_one_of_the_two_has():
    triangles = torch.tensor([[0, 1, 2]])
    assert A.geometry is not None
    assert isinstance(B.geometry, FaceGeometry)
    with_triangles = replace(B.geometry, triangles=triangles)
    head = blend_heads(A.geometry, with_triangles, 0.5)
    assert head is not None
    assert head.triangles is triangles
