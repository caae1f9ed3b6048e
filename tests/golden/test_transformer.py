"""The injector alone, and the denoiser of the host with two layers at full width.

A batch of two as with CFG, the released key names, our loader's base, corrected positions,
injection after each block.
"""

from __future__ import annotations

import pytest
import torch
from denoiser import Taps, build_model, velocity

from fantasyid.cogvideox.positions import rotary_table
from fantasyid.injection.layers import (
    InjectedIdentity,
    InjectionConfig,
    KeysValues,
    LayerInjector,
)

pytestmark = pytest.mark.slow

LAYERS, WIDTH, FRAMES, HEIGHT, GRID_WIDTH = 2, 3072, 2, 8, 12
TABLE = "patch_embed.pos_embedding"

host_warns = pytest.mark.filterwarnings("default")  # the host's own modules, not ours to fail on


@pytest.mark.parametrize("batch", [1, 2])
def test_injector(golden, seeded, seeded_part, relative_error, fidelity, dtype, batch):
    g = golden("c_layer_attention")
    hidden, tokens = seeded.inp("hidden", (2, 24, 3072)), seeded.inp("id_tokens", (1, 115, 2048))
    torch.testing.assert_close(seeded.fingerprint(tokens), g["fp:id_tokens"])
    torch.testing.assert_close(seeded.fingerprint(hidden), g["fp:hidden"])
    config = InjectionConfig(num_injectors=1, dim=WIDTH, context_dim=2048)
    halves = KeysValues(config), LayerInjector(config)
    weights = {
        k.removeprefix("injectors.0."): v
        for k, v in seeded_part("injection", "injectors.0.").items()
    }
    for half in halves:
        half.load_state_dict({k: weights.pop(k) for k in half.state_dict()})
        half.to(dtype)
    assert not weights
    with torch.inference_mode():
        keys_values = halves[0](tokens.to(dtype))
        got = halves[1](hidden[:batch].to(dtype), [InjectedIdentity(*keys_values)])
    error = relative_error(got[:, ::4], g[f"out_b{batch}_rows_0_4"])
    fidelity("injector", dtype, {f"residual, batch {batch}": error})


def test_rotary_table(golden, relative_error, fidelity):
    g = golden("e_transformer_rotary")
    cos, sin = rotary_table(FRAMES, HEIGHT // 2, GRID_WIDTH // 2, 64)
    errors = {
        "cosines": relative_error(cos, g["rope_cos"]),
        "sines": relative_error(sin, g["rope_sin"]),
    }
    fidelity("rotary table", torch.float32, errors)


@pytest.fixture(scope="module")
def released(seeded, released_shapes):
    """Regenerated weights of the first two layers, under their released names."""
    parts = ("face_abstractor.", "vertex_")
    shapes = {k: s for k, s in released_shapes.items() if not k.startswith(parts)}
    numbered = ("transformer_blocks.", "layer_attention.")
    return seeded.state_dict(
        {
            k: s
            for k, s in shapes.items()
            if not k.startswith(numbered) or int(k.split(".")[1]) < LAYERS
        }
    )


@pytest.fixture(scope="module")
def learned_table(seeded):
    """The recorded table, in the first rows of one of the size that the host has room for."""
    tokens = 226 + FRAMES * (HEIGHT // 2) * (GRID_WIDTH // 2)
    table = torch.zeros(1, 226 + 13 * 30 * 45, WIDTH)
    table[:, :tokens] = seeded.state_dict({TABLE: (1, tokens, WIDTH)})[TABLE]
    return {TABLE: table}


@pytest.fixture(scope="module")
def latents(seeded, golden):
    latents = seeded.inp("latents", (2, FRAMES, 32, HEIGHT, GRID_WIDTH))
    fingerprint = golden("e_transformer_rotary")["fp:hidden_states"]
    torch.testing.assert_close(seeded.fingerprint(latents), fingerprint)
    return latents


@pytest.fixture(scope="module")
def text(seeded, golden):
    text = seeded.inp("text", (2, 226, 4096), 0.5)
    fingerprint = golden("e_transformer_rotary")["fp:encoder_hidden_states"]
    torch.testing.assert_close(seeded.fingerprint(text), fingerprint)
    return text


@pytest.fixture
def measure(ours, golden, relative_error, latents, text):
    """`measure(model, adapter, golden_name)`: the error of everything recorded."""
    tokens = golden("e_transformer_rotary")["id_tokens"]
    apply = ours("fantasyid.comfyui.apply")
    steering, identity = (
        ours("fantasyid.injection.steering").Steering,
        ours("fantasyid.identity").Identity,
    )

    def measure(model, adapter, name) -> dict[str, float]:
        g, transformer = golden(name), model.model.diffusion_model
        with Taps(transformer, adapter.injectors.model) as seen:
            person = identity(tokens[:, :36], tokens[:, 36:])
            applied = apply.apply_identity(model, adapter, person, steering())
            wrapper = apply.injection_of(applied)
            got = velocity(model, latents, text, extra_wrappers=[wrapper])
        pairs = {
            "time embedding": (seen["temb"], g["temb"]),
            "embedded video": (seen["video"][:, ::8], g["embeds_image_rows_0_8"]),
            "embedded text": (seen["text"][:, ::64], g["embeds_text_rows_0_64"]),
        }
        for i in range(LAYERS):
            block, after = g[f"block{i}_hidden_rows_0_8"], g[f"after{i}_hidden_rows_0_8"]
            pairs |= {
                f"block {i}: video": (seen[f"block{i}"][:, ::8], block),
                f"block {i}: text": (seen[f"text{i}"][:, ::64], g[f"block{i}_text_rows_0_64"]),
                f"block {i}: injected residual": (seen[f"residual{i}"][:, ::8], after - block),
                f"block {i}: video after injection": (seen[f"after{i}"][:, ::8], after),
            }
        pairs["velocity"] = (got, g["out"])
        pairs["velocity without identity"] = (velocity(model, latents, text), g["out_base_no_face"])
        return {key: relative_error(*pair) for key, pair in pairs.items()}

    return measure


@host_warns
def test_rotary_checkpoint(ours, released, measure, fidelity, dtype):
    model, adapter = build_model(ours, released, dtype)
    errors = measure(model, adapter, "e_transformer_rotary")
    fidelity("transformer, rotary", dtype, errors)


@host_warns
def test_learned_checkpoint(
    ours, released, learned_table, measure, fidelity, dtype, latents, text, seeded, golden,
    relative_error,
):  # fmt: skip
    model, adapter = build_model(ours, {**released, **learned_table}, dtype)
    embed = model.model.diffusion_model.patch_embed
    embed.sample_frames, embed.sample_height, embed.sample_width = 5, HEIGHT, GRID_WIDTH
    errors = measure(model, adapter, "e_transformer_rotary_learned")
    three = torch.cat([latents, seeded.inp("latents_f3", (2, 1, 32, HEIGHT, GRID_WIDTH))], dim=1)
    expected = golden("e_transformer_rotary_learned")["out_base_3frames_sincos"]
    errors["velocity, another number of frames"] = relative_error(
        velocity(model, three, text), expected
    )
    fidelity("transformer, rotary and learned", dtype, errors)
