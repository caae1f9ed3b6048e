"""The commands, from a manifest on disk to files for the nodes, as a person runs them."""

from __future__ import annotations

import json

import pytest
from PIL import Image
from safetensors import safe_open
from skimage import data as pictures

from fantasyid.training.__main__ import DONE, FAILED, STOPPED, USAGE, main
from fantasyid.training.loop import SAMPLE_NOW
from fantasyid.training.progress import METRICS
from fantasyid.training.validation import PAGE

from .conftest import BASE, SIZES, write_recipe

pytestmark = pytest.mark.slow


@pytest.fixture
def recipe(setting, tmp_path):
    """A TOML file on the curated clips of `setting`."""
    config, _rows, encoders = setting
    Image.fromarray(pictures.astronaut()).save(tmp_path / "astronaut.png")
    tables = {
        "curate": {"clips": "clips", "frames": 9, "sizes": [[64, 64]]},
        "cache": {"face_latent_draws": 2, "device": "cpu"},
        "model": {
            "base": "full",
            "base_sizes": BASE | {"max_text_seq_length": 226},
            "adapter_sizes": SIZES | {"tower_dim": encoders.feature_width},
        },
        "train": {
            "out": "run", "steps": 4, "batch_size": 2, "precision": "no", "learning_rate": 1e-3,
            "checkpoint_every": 2, "log_every": 1, "workers": 0,
        },
        "validate": {
            "every": 4, "references": ["astronaut.png"], "prompts": ["a person smiles"], "steps": 2,
        },
    }  # fmt: skip
    return write_recipe(tmp_path, config.weights, tables)


def test_cache_check_train_export(recipe, tmp_path, capsys):
    assert main(["train", str(recipe)]) == FAILED
    assert "run `python -m fantasyid.training cache` first" in capsys.readouterr().err
    assert main(["cache", str(recipe)]) == DONE
    said = capsys.readouterr().out
    assert "3 of 3 clips are cached" in said
    assert "100% of it to be made" in said
    assert main(["check", str(recipe)]) == DONE
    assert "one step: loss" in capsys.readouterr().out
    assert not list((tmp_path / "run").glob("checkpoint-*"))
    assert main(["train", str(recipe)]) == DONE
    assert "4 steps done, 0 left out" in capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "run" / METRICS).read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4]
    (measured,) = [row["validation"] for row in rows if "validation" in row]
    assert measured["rs"] is None, "no recognizer was given"
    events = (tmp_path / "run").rglob("events.out.tfevents.*")
    assert any(file.stat().st_size > 300 for file in events), "TensorBoard has the losses"
    page = (tmp_path / "run" / PAGE).read_text("utf-8")
    (video,) = (tmp_path / "run" / "validation").rglob("*.mp4")
    assert video.name in page
    assert "a person smiles" in page
    assert main(["export", str(recipe), str(tmp_path / "mine.safetensors")]) == DONE
    with safe_open(str(tmp_path / "mine.safetensors"), "pt") as adapter:
        assert len(adapter.keys()) > 100
    assert (tmp_path / "mine_base.safetensors").is_file()
    assert main(["export", str(recipe), str(tmp_path / "mine.safetensors")]) == FAILED
    assert "is there already" in capsys.readouterr().err


def test_sample_now(recipe, tmp_path):
    main(["cache", str(recipe)])
    (tmp_path / "run").mkdir(exist_ok=True)
    (tmp_path / "run" / SAMPLE_NOW).touch()
    assert main(["train", str(recipe)]) == DONE
    steps = sorted(p.name for p in (tmp_path / "run" / "validation").iterdir())
    assert steps == ["step-000001", "step-000004"]


@pytest.mark.parametrize("command", ["curate", "cache", "check", "train", "export"])
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert "TOML" in capsys.readouterr().out


def test_a_typo_is_wrong_usage(recipe, capsys):
    recipe.write_text(recipe.read_text().replace("steps = 4", "stepps = 4"))
    assert main(["train", str(recipe)]) == USAGE
    assert "unknown key train.stepps, did you mean steps?" in capsys.readouterr().err
    assert STOPPED not in (DONE, FAILED, USAGE)


def test_an_empty_folder_is_said(recipe, tmp_path, capsys):
    (tmp_path / "work" / "curated" / "manifest.parquet").unlink()
    assert main(["cache", str(recipe)]) == FAILED
    assert "run `python -m fantasyid.training curate` first" in capsys.readouterr().err
