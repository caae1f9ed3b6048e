"""Layer-aware injection: its properties and errors (golden tests: tests/golden)."""

from __future__ import annotations

import math

import pytest
import torch

from fantasyid.injection.layers import (
    InjectedIdentity,
    InjectionConfig,
    KeysValues,
    LayerInjector,
    LayerInjectors,
    injected_blocks,
    weigh_values,
)

TINY = InjectionConfig(num_injectors=2, dim=192, context_dim=256)


class Injector(torch.nn.Module):
    """Both halves of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.video = KeysValues(TINY), LayerInjector(TINY)
        torch.nn.init.normal_(self.video.to_out.weight, std=0.1)  # it starts at zero


def tiny_injector(seed: int = 0) -> Injector:
    torch.manual_seed(seed)
    return Injector()


def residual(injector: Injector, hidden: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    return injector.video(hidden, [InjectedIdentity(*injector.tokens(tokens))])


def test_equals_a_plain_loop():
    injector = tiny_injector()
    hidden, tokens = torch.randn(1, 5, 192), torch.randn(1, 7, 256)
    query = injector.video.to_q(injector.video.norm_hidden(hidden))[0]
    keys, values = (x[0] for x in injector.tokens(tokens))
    rows = []
    for n in range(5):
        heads = []
        for h in range(2):
            part = slice(128 * h, 128 * (h + 1))
            scores = torch.stack(
                [query[n, part] @ keys[k, part] / math.sqrt(128) for k in range(7)]
            )
            weights = scores.softmax(0)
            heads.append(sum(weights[k] * values[k, part] for k in range(7)))
        rows.append(torch.cat(heads))
    expected = injector.video.to_out(torch.stack(rows))
    torch.testing.assert_close(
        residual(injector, hidden, tokens)[0], expected, rtol=1e-4, atol=1e-5
    )


def test_identity_tokens_permute_freely():
    injector = tiny_injector()
    hidden, tokens = torch.randn(2, 5, 192), torch.randn(1, 7, 256)
    shuffled = tokens[:, torch.randperm(7)]
    torch.testing.assert_close(
        residual(injector, hidden, tokens), residual(injector, hidden, shuffled)
    )


def test_one_identity_serves_a_batch_as_if_repeated():
    injector = tiny_injector()
    hidden, tokens = torch.randn(3, 5, 192), torch.randn(1, 7, 256)
    repeated = residual(injector, hidden, tokens.expand(3, -1, -1))
    torch.testing.assert_close(residual(injector, hidden, tokens), repeated)


def test_wrong_identity_batch_is_named():
    injector = tiny_injector()
    with pytest.raises(ValueError, match="2 identities for a batch of 4"):
        residual(injector, torch.randn(4, 5, 192), torch.randn(2, 7, 256))


def test_config_is_read_from_shapes():
    shapes = {k: tuple(v.shape) for k, v in LayerInjectors(TINY).state_dict().items()}
    assert InjectionConfig.from_shapes(shapes) == TINY


def test_a_gap_in_the_numbering_is_refused():
    shapes = {"injectors.0.to_q.weight": (256, 192), "injectors.2.to_q.weight": (256, 192)}
    with pytest.raises(ValueError, match=r"without a gap: found \[0, 2\]"):
        InjectionConfig.from_shapes(shapes)


@pytest.mark.parametrize(
    ("blocks", "injectors", "expected"),
    [(4, 4, [0, 1, 2, 3]), (6, 2, [0, 3]), (42, 21, list(range(0, 42, 2)))],
)
def test_injected_blocks(blocks, injectors, expected):
    assert injected_blocks(blocks, injectors) == expected


def test_foreign_depth_is_refused():
    with pytest.raises(ValueError, match="injectors for 4 blocks, the model has 42 blocks"):
        injected_blocks(42, 4)


def test_looks_and_shape_split_the_residual():
    """`looks` times the face tokens' part plus `shape` times the vertex tokens' part."""
    injector = tiny_injector()
    hidden, tokens = torch.randn(2, 5, 192), torch.randn(1, 7, 256)
    keys, values = injector.tokens(tokens)

    def given(looks: float, shape: float) -> torch.Tensor:
        weighed = weigh_values(values, 3, looks, shape)
        return injector.video(hidden, [InjectedIdentity(keys, weighed)])

    assert torch.equal(given(1.0, 1.0), residual(injector, hidden, tokens))
    whole = 0.5 * given(1.0, 0.0) + 2.0 * given(0.0, 1.0)
    torch.testing.assert_close(given(0.5, 2.0), whole)
    assert given(1.0, 0.0).norm() > 0
    assert given(0.0, 1.0).norm() > 0


def test_looks_are_the_first_tokens_and_shape_the_rest():
    values = torch.randn(1, 7, 256)
    weighed = weigh_values(values, 3, looks=0.5, shape=2.0)
    torch.testing.assert_close(weighed[:, :3], 0.5 * values[:, :3])
    torch.testing.assert_close(weighed[:, 3:], 2.0 * values[:, 3:])


def test_identities_add_up_in_any_order():
    injector = tiny_injector()
    hidden = torch.randn(2, 5, 192)
    a, b = (InjectedIdentity(*injector.tokens(torch.randn(1, k, 256))) for k in (7, 4))
    together = injector.video(hidden, [a, b])
    apart = injector.video(hidden, [a]) + injector.video(hidden, [b])
    torch.testing.assert_close(together, apart)
    torch.testing.assert_close(together, injector.video(hidden, [b, a]))


def test_a_scale_of_zero_adds_exactly_nothing_and_one_changes_no_bit():
    injector = tiny_injector()
    hidden = torch.randn(2, 5, 192)
    keys, values = injector.tokens(torch.randn(1, 7, 256))
    plain = injector.video(hidden, [InjectedIdentity(keys, values)])
    scale = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0])[None, :, None]
    masked = injector.video(hidden, [InjectedIdentity(keys, values, scale)])
    assert torch.equal(masked[:, ::2], plain[:, ::2])
    assert not masked[:, 1::2].any()


def test_no_identity_is_an_error():
    with pytest.raises(ValueError, match="no identity to inject"):
        tiny_injector().video(torch.randn(1, 5, 192), [])
