"""Positions on the host: what it gets wrong is corrected, what it has repaired is left alone.

That corrected positions are the released ones is for tests/golden/test_transformer.py.
"""

from __future__ import annotations

import pytest
import torch
from denoiser import build_model, velocity

HEIGHT, WIDTH = 8, 12  # latent cells


@pytest.fixture(scope="module")
def base(ours, tiny):
    """The tiny transformer's weights, in the host's names, from the file: a MODEL that the host has
    not loaded yet has none."""
    return ours("fantasyid.weights.released").read_released(tiny.model).base()


@pytest.fixture(scope="module")
def rotary_model(ours, base):
    return build_model(ours, base)[0]


@pytest.fixture(scope="module")
def learned_model(ours, base):
    """A checkpoint with a learned table, made for the size of the inputs."""
    dim = base["patch_embed.proj.weight"].shape[0]
    table = torch.randn(1, 226 + 13 * 30 * 45, dim, generator=torch.manual_seed(2)) * 0.1
    model, _ = build_model(ours, {**base, "patch_embed.pos_embedding": table})
    embed = model.model.diffusion_model.patch_embed
    embed.sample_frames, embed.sample_height, embed.sample_width = 5, HEIGHT, WIDTH
    return model


@pytest.fixture(scope="module")
def inputs(base):
    generator = torch.Generator().manual_seed(3)
    text_dim = base["patch_embed.text_proj.weight"].shape[1]
    latents = torch.randn(2, 2, 32, HEIGHT, WIDTH, generator=generator)
    return latents, torch.randn(2, 226, text_dim, generator=generator)


def test_the_host_alone_is_wrong(ours, rotary_model, inputs, relative_error):
    """If this fails, the host has repaired its positions, and ours may go."""
    bare = rotary_model.clone()
    bare.wrappers["apply_model"].pop(ours("fantasyid.comfyui.cogvideox").POSITIONS_KEY)
    assert relative_error(velocity(bare, *inputs), velocity(rotary_model, *inputs)) > 1e-3


def test_nothing_is_left_on_the_shared_transformer(learned_model, inputs):
    transformer = learned_model.model.diffusion_model
    first = velocity(learned_model, *inputs)
    assert not transformer.use_rotary_positional_embeddings
    assert transformer.patch_embed.use_learned_positional_embeddings
    assert "_get_rotary_emb" not in vars(transformer)
    assert torch.equal(velocity(learned_model, *inputs), first)


def test_a_repaired_host_is_left_alone(ours, rotary_model, inputs):
    """A host that scales by 1 computes this size's table itself: its own tensors are used."""
    transformer = rotary_model.model.diffusion_model
    tables, seen = [], []

    def repaired(h, w, t, device):  # noqa: ARG001 (as the host calls it)
        tables.append(ours("fantasyid.cogvideox.positions").rotary_table(t, h, w, 64))
        return tables[-1]

    hook = transformer.blocks[0].register_forward_pre_hook(
        lambda _module, _args, kwargs: seen.append(kwargs["image_rotary_emb"]), with_kwargs=True
    )
    fresh = rotary_model.clone()
    key = ours("fantasyid.comfyui.cogvideox").POSITIONS_KEY
    fresh.wrappers["apply_model"].pop(key)
    fresh = ours("fantasyid.comfyui.cogvideox").correct_positions(fresh)
    transformer._get_rotary_emb = repaired
    try:
        velocity(fresh, *inputs)
        assert transformer._get_rotary_emb is repaired, "the host's own repair was lost"
    finally:
        hook.remove()
        del transformer._get_rotary_emb
    assert seen[0][0] is tables[0][0]


def test_a_host_that_uses_rotary_with_learned_positions_is_left_alone(ours, learned_model):
    cogvideox = ours("fantasyid.comfyui.cogvideox")
    transformer = learned_model.model.diffusion_model
    assert cogvideox.needs_learned_positions(transformer)
    transformer.use_rotary_positional_embeddings = True
    try:
        assert not cogvideox.needs_learned_positions(transformer)
    finally:
        transformer.use_rotary_positional_embeddings = False


def test_learned_positions_of_another_size_are_refused_before_sampling(ours, learned_model):
    check = ours("fantasyid.comfyui.cogvideox").check_learned_size
    check(learned_model, HEIGHT, WIDTH)
    with pytest.raises(ValueError, match="learned positions for 96x64 pixels only"):
        check(learned_model, 60, 90)
