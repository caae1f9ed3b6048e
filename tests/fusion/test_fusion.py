"""The fusion transformer: what its inputs do (golden tests: tests/golden)."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from fusion.meshes import SMALL_FUSION, small_tables

from fantasyid.fusion.reducer import ReducerConfig
from fantasyid.fusion.transformer import FusionConfig, VertexFusion, depth_embedding
from fantasyid.geometry.spiral import gather_spirals
from fantasyid.geometry.topology import MeshTables, pool_vertices

RELEASED = FusionConfig(
    dim=128,
    num_heads=4,
    mlp_dim=256,
    num_layers=6,
    num_queries=314,
    spiral_length=9,
    face_widths=(2048, 1024, 512, 256, 128),
    reducer=ReducerConfig(widths=(128, 256, 512, 1024, 2048), kernels=(5, 5, 3, 3)),
)


@pytest.fixture(scope="module")
def small_fusion() -> VertexFusion:
    torch.manual_seed(5)
    return VertexFusion(SMALL_FUSION)


@pytest.fixture(scope="module")
def small_inputs() -> tuple[torch.Tensor, torch.Tensor, MeshTables]:
    generator = torch.Generator().manual_seed(9)
    tables = small_tables()
    face_tokens = torch.randn(2, 5, 64, generator=generator)
    vertices = torch.randn(2, tables.num_vertices, 3, generator=generator) * 0.1
    return face_tokens, vertices, tables


def test_the_config_is_read_back_from_the_shapes():
    for config in (RELEASED, SMALL_FUSION):
        shapes = {
            k: tuple(v.shape) for k, v in VertexFusion(config, device="meta").state_dict().items()
        }
        assert FusionConfig.from_shapes(shapes) == config


def test_a_contradictory_state_dict_is_refused_by_name():
    shapes = {
        k: tuple(v.shape) for k, v in VertexFusion(SMALL_FUSION, device="meta").state_dict().items()
    }
    with pytest.raises(ValueError, match=r"vertex_queries is missing"):
        FusionConfig.from_shapes({k: v for k, v in shapes.items() if k != "vertex_queries"})
    with pytest.raises(ValueError, match=r"reducer\.0\.conv_in\.weight is missing"):
        FusionConfig.from_shapes({k: v for k, v in shapes.items() if not k.startswith("reducer")})
    with pytest.raises(
        ValueError, match=r"reducer\.1\.conv_in\.weight has shape .* \(any, 40, any\)"
    ):
        FusionConfig.from_shapes({**shapes, "reducer.1.conv_in.weight": (48, 24, 3)})
    with pytest.raises(ValueError, match=r"reducer has width 16"):
        FusionConfig.from_shapes({**shapes, "reducer.0.conv_in.weight": (40, 16, 5)})
    with pytest.raises(ValueError, match=r"face_projection\.1\.fc1\.weight has shape"):
        FusionConfig.from_shapes({**shapes, "face_projection.1.fc1.weight": (40, 41)})
    with pytest.raises(ValueError, match="multiple of 96"):
        FusionConfig.from_shapes({**shapes, "blocks.0.to_qkv.weight": (100, 32)})
    with pytest.raises(ValueError, match=r"vertex_queries has shape \(12, 32\)"):
        FusionConfig.from_shapes({**shapes, "vertex_queries": (12, 32)})


def test_only_the_depth_of_the_coarse_vertices_enters(small_fusion, small_inputs):
    face_tokens, vertices, tables = small_inputs
    with torch.no_grad():
        reference = small_fusion.describe(face_tokens, vertices, tables)
        elsewhere = torch.randn_like(vertices)
        elsewhere[:, tables.coarse_index, 2] = vertices[:, tables.coarse_index, 2]
        assert torch.equal(small_fusion.describe(face_tokens, elsewhere, tables), reference)
        deeper = vertices.clone()
        deeper[:, tables.coarse_index[7], 2] += 0.01
        assert not torch.equal(small_fusion.describe(face_tokens, deeper, tables), reference)


def test_every_parameter_and_input_is_alive(small_fusion, small_inputs):
    face_tokens, vertices, tables = small_inputs
    face_tokens = face_tokens.clone().requires_grad_()
    vertices = vertices.clone().requires_grad_()
    parameters = dict(small_fusion.named_parameters())
    tokens = small_fusion(face_tokens, vertices, tables)
    leaves = [*parameters.values(), face_tokens, vertices]
    gradients = torch.autograd.grad(tokens.square().sum(), leaves)
    names = [*parameters, "face_tokens", "vertices"]
    dead = [n for n, g in zip(names, gradients, strict=True) if not g.abs().sum() > 0]
    assert dead == []
    reached = gradients[-1].abs().sum(0).nonzero()
    assert set(reached[:, 1].tolist()) == {2}
    assert set(reached[:, 0].tolist()) == set(tables.coarse_index.tolist())


def test_items_of_a_batch_do_not_meet_and_nothing_is_changed(small_fusion, small_inputs):
    face_tokens, vertices, tables = small_inputs
    kept = face_tokens.clone(), vertices.clone()
    with torch.no_grad():
        together = small_fusion(face_tokens, vertices, tables)
        alone = [small_fusion(face_tokens[i : i + 1], vertices[i : i + 1], tables) for i in (0, 1)]
        again = small_fusion(face_tokens, vertices, tables)
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)
    assert torch.equal(together, again)
    assert torch.equal(face_tokens, kept[0])
    assert torch.equal(vertices, kept[1])


def test_face_tokens_may_come_in_any_order(small_fusion, small_inputs):
    face_tokens, vertices, tables = small_inputs
    with torch.no_grad():
        ordered = small_fusion(face_tokens, vertices, tables)
        shuffled = small_fusion(face_tokens[:, [3, 0, 4, 1, 2]], vertices, tables)
    torch.testing.assert_close(shuffled, ordered, rtol=1e-4, atol=1e-5)


def test_it_runs_in_the_dtype_of_the_face_tokens(small_inputs):
    face_tokens, vertices, tables = small_inputs
    torch.manual_seed(5)
    fusion = VertexFusion(SMALL_FUSION)
    with torch.no_grad():
        exact = fusion(face_tokens, vertices, tables)
        rough = fusion.to(torch.bfloat16)(face_tokens.bfloat16(), vertices, tables)
        assert fusion.queries(vertices.bfloat16(), tables).dtype == torch.float32
    assert rough.dtype == torch.bfloat16
    difference = torch.linalg.vector_norm(rough.float() - exact) / torch.linalg.vector_norm(exact)
    assert 1e-5 < difference < 0.1


def test_wrong_shapes_are_named(small_fusion, small_inputs):
    face_tokens, vertices, tables = small_inputs
    with pytest.raises(ValueError, match=r"vertices has shape \(2, 81, 3\), expected \(2, 82, 3\)"):
        small_fusion(face_tokens, vertices[:, 1:], tables)
    with pytest.raises(ValueError, match=r"face_tokens has shape \(2, 5, 63\)"):
        small_fusion(face_tokens[..., 1:], vertices, tables)
    with pytest.raises(ValueError, match=r"vertices has shape \(1, 82, 3\)"):
        small_fusion(face_tokens, vertices[:1], tables)
    fewer = MeshTables(tables.coarse_index[1:], tables.pools, tables.spirals, tables.triangles)
    with pytest.raises(ValueError, match=r"coarse_index has shape \(11,\), expected \(12\)"):
        small_fusion(face_tokens, vertices, fewer)


def test_depth_embedding_follows_its_formula():
    depth_m = torch.tensor([[-0.16, 0.0, 0.13]])
    got = depth_embedding(depth_m, 8)
    for v, k in itertools.product(range(3), range(4)):
        angle = 2 * math.pi * (0.5 * float(depth_m[0, v]) + 0.5) / 10000 ** (2 * k / 8)
        assert float(got[0, v, 2 * k]) == pytest.approx(math.sin(angle), abs=1e-6)
        assert float(got[0, v, 2 * k + 1]) == pytest.approx(math.cos(angle), abs=1e-6)
    with pytest.raises(ValueError, match="even number of channels, got 7"):
        depth_embedding(depth_m, 7)


def test_pooling_and_gathering_equal_plain_loops():
    tables = small_tables()
    features = torch.randn(2, 12, 5, generator=torch.Generator().manual_seed(1))
    pool = tables.pools[0]
    pooled = pool_vertices(features, pool)
    for b, v in itertools.product(range(2), range(pool.index.shape[0])):
        taps = zip(pool.index[v].tolist(), pool.weight[v].tolist(), strict=True)
        expected = sum(features[b, i] * w for i, w in taps)
        torch.testing.assert_close(pooled[b, v], expected)
    gathered = gather_spirals(pooled, tables.spirals[0])
    for v in range(pool.index.shape[0]):
        assert torch.equal(gathered[1, v], torch.cat([pooled[1, i] for i in tables.spirals[0][v]]))


def test_the_last_spiral_convolution_is_linear_and_those_before_it_are_not(
    small_fusion, small_inputs
):
    """As released: ELU after the first two, nothing after the last (golden with licensed data)."""
    coarse = torch.randn(2, 12, 32, generator=torch.Generator().manual_seed(2))
    tables = small_inputs[2]
    with torch.no_grad():
        middle, fine, last = small_fusion.upsample_stages(30 * coarse, tables)
        plain = small_fusion.upsample[2](gather_spirals(fine, tables.spirals[1]))
    assert torch.equal(last, plain)
    assert middle.min() >= -1.0
    assert fine.min() >= -1.0
    assert last.min() < -1.0, "too small to tell: take larger inputs"


def test_a_reducer_block_ends_with_the_sum():
    """Its side branch goes around the activation, which lets nothing below -0.31 through."""
    torch.manual_seed(6)
    block: Any = VertexFusion(SMALL_FUSION).reducer[0]
    sequence = 10 * torch.randn(1, 32, 40)
    with torch.no_grad():
        rest = block(sequence) - block.residual(sequence)
    assert block(sequence).min() < -1.0
    assert -0.31 < rest.min() < 0.0 < rest.max()
