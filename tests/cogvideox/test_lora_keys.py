"""Names of LoRA files: each module in each style, and nothing twice."""

from __future__ import annotations

import re

import pytest

from fantasyid.cogvideox.keys import BASE_KEYS, BLOCK_MODULES, OUTER_MODULES
from fantasyid.cogvideox.lora_keys import lora_names, misfits


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("transformer.transformer_blocks.0.attn1.to_q", "blocks.0.q.weight"),
        ("transformer_blocks.1.attn1.to_out.0", "blocks.1.attn_out.weight"),
        ("base_model.model.transformer_blocks.1.ff.net.2", "blocks.1.ff_out.weight"),
        ("lora_unet_transformer_blocks_1_attn1_to_v", "blocks.1.v.weight"),
        ("lora_unet__transformer_blocks_0_norm1_linear", "blocks.0.norm1.linear.weight"),
        ("lycoris_transformer_blocks_0_ff_net_0_proj", "blocks.0.ff_proj.weight"),
        ("lora_unet_blocks_0_k", "blocks.0.k.weight"),
        ("diffusion_model.blocks.1.norm_k", "blocks.1.norm_k.weight"),
        ("transformer.time_embedding.linear_2", "time_embedding_linear_2.weight"),
        ("lora_unet_proj_out", "proj_out.weight"),
    ],
)
def test_a_name_means_a_weight(name, weight):
    assert lora_names(2)[name] == weight


def test_every_weight_of_the_host_has_its_name_in_a_lora_and_back():
    names = lora_names(3)
    assert len(set(names.values())) == len(OUTER_MODULES) + 3 * len(BLOCK_MODULES)
    for weight in set(names.values()):
        released = BASE_KEYS.to_released(weight)
        assert released is not None
        assert BASE_KEYS.to_ours(released) == weight
        assert names[f"transformer.{released.removesuffix('.weight')}"] == weight


def test_blocks_that_are_not_there_have_no_name():
    assert not [name for name in lora_names(10) if re.search(r"blocks[._]1[01][._]", name)]
    assert any(re.search(r"blocks_11_", name) for name in lora_names(12))


def test_another_width_is_named():
    names, weights = (
        lora_names(1),
        {"blocks.0.q.weight": (64, 32), "patch_embed.proj.weight": (8, 2, 2, 2)},
    )
    names = {name: weight for name, weight in names.items() if weight in weights}
    stem = "transformer.transformer_blocks.0.attn1.to_q"
    fits = {f"{stem}.lora_A.weight": (4, 32), f"{stem}.lora_B.weight": (64, 4)}
    conv = {"lora_unet_patch_embed_proj.lora_down.weight": (4, 2, 2, 2)}
    conv |= {"lora_unet_patch_embed_proj.lora_up.weight": (8, 4, 1, 1)}
    assert list(misfits(names, fits | conv, weights)) == []
    wide = {f"{stem}.lora_A.weight": (4, 48), f"{stem}.lora_B.weight": (96, 4)}
    assert list(misfits(names, wide, weights)) == [
        f"{stem} is for 48 to 96, the model has 32 to 64"
    ]
