"""From the face crop to the 36 face tokens: EVA02-CLIP and the abstractor, at full size."""

from __future__ import annotations

import pytest
import torch

from fantasyid.face.abstractor import AbstractorConfig, FaceAbstractor
from fantasyid.face.eva_clip import EvaVisionTransformer, preprocess, rotary_tables
from fantasyid.face.eva_keys import EVA_KEYS, GRID, IMAGE, EvaConfig

pytestmark = pytest.mark.slow

EVA = EvaConfig(dim=1024, depth=24, mlp_dim=2730)
ABSTRACTOR = AbstractorConfig(
    dim=1024, hidden=256, squeeze_first=256, squeeze=64, ff_dim=4096, out_dim=2048
)


@pytest.fixture(scope="module")
def eva(golden):
    return golden("d_eva_clip")


def test_preprocess(seeded, eva, relative_error, fidelity):
    crop = seeded.inp("face_crop_512", (1, 3, 512, 512), 60, 128).round().clamp(0, 255) / 255
    torch.testing.assert_close(seeded.fingerprint(crop), eva["fp:face_crop_512"])
    pixels = preprocess(crop.permute(0, 2, 3, 1))
    assert pixels.shape == (1, 3, IMAGE, IMAGE)
    error = relative_error(pixels[:, :, ::16, ::16], eva["preprocessed_stride16"])
    fidelity("eva input", torch.float32, {"pixels": error})


def test_eva_rotary_tables(eva, relative_error, fidelity):
    cos, sin = (t[1:].repeat_interleave(2, dim=-1) for t in rotary_tables(GRID))
    errors = {
        "cosines": relative_error(cos[::8], eva["rope_cos_rows_0_8"]),
        "sines": relative_error(sin[::8], eva["rope_sin_rows_0_8"]),
    }
    fidelity("eva rotary", torch.float32, errors)


def test_eva_hidden_states(seeded, eva, relative_error, fidelity, dtype):
    pixels = seeded.inp("eva_image", (1, 3, IMAGE, IMAGE))
    torch.testing.assert_close(seeded.fingerprint(pixels), eva["fp:eva_image"])
    tower = seeded.fill(EvaVisionTransformer(EVA), "visual.", EVA_KEYS.to_released)
    with torch.no_grad():
        levels = tower.to(dtype).float().hidden_states(pixels.to(dtype).float())
    assert [tuple(level.shape) for level in levels] == [(1, 577, 1024)] * 5
    errors = {
        f"hidden state {i}": relative_error(level[:, ::24], eva[f"hidden_{i}_rows_0_24"])
        for i, level in enumerate(levels)
    }
    fidelity("eva", dtype, errors)


def test_abstractor(seeded, golden, relative_error, fidelity, dtype, seeded_part):
    recorded = golden("b_face_abstractor")
    hidden_states = seeded.inp("vit_hidden_4", (1, 577, 1024))
    torch.testing.assert_close(seeded.fingerprint(hidden_states), recorded["fp:vit_hidden_4"])
    abstractor = FaceAbstractor(ABSTRACTOR)
    abstractor.load_state_dict(seeded_part("abstractor"))
    abstractor.to(dtype)
    stages: dict[str, torch.Tensor] = {}
    for name in ("mapping", "readout", "feed_forward"):
        getattr(abstractor, name).register_forward_hook(
            lambda _module, _args, out, name=name: stages.update({name: out})
        )
    with torch.no_grad():
        with_class_token = abstractor.mapping(hidden_states.to(dtype))
        tokens = abstractor(hidden_states.to(dtype))
    pairs = {
        "mapped hidden state": (with_class_token[:, ::48], "mapping_4_out_rows_0_48"),
        "with the earlier position table": (
            (stages["mapping"] + abstractor.earlier_position.detach())[:, ::48],
            "layer9_input_rows_0_48",
        ),
        "convolutions and readout": (stages["readout"][:, ::3], "cabstractor9_out_rows_0_3"),
        "feed-forward": (stages["feed_forward"][:, ::3], "ff9_out_rows_0_3"),
        "face tokens": (tokens, "tokens"),
    }
    errors = {k: relative_error(got, recorded[name]) for k, (got, name) in pairs.items()}
    fidelity("abstractor", dtype, errors)
