"""How the mini model is made: exact rewrites, exact scaling, an ONNX file that says the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fantasyid.face.recognizer import open_recognizer
from miniature.studio import FaceNetwork, write_onnx

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
    from fantasyid.face.recognizer import arcface_input

    with torch.no_grad():
        wanted = network(torch.from_numpy(arcface_input(photo, points)))[0].numpy()
    np.testing.assert_allclose(told, wanted / np.linalg.norm(wanted), atol=1e-4)
