"""The table of docs/training.md: its function against measured peaks, its figures against it."""

from __future__ import annotations

import sys

import pytest
import torch
from conftest import ROOT
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXTransformer3DModel

from fantasyid.cogvideox.positions import rotary_table
from fantasyid.injection.hooks import BlockHook
from fantasyid.injection.layers import (
    InjectedIdentity,
    InjectionConfig,
    LayerInjectors,
    LayerKeysValues,
)
from fantasyid.training.memory import Setting, estimate
from fantasyid.training.swapping import keep_on_host


def build(blocks: int, heads: int, text: int):
    """A frozen base with an injector behind every block, and a function of one step."""
    base = CogVideoXTransformer3DModel(
        num_attention_heads=heads, attention_head_dim=64, in_channels=32, out_channels=16,
        time_embed_dim=64, text_embed_dim=32, num_layers=blocks, max_text_seq_length=text,
        use_rotary_positional_embeddings=True,
    )  # fmt: skip
    base.requires_grad_(False)
    base.enable_gradient_checkpointing()
    base.train()
    config = InjectionConfig(blocks, heads * 64, max(1, heads // 3) * 128)
    keys_values, injectors = LayerKeysValues(config), LayerInjectors(config)
    # Stored, so that a second step has a graph of its own.
    pairs = [
        (k.detach(), v.detach()) for k, v in keys_values(torch.randn(1, 115, config.context_dim))
    ]
    for block, layer, pair in zip(
        base.transformer_blocks, injectors.in_order(), pairs, strict=True
    ):
        torch.nn.init.normal_(layer.to_out.weight, 0.0, 0.02)
        hook = BlockHook()
        hook.add(layer, InjectedIdentity(*pair))
        block.register_forward_hook(hook)
    return base, injectors


def step(base, frames: int, rows: int, columns: int, text: int) -> None:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, frames, 32, 2 * rows, 2 * columns, generator=generator)
    words = torch.randn(1, text, 32, generator=generator)
    positions = rotary_table(frames, rows, columns, 64)
    base(latents, words, torch.tensor([500]), image_rotary_emb=positions, return_dict=False)[
        0
    ].square().mean().backward()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("blocks", "heads", "size", "text"),
    [(4, 6, (4, 8, 12), 64), (6, 12, (2, 12, 16), 226), (8, 6, (2, 16, 16), 226)],
)
def test_the_estimate_is_within_ten_percent_of_the_peak(blocks, heads, size, text):
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from meters import activation_peak
    finally:
        sys.path.pop(0)
    base, _injectors = build(blocks, heads, text)
    frames, rows, columns = size
    peak = activation_peak(lambda: step(base, frames, rows, columns, text), torch.device("cpu"))
    setting = Setting(
        frames=4 * (frames - 1) + 1, height=16 * rows, width=16 * columns, dim=64 * heads,
        blocks=blocks, text_tokens=text, activation_bytes=4,
        context_dim=heads // 3 * 128,
    )  # fmt: skip
    assert peak == pytest.approx(estimate(setting).activations, rel=0.1)


def test_the_table_of_the_guide_is_what_the_function_says():
    guide = (ROOT / "docs" / "training.md").read_text("utf-8")
    settings = {
        "16 x 80 GB, each a whole copy": Setting(devices=16),
        "8 x 24 GB, FSDP": Setting(devices=8, sharded=True),
        "1 x 80 GB": Setting(),
        "1 x 24 GB": Setting(base_bytes=1, adam_bytes=2, trained_bytes=2, average_bytes=0),
        "1 x 16 GB": Setting(
            base_bytes=1, adam_bytes=2, trained_bytes=2, average_bytes=0, swapped=40 / 42
        ),
    }
    for name, setting in settings.items():
        need = estimate(setting)
        states = need.trained + need.gradients + need.optimizer + need.average
        row = f"| {name} | {need.base / 1e9:.1f} | {states / 1e9:.1f} | "
        row += f"{need.activations / 1e9:.1f} | {need.total / 1e9:.1f} |"
        assert row in guide, row


def test_swapped_blocks_give_the_same_gradients():
    torch.manual_seed(0)
    base, injectors = build(4, 2, 8)
    step(base, 2, 2, 3, 8)
    expected = [p.grad.clone() for p in injectors.parameters() if p.grad is not None]
    injectors.zero_grad(set_to_none=True)
    blocks = list(base.transformer_blocks)
    keep_on_host(blocks[1:], torch.device("cpu"))
    step(base, 2, 2, 3, 8)
    got = [p.grad for p in injectors.parameters() if p.grad is not None]
    assert len(got) == len(expected) > 0
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    with pytest.raises(ValueError, match="only a frozen base can be swapped"):
        keep_on_host([torch.nn.Linear(1, 1)], torch.device("cpu"))
