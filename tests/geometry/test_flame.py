"""FLAME against a loop over vertices, and what a head must do (golden tests: tests/golden)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import csc_matrix
from scipy.spatial.transform import Rotation

from fantasyid.geometry.flame import Flame, FlameConfig, flame_state_dict
from fantasyid.geometry.rotations import rotation_matrix

NUM_VERTICES = 40


def small_model() -> dict:
    rng = np.random.default_rng(8)
    regressor = rng.random((5, NUM_VERTICES)) * (rng.random((5, NUM_VERTICES)) < 0.3)
    regressor[:, 0] += 0.1
    regressor /= regressor.sum(1, keepdims=True)
    weights = rng.random((NUM_VERTICES, 5))
    return {
        "f": rng.integers(0, NUM_VERTICES, (11, 3)).astype(np.uint32),
        "v_template": rng.standard_normal((NUM_VERTICES, 3)) * 0.1,
        "shapedirs": rng.standard_normal((NUM_VERTICES, 3, 400)) * 0.01,
        "posedirs": rng.standard_normal((NUM_VERTICES, 3, 36)) * 0.01,
        "J_regressor": csc_matrix(regressor),
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": np.array([[4294967295, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.uint32),
    }


def load(model: dict) -> Flame:
    state = flame_state_dict(model)
    flame = Flame(FlameConfig.from_shapes({k: tuple(v.shape) for k, v in state.items()}))
    flame.load_state_dict(state)
    return flame


@pytest.fixture(scope="module")
def flame() -> Flame:
    return load(small_model())


@pytest.fixture(scope="module")
def coefficients() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)

    def normal(size: int, scale: float) -> torch.Tensor:
        return torch.randn(2, size, generator=generator) * scale

    return normal(100, 1.0), normal(50, 1.0), normal(6, 0.4)


def vertices_by_hand(model: dict, betas, expression, pose) -> np.ndarray:
    """Li et al. 2017, vertex by vertex in float64."""
    directions = model["shapedirs"]
    shaped = model["v_template"] + directions[:, :, :100] @ betas
    shaped = shaped + directions[:, :, 300:350] @ expression
    joints = model["J_regressor"].toarray() @ shaped
    turned = [pose[:3], np.zeros(3), pose[3:], np.zeros(3), np.zeros(3)]
    local = [Rotation.from_rotvec(r).as_matrix() for r in turned]
    feature = np.concatenate([(r - np.eye(3)).ravel() for r in local[1:]])
    maps = []
    for joint, parent in enumerate([-1, 0, 1, 1, 1]):
        step = np.eye(4)
        step[:3, :3] = local[joint]
        step[:3, 3] = joints[joint] - (joints[parent] if parent >= 0 else 0)
        maps.append(step if parent < 0 else maps[parent] @ step)
    out = np.zeros_like(shaped)
    for v, rest in enumerate(shaped):
        moved = rest + model["posedirs"][v] @ feature
        for joint, transform in enumerate(maps):
            at_joint = np.append(moved - joints[joint], 1.0)
            out[v] += model["weights"][v, joint] * (transform @ at_joint)[:3]
    return out


def test_it_equals_the_plain_loop(flame, coefficients, relative_error):
    got = flame(*coefficients)
    for item in range(2):
        betas, expression, pose = (c[item].double().numpy() for c in coefficients)
        expected = torch.from_numpy(vertices_by_hand(small_model(), betas, expression, pose))
        assert relative_error(got[item], expected) < 1e-6


def test_at_rest_it_is_the_template_with_its_blend_shapes(flame, coefficients):
    betas, expression, pose = coefficients
    rest = torch.zeros_like(pose)
    template = flame(torch.zeros_like(betas), torch.zeros_like(expression), rest)
    torch.testing.assert_close(template[0], flame.v_template, rtol=1e-5, atol=1e-6)
    shaped = flame(betas, expression, rest)
    torch.testing.assert_close(shaped, flame.shape(betas, expression), rtol=1e-5, atol=1e-6)


def test_turning_the_root_turns_the_head_about_its_joint(flame, coefficients):
    betas, expression, pose = coefficients
    upright = torch.cat([torch.zeros(2, 3), pose[:, 3:]], dim=1)
    root = torch.einsum("v,bvc->bc", flame.J_regressor[0], flame.shape(betas, expression))
    centered = flame(betas, expression, upright) - root[:, None]
    expected = torch.einsum("brc,bvc->bvr", rotation_matrix(pose[:, :3]), centered)
    got = flame(betas, expression, pose) - root[:, None]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_every_coefficient_moves_vertices_and_no_other_column_does(coefficients):
    model = small_model()
    flame = load(model)
    inputs = [c.clone().requires_grad_() for c in coefficients]
    gradients = torch.autograd.grad(flame(*inputs).square().sum(), inputs)
    assert all((gradient != 0).all() for gradient in gradients)
    reference = flame(*coefficients)
    model["shapedirs"] = model["shapedirs"].copy()
    model["shapedirs"][:, :, 100:300] = 7
    model["shapedirs"][:, :, 350:] = 7
    assert torch.equal(load(model)(*coefficients), reference)


def test_items_of_a_batch_do_not_meet_and_inputs_stay(flame, coefficients):
    kept = [c.clone() for c in coefficients]
    together = flame(*coefficients)
    alone = torch.cat([flame(*(c[i : i + 1] for c in coefficients)) for i in (0, 1)])
    torch.testing.assert_close(together, alone)
    assert all(torch.equal(a, b) for a, b in zip(kept, coefficients, strict=True))


def test_it_can_be_made_on_meta_and_filled_later():
    state = flame_state_dict(small_model())
    config = FlameConfig.from_shapes({k: tuple(v.shape) for k, v in state.items()})
    flame = Flame(config, device="meta", dtype=torch.float32)
    flame.load_state_dict(state, assign=True)
    assert not list(flame.parameters()), "FLAME is a table, nothing in it is learned"
    assert flame.to(torch.float16).triangles.dtype == torch.int64


def test_bad_files_are_named():
    model = small_model()

    def refuse(match: str, **changes) -> None:
        with pytest.raises(ValueError, match=match):
            flame_state_dict(model | changes)

    with pytest.raises(ValueError, match=r"no entry 'f'; the file has \['J_regressor'"):
        flame_state_dict({k: v for k, v in model.items() if k != "f"})
    refuse(r"shapedirs has shape \(40, 3, 150\)", shapedirs=model["shapedirs"][..., :150])
    refuse(r"weights has shape \(39, 5\), expected \(40, 5\)", weights=model["weights"][1:])
    refuse(r"v_template has shape \(40, 2\)", v_template=model["v_template"][:, :2])
    refuse("posedirs is no array but a list", posedirs=[1, 2])
    refuse("f holds float64", f=model["f"].astype(np.float64))
    refuse("f names vertices outside 0..39", f=model["f"] + np.uint32(40))
    refuse("v_template has values that are not finite", v_template=model["v_template"] * np.nan)
    other = model["kintree_table"].copy()
    other[0, 3] = 2
    refuse(r"parents \[0, 1, 2, 1\], expected \[0, 1, 1, 1\]", kintree_table=other)


def test_wrong_inputs_are_named(flame, coefficients):
    betas, expression, pose = coefficients
    with pytest.raises(ValueError, match=r"betas has the shape \(2, 99\), expected \(2, 100\)"):
        flame(betas[:, 1:], expression, pose)
    with pytest.raises(ValueError, match=r"expression has the shape \(1, 50\)"):
        flame(betas, expression[:1], pose)
    with pytest.raises(ValueError, match=r"pose has the shape \(2, 3\), expected \(2, 6\)"):
        flame(betas, expression, pose[:, :3])
