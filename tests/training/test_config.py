"""The TOML file: everything that is wrong is named at once."""

from __future__ import annotations

import pytest
from conftest import ROOT

from fantasyid.training.config_file import ConfigError, load_config

WHOLE = """
work = "work"
[curate]
clips = "clips"
[weights]
transformer = "base"
vae = "vae"
text_encoder = "t5"
tokenizer = "t5"
face_encoder = "eva.pt"
deca = "deca.tar"
flame = "flame.pkl"
mesh_transforms = "transform.pkl"
[train]
out = "run"
"""


def write(tmp_path, text=WHOLE, **changes):
    for old, new in changes.items():
        text = text.replace(old, new)
    path = tmp_path / "config.toml"
    path.write_text(text, "utf-8")
    return path


def test_paths_are_relative_to_the_file(tmp_path):
    config = load_config(write(tmp_path))
    assert config.curate.clips == tmp_path / "clips"
    assert config.weights.transformer == tmp_path / "base"
    assert config.weights.adapter is None
    assert config.train.betas == (0.9, 0.95)


def test_everything_wrong_is_named_at_once(tmp_path):
    text = WHOLE.replace('flame = "flame.pkl"\n', "")
    text += 'learnin_rate = 1\nsteps = 1.5\nprecision = "fp64"\n[cach]\n'
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    words = str(caught.value)
    for expected in (
        "unknown key train.learnin_rate, did you mean learning_rate?",
        "train.steps is 1.5, expected int",
        "train.precision is 'fp64', expected one of no, bf16, fp16",
        "weights.flame is missing",
        "unknown key cach, did you mean cache?",
    ):
        assert expected in words, words


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[curate]\nframes = 48", "curate.frames is 48, expected 8 k + 1"),
        ("[curate]\nsizes = [[100, 64]]", "multiples of 16"),
        ("[train]\nbatch_size = 3\nsamples_per_reference = 2", "no multiple"),
        ('[train]\nfp8_base = true\n[model]\nbase = "full"', "need model.base = 'frozen'"),
    ],
)
def test_contradictions_are_refused(tmp_path, line, words):
    text = WHOLE
    for part in line.split("\n["):
        head, _, keys = part.lstrip("[").partition("]\n")
        mark = f"[{head}]\n"
        text = text.replace(mark, mark + keys + "\n") if mark in text else f"{text}{mark}{keys}\n"
    with pytest.raises(ConfigError, match=words.replace("+", r"\+")):
        load_config(write(tmp_path, text))


def test_no_toml_and_no_file(tmp_path):
    with pytest.raises(ConfigError, match="is no TOML"):
        load_config(write(tmp_path, "a = ["))
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "absent.toml")


def test_the_fingerprint_is_of_what_decides(tmp_path):
    one = load_config(write(tmp_path)).fingerprint()
    assert load_config(write(tmp_path, WHOLE + "workers = 7\nsteps = 10\n")).fingerprint() == one
    assert load_config(write(tmp_path, WHOLE + "seed = 1\n")).fingerprint() != one


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda p: p.stem)
def test_the_recipes_can_be_read(recipe):
    load_config(recipe)


@pytest.mark.parametrize(
    ("name", "kind", "processes"),
    [
        ("ddp_16", "multi_gpu", 16),
        ("fsdp_8", "use_fsdp", 8),
        ("deepspeed_zero2_8", "use_deepspeed", 8),
    ],
)
def test_accelerate_takes_its_configurations(name, kind, processes, monkeypatch):
    """Up to the plugin that a training process makes of them; it takes cards to go further."""
    from accelerate import DeepSpeedPlugin, FullyShardedDataParallelPlugin
    from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    path, parser = str(ROOT / "recipes" / "accelerate" / f"{name}.yaml"), launch_command_parser()
    content = load_config_from_file(path)  # refuses keys that it does not know
    assert isinstance(content, ClusterConfig)
    nested = {**(content.fsdp_config or {}), **(content.deepspeed_config or {})}
    assert nested.keys() <= {action.dest for action in parser._actions}
    options = parser.parse_args(["--config_file", path, "-m", "fantasyid.training", "train", "x"])
    options = _validate_launch_command(options)[0]
    kinds = {"multi_gpu", "use_fsdp", "use_deepspeed"}
    assert {k for k in kinds if getattr(options, k)} == {kind}
    assert (options.num_processes, options.mixed_precision) == (processes, "bf16")
    if kind == "use_deepspeed":
        plugin = DeepSpeedPlugin(zero_stage=options.zero_stage)
        assert plugin.deepspeed_config["zero_optimization"]["stage"] == 2
        return
    for key, value in prepare_multi_gpu_env(options).items():
        monkeypatch.setenv(key, value)
    if kind == "use_fsdp":
        plugin = FullyShardedDataParallelPlugin()
        assert plugin.fsdp_version == 2
        assert plugin.transformer_cls_names_to_wrap == [
            "CogVideoXBlock", "LayerInjector", "KeysValues",
        ]  # fmt: skip
