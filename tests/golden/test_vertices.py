"""From the photo to the 79 vertex tokens: DECA, FLAME, mesh tables, fusion, reducer."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fantasyid.fusion.transformer import FusionConfig, VertexFusion, depth_embedding
from fantasyid.geometry.deca import DecaConfig, DecaEncoder, deca_state_dict
from fantasyid.geometry.flame import Flame, FlameConfig, flame_state_dict
from fantasyid.geometry.topology import MeshTables, mesh_tables
from fantasyid.weights.safe_pickle import read_pickle

pytestmark = pytest.mark.slow

DECA_KEYS = Path(__file__).with_name("deca_E_flame.json")
SPIRAL_DIGESTS = {
    5023: "fa91383bf81db8db2a7421fecc9136798136f82c8883249ea266b4fbce5b3113",
    1256: "283e04e0e9f7534913a9fd411b289acedb8d560986c88f78d2617f506084e95a",
}


def shapes(state):
    return {k: tuple(v.shape) for k, v in state.items()}


@pytest.fixture(scope="module")
def tables(shared) -> MeshTables:
    return mesh_tables(read_pickle(shared / "data" / "transform.pkl"))


def test_mesh_tables(tables, shared, relative_error, fidelity):
    """Spirals are computed here from the triangles; the recorded ones are OpenMesh's."""
    for table in tables.spirals:
        digest = hashlib.sha256(table.numpy().astype("<u2").tobytes()).hexdigest()
        assert digest == SPIRAL_DIGESTS[len(table)]
    recorded = load_file(shared / "goldens" / "a_mesh_tables.safetensors")
    got = {
        "spirals of 5023 vertices": (tables.spirals[1], "spiral0"),
        "spirals of 1256 vertices": (tables.spirals[0], "spiral1"),
        "choice of 314 vertices": (tables.coarse_index, "coarse_index"),
    }
    for pool, level, size in zip(tables.pools, (1, 0), (1256, 5023), strict=True):
        got[f"pooling to {size}: sources"] = (pool.index, f"up{level}_index")
        got[f"pooling to {size}: weights"] = (pool.weight, f"up{level}_weight")
        assert pool.weight.sum(1).min() > 0.96
        assert pool.weight.sum(1).max() < 1.05
    assert tables.triangles.shape == (9976, 3)
    errors = {name: relative_error(table, recorded[key]) for name, (table, key) in got.items()}
    fidelity("mesh tables", "exact", errors)


def test_vertex_tokens(seeded, golden, tables, seeded_part, relative_error, fidelity, dtype):
    expected = golden("a_vertex")
    face_tokens = seeded.inp("face_tokens", (1, 36, 2048))
    vertices = seeded.inp("vertices", (1, 5023, 3), 0.08)
    torch.testing.assert_close(seeded.fingerprint(face_tokens), expected["fp:face_tokens"])
    torch.testing.assert_close(seeded.fingerprint(vertices), expected["fp:vertices"])
    state = seeded_part("fusion")
    fusion = VertexFusion(FusionConfig.from_shapes(shapes(state)))
    fusion.load_state_dict({k: v.to(dtype).float() for k, v in state.items()})
    fusion.reducer.to(dtype)
    face_tokens = face_tokens.to(dtype).float()  # the vertices are float32 in every dtype
    with torch.no_grad():
        coarse = vertices[:, tables.coarse_index]
        face = fusion.project_face(face_tokens)
        mixed = fusion.mix(fusion.queries(vertices, tables), face)
        middle, fine, last = fusion.upsample_stages(mixed[:, :314], tables)
        descriptors = fusion.describe(face_tokens, vertices, tables)
        without_face = fusion.describe(face_tokens[:, :0], vertices, tables)
        reduced = [descriptors.transpose(1, 2).to(dtype)]
        for block in fusion.reducer:
            reduced.append(block(reduced[-1]))
        if dtype is torch.float32:
            assert torch.equal(fusion(face_tokens, vertices, tables), reduced[4].transpose(1, 2)), (
                "the stages measured here are not those of forward"
            )
    got = {
        "314 vertices": (coarse, "coarse_vertices"),
        "depth embedding": (
            depth_embedding(coarse[..., 2], 128)[:, ::4],
            "depth_embedding_rows_0_4",
        ),
        "projected face tokens": (face, "hw_down_out"),
        "fusion transformer": (mixed[:, ::2], "transformer_out_rows_0_2"),
        "1256 vertices": (middle[:, ::8], "upsampler_1256_rows_0_8"),
        "5023 vertices, second spiral": (fine[:, ::32], "upsampler_5023_pre_rows_0_32"),
        "5023 vertices, third spiral": (last[:, ::32], "upsampler_out_rows_0_32"),
        "descriptors": (descriptors[:, ::32], "descriptor_rows_0_32"),
        "descriptors without a face": (
            without_face[:, ::32],
            "descriptor_no_face_rows_0_32",
        ),
        "reducer block 1": (reduced[1][..., :8], "reducer1_first8"),
        "reducer block 2": (reduced[2][..., :8], "reducer2_first8"),
        "reducer block 3": (reduced[3][..., :8], "reducer3_first8"),
        "vertex tokens": (reduced[4].transpose(1, 2)[:, ::2], "tokens_rows_0_2"),
    }
    errors = {name: relative_error(out, expected[key]) for name, (out, key) in got.items()}
    fidelity("vertices", dtype, errors)


def test_deca(seeded, golden, relative_error, fidelity, dtype):
    recorded = golden("h_deca_flame")
    images = seeded.inp("deca_image", (1, 3, 224, 224), 0.25, 0.5).clamp(0, 1)
    torch.testing.assert_close(seeded.fingerprint(images), recorded["fp:deca_image"])
    released = json.loads(DECA_KEYS.read_text("utf-8"))["keys"]
    weights = {k: seeded.weight(f"E_flame.{k}", torch.zeros(s)) for k, s in released.items()}
    state = deca_state_dict({"E_flame": weights})
    encoder = DecaEncoder(DecaConfig.from_shapes(shapes(state)))
    assert len(encoder.state_dict()) == 322
    encoder.load_state_dict(state)
    encoder, images = encoder.to(dtype).float().eval(), images.to(dtype).float()
    with torch.no_grad():
        layers = encoder.encoder.stages(images)
        got = {
            "layer 1": (layers[0][:, :8, :4, :4], "layer1_corner"),
            "layer 4": (layers[3].mean(dim=(2, 3)), "layer4_mean"),
            "features": (encoder.encoder(images), "features_2048"),
            "code": (encoder(images), "code"),
        }
    errors = {name: relative_error(out, recorded[key]) for name, (out, key) in got.items()}
    fidelity("deca", dtype, errors)


def test_flame(seeded, golden, relative_error, fidelity, dtype):
    recorded = golden("h_deca_flame")
    state = flame_state_dict(seeded.synthetic_flame())
    flame = Flame(FlameConfig.from_shapes(shapes(state)))
    flame.load_state_dict(state)
    flame.to(dtype)
    betas, expression, pose = (
        recorded[f"flame_{name}"].to(dtype) for name in ("shape", "exp", "pose")
    )
    rest, calm = torch.zeros_like(pose), torch.zeros_like(expression)
    upright = torch.cat([rest[:, :3], pose[:, 3:]], dim=1)
    cases = {
        "pose and expression": ("full", expression, pose),
        "without pose": ("no_pose", expression, rest),
        "without expression": ("no_exp", calm, pose),
        "without both": ("neutral", calm, rest),
        "without head rotation": ("no_global_rot", expression, upright),
    }
    errors = {
        name: relative_error(flame(betas, exp, turn), recorded[f"flame_verts_{key}"])
        for name, (key, exp, turn) in cases.items()
    }
    fidelity("flame", dtype, errors)
