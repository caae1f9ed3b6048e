"""Drawn MP4 files through curate, cache, check, train and export into the nodes."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from training.conftest import BASE, SIZES, files, write_recipe  # noqa: F401 (a fixture)

from fantasyid.training.__main__ import DONE, main
from fantasyid.training.adapter import read_adapter
from fantasyid.training.config_file import load_config
from fantasyid.training.manifest import read_manifest, read_views, write_video
from miniature.world.drawing import draw
from miniature.world.films import draw_film
from miniature.world.people import draw_people

pytestmark = pytest.mark.slow

PEOPLE, SIDE, FRAMES = 2, 192, 9


def draw_clips(folder) -> None:
    """A film of each of two drawn people, and one too short to train on, with their sentences."""
    folder.mkdir()
    everyone, chance = draw_people(PEOPLE, 7), torch.Generator().manual_seed(7)
    for person, motion in enumerate(("nods", "opens the mouth")):
        film = draw_film(motion, "blue", "front", FRAMES, chance)
        (clip,) = draw(everyone[[person]], [film], SIDE)
        told = {"caption": film.prompt, "person": f"person {person}"}
        for name, frames in ((f"{person}", clip), (f"{person}_short", clip[:4])):
            write_video(folder / f"{name}.mp4", frames, 8, crf="12")
            (folder / f"{name}.json").write_text(json.dumps(told), "utf-8")


def test_from_clips_on_disk_into_the_nodes(host, host_base, files, shared, tmp_path):  # noqa: F811
    for package in ("onnxruntime", "scenedetect", "rapidocr"):
        pytest.importorskip(package, reason="curation's packages: pip install .[training]")
    draw_clips(tmp_path / "clips")
    recipe = write_recipe(tmp_path, files, {
        "curate": {
            "clips": "clips", "frames": FRAMES, "sizes": [[96, 96]], "min_shot_s": 1.0,
            "min_face_px": 24.0, "min_face_score": 0.8, "min_views": 1, "workers": 1,
            "detector": "yunet", "face_models": [str(shared / "data")],
        },
        "cache": {"face_latent_draws": 1, "dtype": "float32", "device": "cpu"},
        "model": {
            "base": "full", "base_sizes": BASE | {"max_text_seq_length": 226},
            "adapter_sizes": SIZES | {"tower_dim": 64},
        },
        "train": {
            "out": "run", "steps": 2, "batch_size": 2, "precision": "no", "learning_rate": 0.01,
            "workers": 0,
        },
    })  # fmt: skip
    mine = host_base / "models" / "fantasyid" / "end-to-end.safetensors"
    with torch.inference_mode(False), torch.enable_grad():
        for command in ("curate", "cache", "check", "train"):
            assert main([command, str(recipe)]) == DONE, command
        target = tmp_path / "made" / mine.name
        assert main(["export", str(recipe), str(target), "--raw", "--dtype", "float32"]) == DONE
    config, folder = load_config(recipe), tmp_path / "work" / "curated"
    rows = read_manifest(folder)
    assert sorted(row.person for row in rows) == ["person 0", "person 1"]
    assert (folder / "clips.jsonl").read_text("utf-8").count("TOO_SHORT") == PEOPLE

    shutil.copyfile(target, mine)
    (adapter,) = host.run(
        "FantasyIDAdapterLoader", adapter=mine.name, mesh_transforms="tiny_transform.pkl"
    )
    (tower,) = host.run("FantasyIDFaceEncoderLoader", face_encoder=files.face_encoder.name)
    (head,) = host.run(
        "FantasyIDDecaLoader", deca="tiny_deca_model.tar", flame="tiny_generic_model.pkl"
    )
    crop = read_views(rows[0], folder)[:1].float() / 255
    (tokens,) = host.run("FantasyIDFaceTokens", face_encoder=tower, adapter=adapter, face=crop)
    (geometry,) = host.run("FantasyIDFaceVertices", deca=head, face=crop, mode="as released")
    (fused,) = host.run("FantasyIDFuse", adapter=adapter, face_tokens=tokens, geometry=geometry)
    assert not fused.is_empty

    from fantasyid.training.cache import open_parts
    from fantasyid.training.encoders import Encoders

    parts = open_parts(config, Encoders(config.weights, config.cache))
    features = parts["features"].get(rows[0].clip)[:1]
    abstractor = read_adapter(target, BASE["num_layers"], 64 * BASE["num_attention_heads"])[0]
    with torch.no_grad():
        torch.testing.assert_close(tokens.tokens, abstractor(features), rtol=1e-4, atol=1e-5)
