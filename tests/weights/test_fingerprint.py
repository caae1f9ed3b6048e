"""A hash of weights says which numbers they are, wherever they are kept."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save

from fantasyid.weights.fingerprint import SAMPLE, photo_hash, shown, weights_fingerprint


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    shapes = {"a.weight": (40, 30), "a.bias": (7,), "b": (), "c": (3 * SAMPLE + 1,), "none": (0, 4)}
    return {name: torch.randn(shape, generator=draw).half() for name, shape in shapes.items()}


def test_a_fingerprint_is_of_64_digits_and_repeats():
    first = weights_fingerprint(weights())
    assert len(first) == 64
    assert set(first) <= set("0123456789abcdef")
    assert weights_fingerprint(weights()) == first
    assert weights_fingerprint(weights(1)) != first


def test_the_order_the_file_and_the_layout_do_not_matter():
    given_weights = weights()
    expected = weights_fingerprint(given_weights)
    assert weights_fingerprint(dict(reversed(given_weights.items()))) == expected
    assert weights_fingerprint(load(save(given_weights))) == expected
    strided = given_weights | {"a.weight": given_weights["a.weight"].t().contiguous().t()}
    assert weights_fingerprint(strided) == expected


def test_a_type_that_holds_the_numbers_exactly_gives_the_same_hash():
    halves = weights()
    for dtype in (torch.float32, torch.float64):
        wider = {name: tensor.to(dtype) for name, tensor in halves.items()}
        assert weights_fingerprint(wider) == weights_fingerprint(halves)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_rounded_weights_are_other_weights(dtype):
    rounded = {name: tensor.to(dtype) for name, tensor in weights().items()}
    assert weights_fingerprint(rounded) != weights_fingerprint(weights())


@given(st.sampled_from(["a.weight", "a.bias", "b", "c"]), st.sampled_from(["first", "last"]))
def test_the_ends_of_every_tensor_count(name, end):
    changed = weights()
    changed[name].view(-1)[0 if end == "first" else -1] += 1
    assert weights_fingerprint(changed) != weights_fingerprint(weights())


def test_the_middle_names_and_shapes_count():
    expected = weights_fingerprint(weights())
    changed = weights()
    changed["c"][len(changed["c"]) // 2] += 1
    renamed = {name.replace("a.", "d."): tensor for name, tensor in weights().items()}
    turned = weights() | {"a.weight": weights()["a.weight"].reshape(30, 40)}
    for other in (changed, renamed, turned):
        assert weights_fingerprint(other) != expected


def test_a_photo_is_known_by_its_pixels_and_its_size():
    photo = torch.randint(0, 256, (1, 6, 8, 3)).float() / 255
    expected = photo_hash(photo)
    assert photo_hash(photo + 0.001) == expected
    assert photo_hash(photo.reshape(1, 8, 6, 3)) != expected
    other = photo.clone()
    other[0, 5, 7, 2] = 1 - other[0, 5, 7, 2].round()
    assert photo_hash(other) != expected


def test_a_hash_is_shown_short():
    assert shown("ab" * 32) == "ab" * 8
    assert shown("") == "unknown"
