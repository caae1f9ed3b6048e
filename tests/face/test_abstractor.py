"""The C-Abstractor: names, sizes and liveness (golden tests: tests/golden)."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from fantasyid.face.abstractor import ABSTRACTOR_KEYS, AbstractorConfig, FaceAbstractor

RELEASED = AbstractorConfig(
    dim=1024, hidden=256, squeeze_first=256, squeeze=64, ff_dim=4096, out_dim=2048
)
TINY = AbstractorConfig(dim=64, hidden=32, squeeze_first=32, squeeze=8, ff_dim=256, out_dim=128)


def seeded_abstractor(config: AbstractorConfig, seeded: ModuleType) -> FaceAbstractor:
    """An abstractor with the weights that the goldens were recorded with."""
    module = FaceAbstractor(config)
    state = {
        name: seeded.weight(ABSTRACTOR_KEYS.to_released(name), tensor)
        for name, tensor in module.state_dict().items()
    }
    module.load_state_dict(state)
    return module.eval()


@pytest.fixture(scope="module")
def tiny(seeded: ModuleType) -> FaceAbstractor:
    """A narrow abstractor of the released layout."""
    return seeded_abstractor(TINY, seeded)


@pytest.mark.parametrize("config", [RELEASED, TINY])
def test_sizes_are_read_from_shapes(config: AbstractorConfig) -> None:
    state = FaceAbstractor(config, device="meta").state_dict()
    assert AbstractorConfig.from_shapes({k: t.shape for k, t in state.items()}) == config


@pytest.mark.parametrize(
    ("key", "shape", "words"),
    [
        ("position", (1, 256, 64), r"position has shape .* expected \(1, 576, 64\)"),
        ("proj_out", None, r"proj_out is missing: expected a tensor of shape \(any, any\)"),
        ("patches.0.conv1.conv.weight", (32, 64, 3, 3), r"expected \(any, 64, 1, 1\)"),
        ("feed_forward.1.weight", (256, 65), r"expected \(any, 64\)"),
    ],
)
def test_wrong_shapes_are_named(key: str, shape: tuple[int, ...] | None, words: str) -> None:
    state = FaceAbstractor(TINY, device="meta").state_dict()
    shapes = {k: tuple(t.shape) for k, t in state.items()}
    if shape is None:
        del shapes[key]
    else:
        shapes[key] = shape
    with pytest.raises(ValueError, match=words):
        AbstractorConfig.from_shapes(shapes)


def test_a_wrong_encoder_is_named(tiny: FaceAbstractor) -> None:
    with pytest.raises(ValueError, match=r"\(1, 577, 32\), expected \(B, 577, 64\)"):
        tiny(torch.zeros(1, 577, 32))
    with pytest.raises(ValueError, match="different checkpoints"):
        tiny(torch.zeros(1, 576, 64))


def test_every_parameter_and_patch_is_live_and_the_class_token_dead(seeded: ModuleType) -> None:
    module = seeded_abstractor(TINY, seeded)
    hidden_states = torch.randn(1, 577, 64, generator=torch.manual_seed(0)).requires_grad_(True)
    module(hidden_states).square().mean().backward()
    dead = [n for n, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []
    assert hidden_states.grad is not None
    assert hidden_states.grad[:, 0].abs().sum() == 0
    assert (hidden_states.grad[:, 1:].abs().sum(-1) > 0).all()


@torch.no_grad()
def test_the_earlier_position_table_matters(tiny: FaceAbstractor, seeded: ModuleType) -> None:
    """Released behavior: two position tables are added."""
    hidden_states = torch.randn(1, 577, 64, generator=torch.manual_seed(1))
    without = seeded_abstractor(TINY, seeded)
    without.earlier_position.zero_()
    swapped = seeded_abstractor(TINY, seeded)
    swapped.earlier_position.copy_(tiny.position)
    swapped.position.copy_(tiny.earlier_position)
    assert not torch.allclose(tiny(hidden_states), without(hidden_states), atol=1e-4)
    assert torch.allclose(tiny(hidden_states), swapped(hidden_states), atol=1e-5)


@torch.no_grad()
def test_forward_is_pure_and_per_item(tiny: FaceAbstractor) -> None:
    hidden_states = torch.randn(3, 577, 64, generator=torch.manual_seed(2))
    before = hidden_states.clone()
    tokens = tiny(hidden_states)
    assert tokens.shape == (3, 36, 128)
    assert torch.equal(hidden_states, before)
    assert torch.equal(tokens, tiny(hidden_states))
    assert torch.allclose(tokens[1:2], tiny(hidden_states[1:2]), atol=1e-5)
