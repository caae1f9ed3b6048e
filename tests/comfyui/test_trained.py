"""What training made, in ComfyUI: the exported files, and the same velocity."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from accelerate import Accelerator
from denoiser import velocity
from safetensors import safe_open
from training.conftest import (  # noqa: F401 (fixtures)
    BASE,
    batch_of,
    but,
    cache_of,
    config,
    config_of,
    rows_of,
    transforms,
)

from fantasyid.doctor.weights_on_disk import check_files
from fantasyid.training.batches import Batches
from fantasyid.training.export import export
from fantasyid.training.loop import Trainer
from fantasyid.training.network import build_network, image_latents
from fantasyid.weights.content import TRAINED

pytestmark = pytest.mark.slow

TEXT = 226  # the host fixes it


@pytest.fixture
def trained(config, tmp_path):  # noqa: F811
    """A trainer after two steps, and the files that it exports."""
    base = BASE | {"max_text_seq_length": TEXT, "text_embed_dim": 64, "num_layers": 4}
    config = but(
        config, model__base_sizes=base, train__steps=2, train__learning_rate=0.05,
        model__injector_interval=2, validate__every=0,
    )  # fmt: skip
    rows = rows_of(4)
    parts = cache_of(rows, tmp_path / "cache")
    for key in list(parts["text"].places):
        assert parts["text"].get(key).shape == (8, 32)
    with torch.inference_mode(False), torch.enable_grad():
        batches = Batches(config, rows, parts, 0.7)
        run = Trainer(config, Accelerator(cpu=True), build_network(config), batches)
        for step in range(2):
            batch = batches[step]
            batch.text = torch.randn(4, TEXT, 64, generator=torch.Generator().manual_seed(step))
            run.step([batch])
        run.save()
    target = tmp_path / "out" / "mine.safetensors"
    return run, export(config, target, raw=True, dtype=torch.float32)


@pytest.mark.usefixtures("host")
def test_the_nodes_compute_what_the_training_computed(ours, trained, transforms):  # noqa: F811
    run, file = trained
    weights, kinds = ours("fantasyid.comfyui.weights"), ours("fantasyid.identity")
    adapter = weights.load_adapter(file, transforms)
    model = weights.load_base(str(file.with_name("mine_base.safetensors")), {})
    batch, network = batch_of(), run.network.eval()
    text = torch.randn(2, TEXT, 64, generator=torch.Generator().manual_seed(9))
    image = image_latents(batch, batch.clean)
    with torch.no_grad():
        pairs = network.identity(batch.features[:1], batch.vertices[:1])
        expected = network.velocity(batch.clean, torch.tensor([801, 801]), text, image, pairs)
        bare = network.velocity(batch.clean, torch.tensor([801, 801]), text, image, None)
        face = adapter.abstractor.model(batch.features[:1])
        vertex = adapter.fusion.model(face, batch.vertices[:1], adapter.tables)
    identity = kinds.Identity(face, vertex)
    steering = ours("fantasyid.injection.steering").Steering()
    clone = ours("fantasyid.comfyui.apply").apply_identity(model, adapter, identity, steering)
    got = velocity(clone, torch.cat([batch.clean, image], 2), text)
    scale = torch.linalg.vector_norm(expected)
    assert float(torch.linalg.vector_norm(expected - bare) / scale) > 1e-3, "the identity acts"
    assert float(torch.linalg.vector_norm(got - expected) / scale) < 1e-5


def test_the_file_says_who_trained_it_in_released_names(trained):
    run, file = trained
    with safe_open(str(file), "pt") as opened:
        told = json.loads(opened.metadata()[TRAINED])
        names = list(opened.keys())
    assert told["step"] == 2
    assert told["weights"] == "raw"
    assert told["config_fingerprint"] == run.config.fingerprint()
    assert all(
        name.startswith(
            ("face_abstractor.", "vertex_spiral_net.", "vertex_reducer.", "layer_attention.")
        )
        for name in names
    )


def test_the_doctor_says_who_trained_it(trained, tmp_path):
    run, file = trained
    models = tmp_path / "models" / "fantasyid"
    models.mkdir(parents=True)
    file.rename(models / "mine.safetensors")
    findings = check_files({"fantasyid": (models,)})
    (found,) = [f for f in findings if f.facts.get("content") == "adapter"]
    assert "Trained by `python -m fantasyid.training`: step 2, weights raw, " in found.sentence
    assert run.config.fingerprint() in found.sentence
    assert found.facts["trained"]["step"] == 2


def test_an_export_can_be_the_starting_point(trained):
    run, file = trained
    weights = run.config.weights
    again = dataclasses.replace(run.config, weights=dataclasses.replace(weights, adapter=file))
    network = build_network(again)
    for part in ("abstractor", "fusion", "keys_values", "injectors"):
        mine, theirs = getattr(network, part).state_dict(), getattr(run.network, part).state_dict()
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine), part
    other = but(again, model__injector_interval=1)
    with pytest.raises(ValueError, match=r"has 2 injectors .* this training has 4"):
        build_network(other)
