"""Several references of one person become one set of tokens."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fantasyid.combine import (
    CONCATENATED,
    MEAN,
    MODES,
    NORM_PRESERVING,
    WEIGHTED,
    combine_tokens,
    parse_weights,
)


def tokens(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 36, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("mode", MODES)
def test_one_reference_is_left_as_it_is(mode: str) -> None:
    one = tokens(1)
    torch.testing.assert_close(combine_tokens(one, mode, [3.0]), one)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(count=st.integers(1, 6), seed=st.integers(0, 99))
def test_oracles(count: int, seed: int) -> None:
    given = tokens(count, seed)
    before = given.clone()
    mean = sum(given) / count
    torch.testing.assert_close(combine_tokens(given, MEAN)[0], mean)
    kept = combine_tokens(given, NORM_PRESERVING)[0]
    torch.testing.assert_close(kept.norm(dim=-1), sum(g.norm(dim=-1) for g in given) / count)
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
