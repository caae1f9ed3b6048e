"""Released behaviors that no test of a module holds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from host_graph import load_model
from PIL import Image

from fantasyid.weights.read import weight_files


def test_the_bin_file_wins_where_there_is_no_index(tmp_path):
    names = ["diffusion_pytorch_model.bin", "diffusion_pytorch_model.safetensors"]
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in weight_files(tmp_path)] == names[:1]


@pytest.mark.filterwarnings("default")
def test_the_crop_is_stretched_into_the_first_frame_and_the_rest_is_zero(host, monkeypatch):
    crop = torch.rand(1, 64, 64, 3, generator=torch.manual_seed(0)).mul(255).round() / 255
    (vae,) = host.run("VAELoader", vae_name="tiny_cogvideox_vae.safetensors")
    encoded, encode = [], vae.encode
    monkeypatch.setattr(vae, "encode", lambda pixels: encoded.append(pixels) or encode(pixels))
    text = [[torch.zeros(1, 226, 64), {}]]
    size = {"width": 96, "height": 64, "length": 9}
    prompts = {"positive": text, "negative": text}
    positive, negative, _ = host.run("FantasyIDFaceLatent", **prompts, vae=vae, face=crop, **size)
    picture = Image.fromarray((crop[0].numpy() * 255).round().astype(np.uint8))
    stretched = np.asarray(picture.resize((96, 64), Image.Resampling.LANCZOS))
    assert np.array_equal((encoded[0][0].numpy() * 255).round(), stretched)
    model, _ = load_model(host)
    for conditioning in (positive, negative):
        face = conditioning[0][1]["concat_latent_image"]
        channels = model.model.concat_cond(
            noise=torch.zeros(1, 16, 3, 8, 12),
            concat_latent_image=face,
            device=torch.device("cpu"),
        )
        torch.testing.assert_close(channels[:, :, :1], model.model.process_latent_in(face))
        assert face.abs().max() > 0
        assert channels[:, :, 1:].abs().max() == 0
