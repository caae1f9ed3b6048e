"""Several MODELs at once: two checkpoints, clones, other sizes, files between the stages."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from host_graph import align, apply, load_model, make_identity, sample, watched

from miniature.models import write_tiny_models

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def second(host, host_base, tmp_path_factory):
    """Another FantasyID model, with other weights: MODEL and adapter."""
    made = write_tiny_models(tmp_path_factory.mktemp("second"), seed=8)
    shutil.copytree(made.model, host_base / "models/fantasyid/second", dirs_exist_ok=True)
    return dict(zip(("model", "adapter"), load_model(host, "second"), strict=True))


def test_two_models_in_one_prompt(
    host, loaded, second, identity, conditioned, expected, photo_image, compatible
):
    """Each gives what it gives alone, whichever ran before and whatever is loaded."""
    import comfy.model_management as management

    parts = {**loaded, **second}
    person = make_identity(host, parts, align(host, photo_image)[0])
    management.unload_all_models()
    other = apply(host, parts, person)
    alone = sample(host, other, conditioned)
    management.unload_all_models()
    one = apply(host, loaded, identity)
    for _ in range(2):
        assert torch.equal(sample(host, one, conditioned), expected)
        assert torch.equal(sample(host, other, conditioned), alone)
    assert not torch.allclose(alone, expected, atol=1e-2)
    compatible("two models in one prompt", "the same bits as each alone")


def test_an_identity_of_another_model_is_refused(host, loaded, second, identity):
    with pytest.raises(ValueError, match="adapter"):
        apply(host, {**loaded, **second}, identity)


def test_clones(host, with_identity, loaded, identity, conditioned, expected, without, compatible):
    """A clone carries the identity; what is put on it does not reach the MODEL it came from."""
    clone = with_identity.clone().clone()
    assert torch.equal(sample(host, clone, conditioned), expected)
    twice = sample(host, apply(host, loaded, identity, model=clone), conditioned)
    assert not torch.allclose(twice, expected, atol=1e-4)
    assert torch.equal(sample(host, with_identity, conditioned), expected)
    assert torch.equal(sample(host, loaded["model"].clone(), conditioned), without)
    compatible("cloned MODELs", "the same bits, on the clone and on what it came from")


def test_a_second_pass_at_another_size(
    host, loaded, with_identity, conditioned, expected, compatible
):
    (larger,) = host.run(
        "LatentUpscaleBy",
        samples={"samples": expected},
        upscale_method="bilinear",
        scale_by=1.5,
    )
    assert larger["samples"].shape == (1, 16, 3, 12, 18)
    given = (*conditioned[:2], larger)
    faces = []

    def look(executor, x, t, c_concat, *args, **kwargs):
        faces.append(c_concat)
        return executor(x, t, c_concat, *args, **kwargs)

    on = sample(host, watched(with_identity, look), given, denoise=0.5)
    off = sample(host, loaded["model"], given, denoise=0.5)
    assert on.shape == larger["samples"].shape
    assert torch.isfinite(on).all()
    moved = float((on - off).norm() / off.norm())
    assert moved > 1e-3
    for face in faces:
        assert face.shape[-3:] == (3, 12, 18)
        assert face[:, :, 0].std() > 1e-3
        assert not face[:, :, 1:].any()
    assert torch.equal(sample(host, with_identity, conditioned), expected), "the size was kept"
    compatible(
        "latent upscale, second pass with denoise 0.5",
        f"96x64 to 144x96; the identity moves the second pass by {moved:.1%}",
    )


def test_a_latent_through_a_file(host, loaded, host_base, expected, compatible):
    """SaveLatent and LoadLatent between sampling and decode, whatever precision they store."""
    import folder_paths

    latent = {"samples": expected}
    saved = host.nodes.NODE_CLASS_MAPPINGS["SaveLatent"]().save(latent, "matrix")
    (entry,) = saved["ui"]["latents"]
    source = Path(folder_paths.get_output_directory()) / entry["subfolder"] / entry["filename"]
    shutil.copyfile(source, Path(folder_paths.get_input_directory()) / "matrix.latent")
    (again,) = host.run("LoadLatent", latent="matrix.latent")
    assert torch.equal(again["samples"], expected)
    pictures = [
        host.run("VAEDecode", vae=loaded["vae"], samples=each)[0] for each in (latent, again)
    ]
    assert torch.equal(*pictures)
    assert host_base.is_dir()
    compatible("SaveLatent and LoadLatent", "the same bits, latent and pictures")
