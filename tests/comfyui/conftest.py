"""The stages of the tiny model on the real host, each run once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from compatibility import Measured
from host_graph import align, conditioning, make_identity


@pytest.fixture(scope="session")
def compatible() -> Iterator[Callable[..., None]]:
    """`compatible("EasyCache", "3 of 8 steps")`, last in a test, for docs/compatibility.md."""
    measured = Measured()
    yield measured.note
    measured.save()


@pytest.fixture(scope="session")
def photo_image():
    skimage_data = pytest.importorskip("skimage.data", reason="scikit-image is absent")
    return torch.from_numpy(skimage_data.astronaut()).float()[None] / 255


@pytest.fixture(scope="session")
def loaded(host):
    model, adapter = host.run(
        "FantasyIDModelLoader",
        model="tiny-fantasyid",
        mesh_transforms="tiny_transform.pkl",
        weight_dtype="default",
    )
    (encoder,) = host.run(
        "FantasyIDFaceEncoderLoader", face_encoder="tiny_EVA02_CLIP_L_336_psz14_s6B.pt"
    )
    (deca,) = host.run(
        "FantasyIDDecaLoader", deca="tiny_deca_model.tar", flame="tiny_generic_model.pkl"
    )
    (clip,) = host.run("CLIPLoader", clip_name="tiny_t5xxl.safetensors", type="cogvideox")
    (vae,) = host.run("VAELoader", vae_name="tiny_cogvideox_vae.safetensors")
    return {
        "model": model,
        "adapter": adapter,
        "encoder": encoder,
        "deca": deca,
        "clip": clip,
        "vae": vae,
    }


@pytest.fixture(scope="session")
def aligned(host, photo_image):
    return align(host, photo_image)


@pytest.fixture(scope="session")
def identity(host, loaded, aligned):
    return make_identity(host, loaded, aligned[0])


@pytest.fixture(scope="session")
def conditioned(host, loaded, aligned):
    return conditioning(host, loaded, aligned[0])
