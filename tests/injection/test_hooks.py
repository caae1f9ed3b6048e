"""The hooks, on diffusers' blocks and on the host's: what is added, and where a gradient goes."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import nn

from fantasyid.injection.hooks import BlockHook, injected
from fantasyid.injection.layers import (
    InjectedIdentity,
    InjectionConfig,
    LayerInjectors,
    LayerKeysValues,
)

HEADS, BLOCKS, TEXT_DIM = 2, 4, 32
DIM = 64 * HEADS
CONFIG = InjectionConfig(num_injectors=2, dim=DIM, context_dim=256)


def identity_hooks(
    injectors: LayerInjectors, keys_values: Iterable[tuple[torch.Tensor, torch.Tensor]]
) -> list[BlockHook]:
    """The hooks of one identity at the released strength."""
    hooks = []
    for injector, pair in zip(injectors.in_order(), keys_values, strict=True):
        hooks.append(BlockHook())
        hooks[-1].add(injector, InjectedIdentity(*pair))
    return hooks


def diffusers_transformer() -> tuple[Any, nn.ModuleList]:
    diffusers = pytest.importorskip("diffusers", reason="diffusers is absent")
    transformer = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=HEADS,
        in_channels=32,
        time_embed_dim=64,
        text_embed_dim=TEXT_DIM,
        num_layers=BLOCKS,
        max_text_seq_length=5,
        use_rotary_positional_embeddings=True,
    )
    return transformer, transformer.transformer_blocks


def diffusers_velocity(transformer: nn.Module) -> torch.Tensor:
    inputs = torch.Generator().manual_seed(2)
    latents = torch.randn(2, 1, 32, 4, 6, generator=inputs)
    text = torch.randn(2, 5, TEXT_DIM, generator=inputs)
    return transformer(latents, text, torch.tensor([801, 801]), return_dict=False)[0]


def host_transformer() -> tuple[nn.Module, nn.ModuleList]:
    from comfy import ops
    from comfy.ldm.cogvideo.model import CogVideoXTransformer3DModel

    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=HEADS,
        in_channels=32,
        time_embed_dim=64,
        text_embed_dim=TEXT_DIM,
        num_layers=BLOCKS,
        use_rotary_positional_embeddings=True,
        dtype=torch.float32,
        device="cpu",
        operations=ops.manual_cast,
    )
    for parameter in transformer.parameters():
        nn.init.normal_(parameter, std=0.1)
    return transformer, transformer.blocks


def host_velocity(transformer: nn.Module) -> torch.Tensor:
    inputs = torch.Generator().manual_seed(2)
    latents = torch.randn(2, 32, 1, 4, 6, generator=inputs)
    text = torch.randn(2, 5, TEXT_DIM, generator=inputs)
    return transformer(latents, torch.tensor([801.0, 801.0]), text)


@pytest.fixture(scope="module", params=["diffusers", "host"])
def base(request):
    """A frozen narrow transformer, its blocks, and a function that gives its velocity."""
    if request.param == "host":
        request.getfixturevalue("host")
        make, velocity = host_transformer, host_velocity
    else:
        make, velocity = diffusers_transformer, diffusers_velocity
    torch.manual_seed(4)
    with torch.inference_mode(mode=False):
        transformer, blocks = make()
    transformer.requires_grad_(False)
    return transformer, blocks, lambda: velocity(transformer)


def injectors(fill: bool = True) -> tuple[LayerInjectors, LayerKeysValues, torch.Tensor]:
    """Injectors (past their first step of training where `fill`), and tokens of an identity."""
    torch.manual_seed(5)
    layers, keys_values = LayerInjectors(CONFIG), LayerKeysValues(CONFIG)
    if fill:
        for layer in layers.in_order():
            nn.init.normal_(layer.to_out.weight, std=0.1)
    return layers, keys_values, torch.randn(1, 7, CONFIG.context_dim)


class PlainSum(nn.Module):
    """A block, and after it the formula: Z + to_out(Attention(Q(Z), K, V))."""

    def __init__(self, block, injector, keys_values, tokens):
        super().__init__()
        self.block, self.injector, self.keys_values = block, injector, keys_values
        self.tokens = tokens

    def forward(self, *args, **kwargs):
        hidden, text = self.block(*args, **kwargs)
        layer, (keys, values) = self.injector, self.keys_values(self.tokens)
        query = layer.to_q(layer.norm_hidden(hidden))
        q, k, v = (x.unflatten(-1, (2, 128)).transpose(1, 2) for x in (query, keys, values))
        weights = (q @ k.transpose(-2, -1) / 128**0.5).softmax(-1)
        return hidden + layer.to_out((weights @ v).transpose(1, 2).flatten(-2)), text


def test_the_velocity_is_that_of_the_formula(base):
    transformer, blocks, velocity = base
    layers, keys_values, tokens = injectors()
    with torch.no_grad():
        bare = velocity()
        with injected(blocks, identity_hooks(layers, keys_values(tokens))):
            got = velocity()
        kept = list(blocks)
        try:
            for i, number in enumerate((0, 2)):
                parts = layers.injectors[i], keys_values.injectors[i]
                blocks[number] = PlainSum(kept[number], *parts, tokens)
            expected = velocity()
        finally:
            for number, block in enumerate(kept):
                blocks[number] = block
        assert torch.equal(velocity(), bare)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert (got - bare).norm() / bare.norm() > 1e-2
    assert not any(module._forward_hooks for module in transformer.modules())


def test_fresh_injectors_leave_the_model_as_it_is(base):
    """Training starts at the bare model, and the first step moves the output projections."""
    _, blocks, velocity = base
    layers, keys_values, tokens = injectors(fill=False)
    with injected(blocks, identity_hooks(layers, keys_values(tokens))):
        fresh = velocity()
        fresh.square().sum().backward()
    with torch.no_grad():
        assert torch.equal(fresh, velocity())
    moved = [layer.to_out.weight.grad for layer in layers.in_order()]
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in moved)


def test_a_gradient_reaches_every_parameter_and_the_tokens(base):
    _, blocks, velocity = base
    layers, keys_values, tokens = injectors()
    tokens.requires_grad_()
    with injected(blocks, identity_hooks(layers, keys_values(tokens))):
        velocity().square().sum().backward()
    leaves = [*layers.named_parameters(), *keys_values.named_parameters(), ("tokens", tokens)]
    dead = [name for name, leaf in leaves if leaf.grad is None or not leaf.grad.abs().max() > 0]
    assert dead == []


def test_gradients_with_checkpointing_are_the_same():
    transformer, blocks = diffusers_transformer()
    transformer.requires_grad_(False).train()
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            transformer.enable_gradient_checkpointing()
        layers, keys_values, tokens = injectors()
        with injected(blocks, identity_hooks(layers, keys_values(tokens))):
            diffusers_velocity(transformer).square().sum().backward()
        leaves = [*layers.parameters(), *keys_values.parameters()]
        gradients.append([leaf.grad for leaf in leaves])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_two_identities_and_another_adapter_add_up(base):
    _, blocks, velocity = base
    layers, keys_values, tokens = injectors()
    other = copy.deepcopy(layers)
    hooks = [BlockHook() for _ in range(CONFIG.num_injectors)]
    half = torch.tensor(0.5)
    for i, hook in enumerate(hooks):
        keys, values = keys_values(tokens)[i]
        for injector in (layers.in_order()[i], layers.in_order()[i], other.in_order()[i]):
            hook.add(injector, InjectedIdentity(keys, values, half))
        assert [len(identities) for _, identities in hook.groups] == [2, 1]
        hook.add(other.in_order()[i], InjectedIdentity(keys, values, -half))
    with torch.no_grad():
        with injected(blocks, hooks):
            got = velocity()
        with injected(blocks, identity_hooks(layers, keys_values(tokens))):
            expected = velocity()
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_hooks_are_gone_after_an_error(base):
    transformer, blocks, velocity = base
    layers, keys_values, tokens = injectors()
    batch_of_three = keys_values(tokens.expand(3, -1, -1))
    with (
        pytest.raises(ValueError, match="3 identities for a batch of 2"),
        injected(blocks, identity_hooks(layers, batch_of_three)),
    ):
        velocity()
    assert not any(module._forward_hooks for module in transformer.modules())


def test_blocks_that_return_something_else_are_named():
    layers, keys_values, tokens = injectors()
    blocks = nn.ModuleList(nn.Identity() for _ in range(2))
    with (
        pytest.raises(ValueError, match="a block of the transformer returned a Tensor"),
        injected(blocks, identity_hooks(layers, keys_values(tokens))),
    ):
        blocks[0](torch.zeros(1, 3, DIM))


def test_nothing_to_add_leaves_no_hook():
    blocks = nn.ModuleList(nn.Identity() for _ in range(4))
    with injected(blocks, [BlockHook(), BlockHook()]):
        assert not any(block._forward_hooks for block in blocks)


@torch.no_grad()
def test_a_rounded_residual_does_not_round_what_it_is_added_to():
    """As in a validation under autocast, where injectors give bfloat16 and blocks float32."""
    inputs = torch.Generator().manual_seed(3)
    injectors, tokens = LayerInjectors(CONFIG), torch.randn(1, 7, 256, generator=inputs)
    nn.init.normal_(injectors.in_order()[0].to_out.weight, std=0.1, generator=inputs)
    hook = identity_hooks(injectors, LayerKeysValues(CONFIG)(tokens))[0]
    video, text = (torch.randn(1, n, DIM, generator=inputs) for n in (12, 5))
    before = video.clone()
    with torch.autocast("cpu", torch.bfloat16):
        residual = hook.groups[0][0](video, hook.groups[0][1])
        added, unchanged = hook(nn.Identity(), (), (video, text))
    assert residual.dtype == torch.bfloat16
    assert torch.equal(added, before + residual)
    assert torch.equal(video, before)
    assert unchanged is text
