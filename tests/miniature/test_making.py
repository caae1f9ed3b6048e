"""How the mini model is made: exact rewrites, exact scaling, an ONNX file that says the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fantasyid.face.recognizer import arcface_input, open_recognizer
from fantasyid.weights.released import read_released
from fantasyid.weights.third_party import read_flame, read_mesh_tables
from miniature.motion import SHAPE_FIELDS
from miniature.studio import FaceNetwork, write_onnx
from miniature.world.people import JAW, WIDTH

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def vae(host):
    """A VAE as it is before its training, whose latents have odd spreads."""
    assert host
    from miniature import autoencoder

    torch.manual_seed(0)
    model = autoencoder.build()
    return model


def film() -> torch.Tensor:
    return torch.rand(1, 3, 9, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_what_makes_training_cheap_changes_no_number(vae):
    from miniature.autoencoder import cheap_to_train

    plain = vae.decode(vae.encode(film()))
    with cheap_to_train():
        cheap = vae.decode(vae.encode(film()))
    torch.testing.assert_close(cheap, plain, rtol=1e-4, atol=1e-5)
    assert torch.equal(vae.decode(vae.encode(film())), plain), "the host's class is not as before"


def test_scaled_latents_have_the_wanted_spread_and_the_same_pictures(vae):
    from miniature.autoencoder import SCALE, build
    from miniature.parts import scaled_vae

    latent = vae.encode(film())
    spread = 0.3 + torch.rand(16, generator=torch.Generator().manual_seed(2))
    scaled = build()
    scaled.load_state_dict(scaled_vae(vae.state_dict(), spread))
    torch.testing.assert_close(
        scaled.encode(film()) * SCALE * spread[:, None, None, None], latent, rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        scaled.decode(scaled.encode(film())), vae.decode(latent), rtol=1e-3, atol=1e-4
    )


def test_a_head_of_few_directions_is_read_as_the_whole_one(tmp_path):
    from miniature.checkpoints import flame_file
    from miniature.head import build_head
    from miniature.shipping import head_of

    (tmp_path / "flame.pkl").write_bytes(flame_file(build_head()))
    whole = read_flame(tmp_path / "flame.pkl")
    small = head_of(whole)
    save_file({n: t.contiguous() for n, t in small.items()}, tmp_path / "head.safetensors")
    read = read_flame(tmp_path / "head.safetensors")
    kept = small["shapedirs.columns"]
    torch.testing.assert_close(read["shapedirs"][..., kept], whole["shapedirs"][..., kept])
    assert read["shapedirs"].shape == whole["shapedirs"].shape
    assert float(read["shapedirs"].abs().sum()) == pytest.approx(
        float(read["shapedirs"][..., kept].abs().sum())
    )
    assert not read["posedirs"].any()
    for name in ("v_template", "weights", "J_regressor", "triangles"):
        assert torch.equal(read[name], whole[name])


def test_of_a_head_the_released_network_sees_depth_alone():
    """A finding about the method: a wider head or jaw gives the same tokens, a nose does not."""
    folder = ROOT / "models" / "miniature"
    part = read_released(folder / "fantasyid.safetensors").adapter_modules()[1]
    fusion: Any = part.build(device=None, dtype=None, operations=torch.nn)
    fusion.load_state_dict({name: tensor.float() for name, tensor in part.weights.items()})
    mesh = read_mesh_tables(folder / "mesh.safetensors")
    head = read_flame(folder / "head.safetensors")
    looks = torch.randn(1, 36, fusion.config.face_widths[0])

    def tokens(direction: int | None) -> torch.Tensor:
        vertices = head["v_template"].clone()
        if direction is not None:
            vertices += 5.0 * head["shapedirs"][..., direction]
        with torch.no_grad():
            return fusion(looks, vertices[None], mesh)

    plain, names = tokens(None), [name for name, _ in SHAPE_FIELDS]
    for unseen in (WIDTH, JAW):
        assert torch.equal(tokens(unseen), plain)
    assert not torch.equal(tokens(names.index("length of the nose")), plain)


@pytest.mark.parametrize("columns", [[0, 1], [0, 1, 400], [0, 1, -1], [0.0, 1.0, 2.0]])
def test_columns_that_do_not_number_a_table_are_refused(tmp_path, columns):
    tables = {"shapedirs": torch.zeros(5023, 3, 3), "shapedirs.columns": torch.tensor(columns)}
    save_file(tables, tmp_path / "head.safetensors")
    with pytest.raises(ValueError, match=r"head\.safetensors.*shapedirs\.columns"):
        read_flame(tmp_path / "head.safetensors")


def test_the_onnx_file_says_what_the_network_says(tmp_path):
    pytest.importorskip("onnx")
    torch.manual_seed(0)
    network = FaceNetwork()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics that are not those of birth
            assert module.running_mean is not None
            assert module.running_var is not None
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    network.eval()
    write_onnx(network, tmp_path / "recognizer.onnx")
    photo = torch.rand(112, 112, 3)
    points = [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655],
              [70.7299, 92.2041]]  # fmt: skip
    told = open_recognizer(tmp_path / "recognizer.onnx").embed(photo, points)
    with torch.no_grad():
        wanted = network(torch.from_numpy(arcface_input(photo, points)))[0].numpy()
    np.testing.assert_allclose(told, wanted / np.linalg.norm(wanted), atol=1e-3)
