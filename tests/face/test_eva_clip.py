"""The EVA02 vision tower: its properties, and its reading of files (golden tests: tests/golden)."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

from fantasyid.face.eva_clip import (
    EvaVisionTransformer,
    preprocess,
    rotary_tables,
    rotate,
)
from fantasyid.face.eva_keys import (
    EVA_KEYS,
    GRID,
    HEAD_DIM,
    IMAGE,
    EvaConfig,
    unused_key,
    used_keys,
)

RELEASED = EvaConfig(dim=1024, depth=24, mlp_dim=2730)
TINY = EvaConfig(dim=64, depth=24, mlp_dim=170)


@pytest.fixture(scope="module")
def released_shapes() -> dict[str, tuple[int, ...]]:
    """Names (without `visual.`) and shapes of the released vision tower."""
    path = Path(__file__).parents[1] / "golden" / "eva02_clip_l_336_visual.json"
    return {k: tuple(v) for k, v in json.loads(path.read_text())["params"].items()}


@pytest.fixture(scope="module")
def tiny(seeded: ModuleType) -> EvaVisionTransformer:
    """A narrow tower of the released layout."""
    return seeded.fill(EvaVisionTransformer(TINY), "visual.", EVA_KEYS.to_released).eval()


def test_preprocess_keeps_the_overshoot_of_bicubic() -> None:
    """Released behavior: values beyond white and black are not clamped."""
    edge = torch.zeros(1, 512, 512, 3)
    edge[:, :, 256:] = 1
    from_white = preprocess(torch.ones_like(edge))[0, :, 0, 0]
    from_black = preprocess(torch.zeros_like(edge))[0, :, 0, 0]
    pixels = preprocess(edge)[0]
    assert (pixels.amax((1, 2)) > from_white + 0.01).all()
    assert (pixels.amin((1, 2)) < from_black - 0.01).all()


def test_the_class_token_is_not_rotated_and_lengths_are_kept() -> None:
    tokens = torch.randn(2, GRID * GRID + 1, 2 * HEAD_DIM, generator=torch.manual_seed(0))
    turned = rotate(tokens, *rotary_tables(GRID), num_heads=2)
    assert torch.equal(turned[:, 0], tokens[:, 0])
    assert not torch.allclose(turned[:, 2], tokens[:, 2])
    assert torch.allclose(turned.norm(dim=-1), tokens.norm(dim=-1), rtol=1e-5)


def test_only_five_sixths_of_the_tower_are_built() -> None:
    assert RELEASED.levels == (3, 7, 11, 15, 19)
    names = EvaVisionTransformer(RELEASED, device="meta").state_dict()
    assert {n.split(".")[1] for n in names if n.startswith("blocks.")} == {
        str(i) for i in range(20)
    }
    assert not [n for n in names if n.startswith(("norm", "head")) or "k_bias" in n or "rope" in n]


def test_released_names_and_shapes_are_ours(released_shapes: dict[str, tuple[int, ...]]) -> None:
    ours = EvaVisionTransformer(RELEASED, device="meta").state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in ours.items()}
    assert EvaConfig.from_shapes(shapes) == RELEASED
    used = used_keys(f"visual.{name}" for name in released_shapes)
    assert {EVA_KEYS.to_ours(name): released_shapes[name] for name in used} == shapes
    assert {EVA_KEYS.to_released(name) for name in ours} == set(used)


def test_a_whole_file_is_read_as_its_converted_part_and_every_rest_has_a_reason() -> None:
    ours = EvaVisionTransformer(TINY, device="meta").state_dict()
    names = [name for name in map(EVA_KEYS.to_released, ours) if name]
    assert len(names) == len(ours)
    rest = [f"visual.blocks.{i}.norm1.weight" for i in range(20, 24)]
    rest += ["visual.norm.weight", "visual.head.weight", "visual.rope.freqs_cos"]
    rest += ["visual.blocks.0.attn.rope.freqs_sin", "text.positional_embedding", "logit_scale"]
    whole = [f"visual.{name}" for name in names] + rest
    assert used_keys(whole) == {name: f"visual.{name}" for name in names}
    assert list(used_keys(names)) == names
    assert all(len(unused_key(name, 24)) > 10 for name in rest)


@pytest.mark.parametrize(
    "names",
    [["face_abstractor.proj_out"], ["visual.transformer.resblocks.0.ln_1.weight"], [],
     ["visual.cls_token", "visual.blocks.3.norm1.weight"]],
)  # fmt: skip
def test_a_file_without_the_tower_is_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match=r"expected EVA02_CLIP_L_336_psz14_s6B\.pt"):
        used_keys(names)


@pytest.mark.parametrize(
    ("key", "shape", "words"),
    [
        ("positions", (1, 257, 64), r"positions has shape \(1, 257, 64\), expected \(1, 577, 64\)"),
        ("class_token", (1, 1, 70), "multiple of 64"),
        ("patch_embed.proj.weight", None, "patch_embed.proj.weight is missing"),
        ("blocks.40.norm1.weight", (64,), "without a gap"),
        ("blocks.20.norm1.weight", (64,), "multiple of 5"),
    ],
)
def test_wrong_shapes_are_named(key: str, shape: tuple[int, ...] | None, words: str) -> None:
    tower = EvaVisionTransformer(TINY, device="meta")
    shapes = {n: tuple(t.shape) for n, t in tower.state_dict().items()}
    if shape is None:
        del shapes[key]
    else:
        shapes[key] = shape
    with pytest.raises(ValueError, match=words):
        EvaConfig.from_shapes(shapes)


def test_a_wrong_picture_size_is_named(tiny: EvaVisionTransformer) -> None:
    with pytest.raises(ValueError, match=r"\(1, 3, 224, 224\), expected \(B, 3, 336, 336\)"):
        tiny(torch.zeros(1, 3, 224, 224))


@torch.no_grad()
def test_forward_is_the_last_level_pure_and_per_item(tiny: EvaVisionTransformer) -> None:
    pixels = torch.randn(2, 3, IMAGE, IMAGE, generator=torch.manual_seed(1))
    before = pixels.clone()
    both = tiny(pixels)
    assert torch.equal(both, tiny.hidden_states(pixels)[-1])
    assert torch.equal(pixels, before)
    # A batch is summed in another order, which 20 blocks carry on; items that saw each other would
    # differ by the size of the values.
    assert torch.allclose(both[1:], tiny(pixels[1:]), atol=1e-3)
    assert (both[1] - both[0]).abs().mean() > 0.1
