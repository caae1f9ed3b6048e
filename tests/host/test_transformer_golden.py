"""The denoiser through the host's own machinery against the recorded reference.

Two layers at full width, a batch of two as with CFG, the released key names, our loader's base,
corrected positions and injection. Tolerance 1e-4 relative: fp32, two blocks, other kernels.
"""

from __future__ import annotations

import json

import pytest
import torch

LAYERS, WIDTH, FRAMES, HEIGHT, GRID_WIDTH = 2, 3072, 2, 8, 12


@pytest.fixture(scope="module")
def released(seeded, request):
    """Regenerated weights of the first two layers, under their released names."""
    golden = request.path.parents[1] / "golden" / "released_transformer_keys.json"
    groups = json.loads(golden.read_text("utf-8"))["groups"]
    shapes = {
        k: s
        for group in ("base_transformer", "layer_attention")
        for k, s in groups[group].items()
        if not k.startswith(("transformer_blocks.", "layer_attention."))
        or int(k.split(".")[1]) < LAYERS
    }
    return seeded.state_dict(shapes)


@pytest.fixture(scope="module")
def learned_table(seeded):
    """The recorded table, in the first rows of one of the size that the host has room for.

    The host reads the rows it needs from the start of its table, which here are the recorded ones.
    """
    key, tokens = "patch_embed.pos_embedding", 226 + FRAMES * (HEIGHT // 2) * (GRID_WIDTH // 2)
    table = torch.zeros(1, 226 + 13 * 30 * 45, WIDTH)
    table[:, :tokens] = seeded.state_dict({key: (1, tokens, WIDTH)})[key]
    return {key: table}


def build_model(ours, released):
    checkpoint, weights = ours("fantasyid.checkpoint"), ours("fantasyid.host.weights")
    keys = checkpoint.sort_released_keys(released)
    base = {name: released[key] for name, key in keys.base.items()}
    model = weights._base("seeded", base, {"dtype": torch.float32}, False)
    injection = ours("fantasyid.injection")
    injectors = injection.LayerInjectors(injection.InjectionConfig(LAYERS, WIDTH, 2048))
    injectors.load_state_dict({name: released[key] for name, key in keys.injection.items()})
    return model, injectors


def velocity(model, latents, text, extra_wrappers=()):
    """v of the host's `apply_model` for diffusers-shaped latents `(B, T, C, H, W)`."""
    base = model.model
    sampling = base.model_sampling
    sigma = sampling.sigma(torch.tensor([801.0])).expand(latents.shape[0])
    x = latents.movedim(1, 2)
    wrappers = {k: {n: list(f) for n, f in v.items()} for k, v in model.wrappers.items()}
    for wrapper in extra_wrappers:
        wrappers.setdefault("apply_model", {}).setdefault("identity", []).append(wrapper)
    denoised = base.apply_model(
        x[:, :16],
        sigma,
        c_concat=x[:, 16:],
        c_crossattn=text,
        transformer_options={"wrappers": wrappers},
    )
    scale = (sigma**2 + 1).sqrt().view(-1, 1, 1, 1, 1)
    return ((x[:, :16] / scale - denoised) * scale / sigma.view(-1, 1, 1, 1, 1)).movedim(2, 1)


def record_blocks(model, store):
    """Hooks that keep what leaves each block before (`block`) and after (`after`) injection."""
    blocks = model.model.diffusion_model.blocks
    return [
        block.register_forward_hook(lambda _m, _i, out, i=i: store.__setitem__(i, out[0]))
        for i, block in enumerate(blocks)
    ]


@pytest.fixture(scope="module")
def inputs(seeded, golden):
    latents = seeded.inp("latents", (2, 2, 32, 8, 12))
    text = seeded.inp("text", (2, 226, 4096), 0.5)
    g = golden("e_transformer_rotary")
    torch.testing.assert_close(seeded.fingerprint(latents), g["fp:hidden_states"])
    torch.testing.assert_close(seeded.fingerprint(text), g["fp:encoder_hidden_states"])
    return latents, text


@pytest.fixture(scope="module")
def rotary_model(ours, released):
    return build_model(ours, released)


def test_rotary_checkpoint(ours, rotary_model, inputs, golden, relative_error):
    g = golden("e_transformer_rotary")
    model, injectors = rotary_model
    cogvideox = ours("fantasyid.host.cogvideox")
    wrapper = cogvideox.IdentityInjection(injectors, g["id_tokens"], 1.0)
    before: dict[int, torch.Tensor] = {}
    hooks = record_blocks(model, before)  # registered first, so they see the block's own output
    try:
        got = velocity(model, *inputs, extra_wrappers=[wrapper])
    finally:
        for hook in hooks:
            hook.remove()
    for i in range(LAYERS):
        assert relative_error(before[i][:, ::2], g[f"block{i}_hidden_s2"]) < 1e-4, f"block {i}"
    assert relative_error(got, g["out"]) < 1e-4


def test_without_identity_it_is_the_base_model(rotary_model, inputs, golden, relative_error):
    model, _ = rotary_model
    got = velocity(model, *inputs)
    assert relative_error(got, golden("e_transformer_rotary")["out_base_no_face"]) < 1e-4


def test_the_host_alone_is_wrong(ours, rotary_model, inputs, golden, relative_error):
    """If this fails, the host has repaired its positions, and ours may go."""
    model, _ = rotary_model
    bare = model.clone()
    bare.wrappers.get("apply_model", {}).pop(ours("fantasyid.host.cogvideox").POSITIONS_KEY)
    got = velocity(bare, *inputs)
    assert relative_error(got, golden("e_transformer_rotary")["out_base_no_face"]) > 1e-3


@pytest.fixture(scope="module")
def learned_model(ours, released, learned_table):
    """A checkpoint with a learned table, made for the size of the recorded inputs."""
    model, injectors = build_model(ours, {**released, **learned_table})
    embed = model.model.diffusion_model.patch_embed
    embed.sample_frames, embed.sample_height, embed.sample_width = 5, HEIGHT, GRID_WIDTH
    return model, injectors


def test_learned_positions_checkpoint(ours, learned_model, inputs, golden, relative_error):
    g = golden("e_transformer_rotary_learned")
    model, injectors = learned_model
    transformer = model.model.diffusion_model
    cogvideox = ours("fantasyid.host.cogvideox")
    tokens = golden("e_transformer_rotary")["id_tokens"]
    torch.testing.assert_close(tokens[:, ::8], g["id_tokens"][:, : tokens[:, ::8].shape[1]])
    wrapper = cogvideox.IdentityInjection(injectors, tokens, 1.0)
    assert relative_error(velocity(model, *inputs, extra_wrappers=[wrapper]), g["out"]) < 1e-4
    assert not transformer.use_rotary_positional_embeddings, "the correction was left behind"
    assert transformer.patch_embed.use_learned_positional_embeddings
    assert "_get_rotary_emb" not in vars(transformer)


def test_learned_table_gives_way_for_another_number_of_frames(
    learned_model, inputs, seeded, golden, relative_error
):
    """Released behaviour: three frames with a table for two use sines and cosines."""
    latents, text = inputs
    three = torch.cat([latents, seeded.inp("latents_f3", (2, 1, 32, 8, 12))], dim=1)
    g = golden("e_transformer_rotary_learned")
    got = velocity(learned_model[0], three, text)
    assert relative_error(got, g["out_base_3frames_sincos"]) < 1e-4


def test_a_repaired_host_is_left_alone(ours, rotary_model, inputs, golden, relative_error):
    """A host that scales by 1 computes this size's table itself: its own tensors are used."""
    model, _ = rotary_model
    transformer = model.model.diffusion_model
    tables = []

    def repaired(h, w, t, _device):
        tables.append(ours("fantasyid.rotary").rotary_table(t, h, w, 64))
        return tables[-1]

    seen = []

    def look(_module, _args, kwargs):
        seen.append(kwargs["image_rotary_emb"])

    hook = transformer.blocks[0].register_forward_pre_hook(look, with_kwargs=True)
    transformer._get_rotary_emb = repaired
    fresh = ours("fantasyid.host.cogvideox").correct_positions(model)
    fresh.wrappers["apply_model"]["fantasyid_positions"] = fresh.wrappers["apply_model"][
        "fantasyid_positions"
    ][-1:]
    try:
        got = velocity(fresh, *inputs)
        assert transformer._get_rotary_emb is repaired, "the host's own repair was lost"
    finally:
        hook.remove()
        del transformer._get_rotary_emb
    assert seen[0][0] is tables[0][0]
    assert relative_error(got, golden("e_transformer_rotary")["out_base_no_face"]) < 1e-4


def test_a_host_that_uses_rotary_with_learned_positions_is_left_alone(ours, learned_model):
    cogvideox = ours("fantasyid.host.cogvideox")
    transformer = learned_model[0].model.diffusion_model
    assert cogvideox.needs_learned_positions(transformer)
    transformer.use_rotary_positional_embeddings = True
    try:
        assert not cogvideox.needs_learned_positions(transformer)
    finally:
        transformer.use_rotary_positional_embeddings = False


def test_learned_positions_of_another_size_are_refused_before_sampling(ours, learned_model):
    check = ours("fantasyid.host.cogvideox").check_learned_size
    check(learned_model[0], HEIGHT, GRID_WIDTH)
    with pytest.raises(ValueError, match="learned positions for 96x64 pixels only"):
        check(learned_model[0], 60, 90)
