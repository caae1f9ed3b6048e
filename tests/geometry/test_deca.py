"""DECA's encoder, and its photo preparation against Pillow (golden tests: tests/golden)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from fantasyid.geometry.deca import DecaConfig, DecaEncoder, deca_state_dict, preprocess, split_code

RELEASED = DecaConfig(64, (64, 128, 256, 512), (3, 4, 6, 3), 1024)
TINY = DecaConfig(8, (8, 16, 32, 64), (1, 1, 1, 1), 128)


@pytest.fixture(scope="module")
def tiny() -> DecaEncoder:
    torch.manual_seed(1)
    return DecaEncoder(TINY)


def test_the_config_is_read_back_from_the_shapes():
    for config in (RELEASED, TINY):
        state = DecaEncoder(config, device="meta").state_dict()
        assert DecaConfig.from_shapes({k: tuple(v.shape) for k, v in state.items()}) == config
    assert sum(p.numel() for p in DecaEncoder(RELEASED, device="meta").parameters()) == 25848108


def test_other_state_dicts_are_named():
    state = DecaEncoder(TINY, device="meta").state_dict()
    shapes = {k: tuple(v.shape) for k, v in state.items()}
    with pytest.raises(ValueError, match=r"layers\.0\.weight is missing"):
        DecaConfig.from_shapes({k: v for k, v in shapes.items() if k != "layers.0.weight"})
    with pytest.raises(ValueError, match=r"encoder\.layer3\.0\.conv1\.weight is missing"):
        DecaConfig.from_shapes({k: v for k, v in shapes.items() if "layer3" not in k})
    with pytest.raises(ValueError, match=r"layers\.2\.weight has the shape \(159, 128\)"):
        DecaConfig.from_shapes({**shapes, "layers.2.weight": (159, 128)})
    with pytest.raises(ValueError, match=r"layers\.0\.weight has the shape \(128, 2048\)"):
        DecaConfig.from_shapes({**shapes, "layers.0.weight": (128, 2048)})


def test_a_checkpoint_without_the_encoder_is_named():
    with pytest.raises(ValueError, match="has the keys D_detail, opt; expected E_flame"):
        deca_state_dict({"opt": {}, "D_detail": {}})
    with pytest.raises(ValueError, match="no keys; expected E_flame"):
        deca_state_dict({})
    with pytest.raises(ValueError, match="E_flame is no dict of tensors"):
        deca_state_dict({"E_flame": {"encoder.conv1.weight": [1]}})


def test_every_parameter_and_pixel_channel_is_alive(tiny):
    images = torch.rand(2, 3, 224, 224, requires_grad=True)
    parameters = dict(tiny.named_parameters())
    gradients = torch.autograd.grad(
        tiny(images).square().sum(), [*parameters.values(), images], materialize_grads=True
    )
    dead = [n for n, g in zip([*parameters, "images"], gradients, strict=True) if not g.any()]
    assert dead == []


def test_it_stays_in_evaluation_and_changes_nothing(tiny):
    images = torch.rand(2, 3, 224, 224)
    kept = images.clone()
    before = {k: v.clone() for k, v in tiny.state_dict().items()}
    with torch.no_grad():
        code = tiny(images)
        again = tiny.train()(images)
        alone = torch.cat([tiny(images[:1]), tiny(images[1:])])
    assert not any(module.training for module in tiny.modules())
    assert torch.equal(code, again)
    torch.testing.assert_close(code, alone, rtol=1e-4, atol=1e-5)
    assert torch.equal(images, kept)
    assert all(torch.equal(v, before[k]) for k, v in tiny.state_dict().items())


def test_the_code_is_cut_where_the_release_cuts_it():
    parts = split_code(torch.arange(236.0)[None])
    starts = {"shape": 0, "texture": 100, "expression": 150, "pose": 200, "camera": 206}
    for name, start in {**starts, "light": 209}.items():
        assert getattr(parts, name)[0, 0] == start
    assert parts.light.shape == (1, 27)
    with pytest.raises(ValueError, match=r"expected the shape \(B, 236\), got \(1, 235\)"):
        split_code(torch.zeros(1, 235))


@settings(max_examples=25, deadline=None, derandomize=True)
@example(height=225, width=2, seed=0)
@given(height=st.integers(1, 400), width=st.integers(1, 400), seed=st.integers(0, 99))
def test_preparation_equals_pillow_to_the_last_bit(height, width, seed):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    got = preprocess(torch.from_numpy(pixels)[None].float() / 255)
    # One axis at a time, because Pillow 13 changed which of the two it takes first.
    wide = Image.fromarray(pixels).resize((224, height), Image.Resampling.BILINEAR)
    resized = wide.resize((224, 224), Image.Resampling.BILINEAR)
    expected = torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1)[None].float() / 255
    assert torch.equal(got, expected)


def test_wrong_images_are_named(tiny):
    with pytest.raises(ValueError, match=r"expected the shape \(B, 3, 224, 224\)"):
        tiny(torch.zeros(1, 3, 256, 256))
    with pytest.raises(ValueError, match=r"expected the shape \(B, H, W, 3\), got \(1, 3, 8, 8\)"):
        preprocess(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"got \(1, 0, 8, 3\)"):
        preprocess(torch.zeros(1, 0, 8, 3))
