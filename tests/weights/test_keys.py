"""Released keys: each has exactly one place, and what does not fit is named."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fantasyid.face.abstractor import AbstractorConfig, FaceAbstractor
from fantasyid.fusion.transformer import FusionConfig, VertexFusion
from fantasyid.injection.layers import InjectionConfig, LayerInjectors, LayerKeysValues
from fantasyid.weights.keys import PARTS, check_state_dict, sort_released_keys, to_released
from fantasyid.weights.read import read_torch_file, transformer_folder, weight_files

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def groups() -> dict[str, dict[str, list[int]]]:
    return json.loads((GOLDEN / "released_transformer_keys.json").read_text("utf-8"))["groups"]


def test_every_released_key_has_one_place(groups):
    names = [k for group in groups.values() for k in group]
    keys = sort_released_keys(names)
    assert keys.unknown == []
    strange = ["face_abstractor.layers.10.x", "layer_attention.0.to_q.bias"]
    assert sort_released_keys(strange).unknown == strange
    parts = (keys.base, keys.abstractor, keys.fusion, keys.injection)
    assert sum(len(p) for p in parts) + len(keys.dead) == len(names)
    assert [len(p) for p in parts] == [1024, 102, 131, 294]
    assert len(keys.dead) == 860
    assert keys.has_adapter


def test_there_and_back_is_the_identity_on_every_released_key(groups):
    released = {key: tuple(shape) for group in groups.values() for key, shape in group.items()}
    keys = sort_released_keys(released)
    back = {key: released[key] for key in keys.dead}
    for part in PARTS:
        ours = {name: released[key] for name, key in getattr(keys, part).items()}
        back |= to_released(part, ours)
    assert len(released) == 2411
    assert back == released
    assert all(keys.dead.values())


def test_names_of_a_converted_base_stay_and_strange_ones_are_named():
    released = "transformer_blocks.7.attn1.to_q.weight"
    assert to_released("base", {"blocks.7.q.weight": 1}) == {released: 1}
    assert sort_released_keys(["blocks.7.q.weight"]).base == {
        "blocks.7.q.weight": "blocks.7.q.weight"
    }
    with pytest.raises(ValueError, match=r"patches\.0\.x.*released abstractor"):
        to_released("abstractor", {"patches.0.x": 1})


def test_live_and_dead_are_the_proven_ones():
    proven = json.loads((GOLDEN / "face_abstractor_live_dead.json").read_text("utf-8"))
    live = sort_released_keys(f"face_abstractor.{k}" for k in proven["live"])
    dead = sort_released_keys(f"face_abstractor.{k}" for k in proven["dead"])
    assert len(live.abstractor) == len(proven["live"])
    assert not live.dead
    assert len(dead.dead) == len(proven["dead"])
    assert not dead.abstractor


def test_base_names_are_the_hosts():
    expected = json.loads((GOLDEN / "diffusers_to_host_key_map.json").read_text("utf-8"))
    for released, host in expected.items():
        released, host = (n.split(" ")[0].replace("{i}", "17") for n in (released, host))
        assert sort_released_keys([released]).base == {host: released}


@pytest.mark.parametrize(
    ("part", "config_type", "module_types"),
    [
        ("abstractor", AbstractorConfig, [FaceAbstractor]),
        ("fusion", FusionConfig, [VertexFusion]),
        ("injection", InjectionConfig, [LayerKeysValues, LayerInjectors]),
    ],
)
def test_modules_have_exactly_the_released_weights(groups, part, config_type, module_types):
    released = {k: tuple(s) for group in groups.values() for k, s in group.items()}
    names = getattr(sort_released_keys(released), part)
    shapes = {ours: released[key] for ours, key in names.items()}
    config, found = config_type.from_shapes(shapes), {}
    for module_type in module_types:
        module = module_type(config, device="meta")
        found |= {k: tuple(v.shape) for k, v in module.state_dict().items()}
    check_state_dict(found, shapes, part)


def test_problems_are_counted_and_at_most_five_are_named():
    expected = {f"a{i}": (1,) for i in range(9)} | {"w": (2, 3)}
    found = {"w": (3, 2), "b": (1,)}
    with pytest.raises(ValueError, match=r"file\.bin does not fit") as caught:
        check_state_dict(expected, found, "file.bin")
    text = str(caught.value)
    assert "9 missing: a0; a1; a2; a3; a4; ..." in text
    assert "1 unexpected: b." in text
    assert "1 misshapen: w is (3, 2), expected (2, 3)." in text


class Hostile:
    """Would write a file if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("form", ["zip", "legacy", "plain"])
def test_a_torch_file_with_code_is_refused_and_not_run(tmp_path, form):
    marker, path = tmp_path / "executed", tmp_path / "evil.pt"
    if form == "plain":
        path.write_bytes(pickle.dumps(Hostile(marker)))
    else:
        torch.save({"a": Hostile(marker)}, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(ValueError, match=r"evil\.pt cannot be read as a torch file"):
        read_torch_file(path)
    assert not marker.exists()


def test_shards_are_read_through_the_index_and_a_missing_one_is_named(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "m-00001-of-00002.safetensors")
    index = {
        "weight_map": {"a": "m-00001-of-00002.safetensors", "b": "m-00002-of-00002.safetensors"}
    }
    (tmp_path / "m.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FileNotFoundError, match=r"1 are missing .*m-00002-of-00002"):
        weight_files(tmp_path)
    save_file({"b": torch.ones(1)}, tmp_path / "m-00002-of-00002.safetensors")
    assert [p.name for p in weight_files(tmp_path)] == sorted(set(index["weight_map"].values()))


def test_a_folder_without_weights_says_what_was_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights in"):
        weight_files(tmp_path)


def test_the_ema_folder_wins(tmp_path):
    assert transformer_folder(tmp_path) == tmp_path
    (tmp_path / "transformer").mkdir()
    assert transformer_folder(tmp_path).name == "transformer"
    (tmp_path / "transformer_ema").mkdir()
    assert transformer_folder(tmp_path).name == "transformer_ema"
