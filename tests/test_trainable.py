"""Every module of paper sections 3.2 to 3.5 can be trained from scratch."""

from __future__ import annotations

import pytest
import torch
from fusion.meshes import SMALL_FUSION, small_tables
from torch import nn

from fantasyid.face.abstractor import AbstractorConfig, FaceAbstractor
from fantasyid.face.eva_clip import EvaVisionTransformer
from fantasyid.face.eva_keys import EvaConfig
from fantasyid.fusion.transformer import VertexFusion
from fantasyid.injection.layers import (
    InjectedIdentity,
    InjectionConfig,
    LayerInjectors,
    LayerKeysValues,
)

INJECTION = InjectionConfig(num_injectors=2, dim=48, context_dim=256)
ABSTRACTOR = AbstractorConfig(
    dim=64, hidden=32, squeeze_first=32, squeeze=8, ff_dim=256, out_dim=128
)


class Injection(nn.Module):
    """Both halves of the injectors, on one block's hidden states."""

    def __init__(self, **made) -> None:
        super().__init__()
        self.keys_values = LayerKeysValues(INJECTION, **made)
        self.injectors = LayerInjectors(INJECTION, **made)

    def forward(self, hidden_states, tokens):
        for layer, pair in zip(self.injectors.in_order(), self.keys_values(tokens), strict=True):
            hidden_states = hidden_states + layer(hidden_states, [InjectedIdentity(*pair)])
        return hidden_states


def abstract() -> tuple[nn.Module, tuple]:
    return FaceAbstractor(ABSTRACTOR, operations=nn), (torch.randn(2, 577, 64),)


def see() -> tuple[nn.Module, tuple]:
    tower = EvaVisionTransformer(EvaConfig(dim=64, depth=6, mlp_dim=32), operations=nn)
    return tower, (torch.randn(1, 3, 336, 336),)


def fuse() -> tuple[nn.Module, tuple]:
    tables = small_tables()
    inputs = torch.randn(2, 5, 64), torch.randn(2, tables.num_vertices, 3) * 0.1, tables
    return VertexFusion(SMALL_FUSION, operations=nn), inputs


def inject() -> tuple[nn.Module, tuple]:
    return Injection(operations=nn), (torch.randn(2, 5, 48), torch.randn(1, 7, 256))


@pytest.mark.parametrize("build", [abstract, see, fuse, inject])
def test_a_fresh_module_is_finite_and_every_parameter_learns(build):
    """The first step frees what stands before a projection that starts at zero."""
    torch.manual_seed(3)
    module, inputs = build()
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        output = module(*inputs)
        assert torch.isfinite(output).all()
        (output * torch.linspace(0.5, 2.0, output[0].numel()).view_as(output[0])).sum().backward()
        optimizer.step()
    dead = [
        name
        for name, parameter in module.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().max() > 0
    ]
    assert dead == []


@pytest.mark.parametrize("build", [abstract, see, fuse, inject])
def test_fresh_parameters_come_from_the_seed(build):
    def weights() -> dict[str, torch.Tensor]:
        torch.manual_seed(3)
        return build()[0].state_dict()

    first, second = weights(), weights()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
