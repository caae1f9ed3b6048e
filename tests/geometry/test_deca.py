"""DECA's encoder, and what it reads of a photo (golden tests: tests/golden)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from fantasyid.geometry.deca import DecaConfig, DecaEncoder, ResNet, deca_state_dict, split_code
from fantasyid.geometry.deca_photo import face_square, preprocess

RELEASED = DecaConfig(64, (64, 128, 256, 512), (3, 4, 6, 3), 1024)
TINY = DecaConfig(8, (8, 16, 32, 64), (1, 1, 1, 1), 128)


@pytest.fixture(scope="module")
def tiny() -> DecaEncoder:
    torch.manual_seed(1)
    return DecaEncoder(TINY).eval()


def test_the_config_is_read_back_from_the_shapes():
    for config in (RELEASED, TINY):
        state = DecaEncoder(config, device="meta").state_dict()
        assert DecaConfig.from_shapes({k: tuple(v.shape) for k, v in state.items()}) == config
    assert sum(p.numel() for p in DecaEncoder(RELEASED, device="meta").parameters()) == 25848108


@pytest.mark.parametrize(
    ("name", "changed", "match"),
    [
        ("layers.0.weight", None, r"layers\.0\.weight is missing"),
        ("encoder.layer3.0.conv1.weight", None, r"layer3\.0\.conv1\.weight is missing"),
        ("layers.2.weight", (159, 128), r"layers\.2\.weight has shape \(159, 128\)"),
        ("layers.0.weight", (128, 2048), r"layers\.0\.weight has shape \(128, 2048\)"),
    ],
)
def test_other_state_dicts_are_named(name, changed, match):
    state = DecaEncoder(TINY, device="meta").state_dict()
    shapes = {k: tuple(v.shape) for k, v in state.items()} | {name: changed}
    with pytest.raises(ValueError, match=match):
        DecaConfig.from_shapes({k: v for k, v in shapes.items() if v is not None})


@pytest.mark.parametrize(
    ("checkpoint", "match"),
    [
        ({"opt": {}, "D_detail": {}}, "has the keys D_detail, opt; expected E_flame"),
        ({}, "no keys; expected E_flame"),
        ({"E_flame": {"encoder.conv1.weight": [1]}}, "E_flame is no dict of tensors"),
    ],
)
def test_a_checkpoint_without_the_encoder_is_named(checkpoint, match):
    with pytest.raises(ValueError, match=match):
        deca_state_dict(checkpoint)


def test_its_names_and_numbers_are_those_of_torchvision():
    models = pytest.importorskip("torchvision.models", reason="torchvision is absent")
    theirs = models.resnet50().eval()
    theirs.fc = torch.nn.Identity()
    ours = ResNet(RELEASED).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images))


def test_every_parameter_and_pixel_channel_is_alive(tiny):
    images = torch.rand(2, 3, 224, 224, requires_grad=True)
    parameters = dict(tiny.named_parameters())
    gradients = torch.autograd.grad(
        tiny(images).square().sum(), [*parameters.values(), images], materialize_grads=True
    )
    dead = [n for n, g in zip([*parameters, "images"], gradients, strict=True) if not g.any()]
    assert dead == []


def test_it_trains_and_in_evaluation_changes_nothing(tiny):
    images = torch.rand(2, 3, 224, 224)
    kept = images.clone()
    before = {k: v.clone() for k, v in tiny.state_dict().items()}
    with torch.no_grad():
        code = tiny(images)
        alone = torch.cat([tiny(images[:1]), tiny(images[1:])])
    torch.testing.assert_close(code, alone, rtol=1e-4, atol=1e-5)
    assert torch.equal(images, kept)
    assert all(torch.equal(v, before[k]) for k, v in tiny.state_dict().items())
    assert all(p.requires_grad for p in tiny.parameters())
    learning = DecaEncoder(TINY)
    learning.load_state_dict(before)
    learning(images)
    assert not torch.equal(learning.encoder.bn1.running_mean, before["encoder.bn1.running_mean"])


def test_the_code_is_cut_where_the_release_cuts_it():
    parts = split_code(torch.arange(236.0)[None])
    starts = {"shape": 0, "texture": 100, "expression": 150, "pose": 200, "camera": 206}
    for name, start in {**starts, "light": 209}.items():
        assert getattr(parts, name)[0, 0] == start
    assert parts.light.shape == (1, 27)
    with pytest.raises(ValueError, match=r"expected the shape \(B, 236\), got \(1, 235\)"):
        split_code(torch.zeros(1, 235))


@example(height=225, width=2, seed=0)
@given(height=st.integers(1, 400), width=st.integers(1, 400), seed=st.integers(0, 99))
def test_preparation_equals_pillow(height, width, seed):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    got = preprocess(torch.from_numpy(pixels)[None].float() / 255)
    # One step of Pillow; where it takes the height first (Pillow 13, tall photos), it may be off by
    # one level here and there.
    resized = np.array(Image.fromarray(pixels).resize((224, 224), Image.Resampling.BILINEAR))
    expected = torch.from_numpy(resized).permute(2, 0, 1)[None].float() / 255
    assert (got - expected).abs().max() <= (0 if height <= width else 1.01 / 255)


def test_wrong_images_are_named(tiny):
    with pytest.raises(ValueError, match=r"expected the shape \(B, 3, 224, 224\)"):
        tiny(torch.zeros(1, 3, 256, 256))
    with pytest.raises(ValueError, match=r"expected the shape \(B, H, W, 3\), got \(1, 3, 8, 8\)"):
        preprocess(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"got \(1, 0, 8, 3\)"):
        preprocess(torch.zeros(1, 0, 8, 3))


def grid(height: int, width: int) -> torch.Tensor:
    """A photo whose colors say where a pixel lies; blue is 1 inside."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows / 1000, columns / 1000, torch.ones_like(rows)], dim=-1)[None]


@given(x=st.floats(100, 140), y=st.floats(100, 140), w=st.floats(20, 80), h=st.floats(20, 80))
def test_it_lies_where_deca_puts_it(x, y, w, h):
    """The published rule for a detector's box, corner by corner."""
    left, top, right, bottom = x, y, x + w, y + h
    old_size = (right - left + bottom - top) / 2
    center_x = right - (right - left) / 2
    center_y = bottom - (bottom - top) / 2 + old_size * 0.12
    size = int(old_size * 1.25)
    square = face_square(grid(400, 400), (left, top, right, bottom))
    assert square.shape[1:3] == (size, size)
    first = square[0, 0, 0] * 1000
    assert float(first[1]) == pytest.approx(center_x - size / 2, abs=0.51)
    assert float(first[0]) == pytest.approx(center_y - size / 2, abs=0.51)


def test_beyond_the_photo_it_is_black():
    photo = grid(100, 120)
    square = face_square(photo, (-20.0, -20.0, 60.0, 60.0))
    assert square.shape == (1, 100, 100, 3)
    inside = square[0, :, :, 2] == 1
    assert inside.any()
    assert not inside[0].any()
    assert not inside[:, 0].any()
    assert not square[0][~inside].any()
    assert torch.equal(square[0, inside.any(1)][:, inside.any(0)][0, 0], photo[0, 0, 0])


def test_wrong_boxes_are_named():
    photo = grid(50, 50)
    for box in ((10, 10, 10, 20), (20, 10, 10, 20), (0, 0, float("nan"), 5), (0, 0, 1e9, 1e9)):
        with pytest.raises(ValueError, match="is not x0 < x1"):
            face_square(photo, box)
    with pytest.raises(ValueError, match="lies outside the photo of 50x50"):
        face_square(photo, (200, 200, 220, 220))
    with pytest.raises(ValueError, match=r"expected a photo \(1, H, W, 3\)"):
        face_square(photo[0], (0, 0, 10, 10))
