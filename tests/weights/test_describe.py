"""Weights are called by what they are, and a transformer has the names and shapes of its kind."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fantasyid.cogvideox.config import TransformerConfig
from fantasyid.weights.describe import describe_keys
from fantasyid.weights.keys import sort_released_keys
from fantasyid.weights.read import read_model, read_weights
from fantasyid.weights.released import Released
from fantasyid.weights.safe_pickle import read_pickle
from fantasyid.weights.third_party import read_deca, read_eva, read_flame, read_mesh_tables
from miniature.checkpoints import transformer_files
from miniature.layouts import TINY, adapter_shapes, transformer_shapes

BASE = {name: torch.empty(shape, device="meta") for name, shape in transformer_shapes(TINY).items()}
ADAPTER = {name: torch.empty(s, device="meta") for name, s in adapter_shapes(TINY).items()}
HOST_NAMES = {ours: BASE[key] for ours, key in sort_released_keys(BASE).base.items()}


def resized(**patches: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    shapes = {name: tuple(tensor.shape) for name, tensor in BASE.items()}
    return shapes | {"patch_embed.proj.weight": patches["patches"]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (resized(patches=(1920, 16, 2, 2)), "a CogVideoX-2b transformer (30 heads of 64)"),
        (resized(patches=(3072, 16, 2, 2)), "CogVideoX-5b text-to-video (16 input channels)"),
        (resized(patches=(3072, 32, 2, 2)), "CogVideoX-5b image-to-video (32 input channels)"),
        (resized(patches=(3072, 48, 2, 2)), "CogVideoX-5b inpainting"),
        (resized(patches=(3072, 128)), "a CogVideoX 1.5 transformer"),
        (BASE | {"ofs_embedding.linear_1.weight": BASE["proj_out.weight"]}, "a CogVideoX 1.5"),
        (HOST_NAMES, "in ComfyUI's own names, without the FantasyID adapter"),
        (BASE | ADAPTER, "a FantasyID model on a CogVideoX transformer 192 wide"),
        (ADAPTER, "the FantasyID adapter, without a transformer"),
        (BASE | {"local_facial_extractor.x": (1,)}, "ConsisID"),
        ({"v_template": np.zeros((6890, 3)), "shapedirs": np.zeros((1,))}, "an SMPL body model"),
        (list(BASE), "a CogVideoX transformer, without"),
        (["something.else"], "its first keys are something.else"),
    ],
)
def test_members_of_a_family_are_told_apart(content, words):
    assert words in describe_keys(content)


def refusal(path, read) -> str:
    with pytest.raises(ValueError, match=re.escape(path.name)) as caught:
        read(path)
    return str(caught.value)


def test_third_party_files_are_called_by_their_names(tiny, tmp_path):
    published = {
        "an EVA02-CLIP checkpoint": read_weights(tiny.eva_clip),
        "the DECA checkpoint": read_weights(tiny.deca),
        "a FLAME model": read_pickle(tiny.flame),
        "the mesh transforms": read_pickle(tiny.transforms),
        "a T5 text encoder": load_file(tiny.text_encoder),
        "the CogVideoX VAE": load_file(tiny.vae),
    }
    for words, content in published.items():
        assert words in describe_keys(content)
    readers = {read_eva: "EVA02", read_deca: "DECA", read_flame: "FLAME", read_mesh_tables: "mesh"}
    published["the DECA checkpoint"] = {
        f"E_flame.{name}": tensor
        for name, tensor in published["the DECA checkpoint"]["E_flame"].items()
    }
    for words in list(published)[:2] + list(published)[4:]:
        path = tmp_path / "wrong.safetensors"
        save_file({k: v.contiguous().clone() for k, v in published[words].items()}, path)
        for read in (read for read, own in readers.items() if own not in words):
            assert words in refusal(path, read)
    assert "the mesh transforms" in refusal(tiny.transforms, read_flame)
    assert "a FLAME model" in refusal(tiny.flame, read_mesh_tables)


def shapes_of(content):
    return {name: tuple(tensor.shape) for name, tensor in content.items()}


@pytest.mark.parametrize("learned", [0, 900])
def test_expected_names_and_shapes_are_those_of_the_released_layout(learned):
    shapes = transformer_shapes(TINY, learned)
    found = {ours: shapes[key] for ours, key in sort_released_keys(shapes).base.items()}
    assert TransformerConfig.from_shapes(found).shapes() == found


def test_the_released_sizes_are_the_released_keys():
    groups = json.loads(
        (Path(__file__).parents[1] / "golden" / "released_transformer_keys.json").read_text("utf-8")
    )["groups"]
    shapes = {name: tuple(shape) for name, shape in groups["base_transformer"].items()}
    found = {ours: shapes[key] for ours, key in sort_released_keys(shapes).base.items()}
    config = TransformerConfig.from_shapes(found)
    assert config.shapes() == found
    assert (config.dim, config.blocks, config.text_dim) == (3072, 42, 4096)


def on_meta(shapes):
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def checked(path, shapes):
    return TransformerConfig.from_shapes(
        {name: t.shape for name, t in Released(path, on_meta(shapes)).base().items()}
    )


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (resized(patches=(3072, 16, 2, 2)), "needs the image-to-video kind"),
        (resized(patches=(3072, 128)), "it looks like a CogVideoX 1.5 transformer"),
        (resized(patches=(1920, 16, 2, 2)), "it looks like a CogVideoX-2b transformer"),
        (shapes_of(ADAPTER), "Load it with Load FantasyID Adapter"),
        ({"E_flame": ()}, "it looks like the DECA checkpoint"),
    ],
)
def test_another_transformer_is_called_by_its_name(tmp_path, shapes, words):
    with pytest.raises(ValueError, match=r"x\.safetensors") as caught:
        checked(tmp_path / "x.safetensors", shapes)
    assert words in str(caught.value)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, None),
        ({"num_layers": 42}, "num_layers = 42, the weights say 4"),
        ({"num_attention_heads": 48}, "num_attention_heads = 48, the weights say 3"),
        ({"in_channels": 16}, "in_channels = 16, the weights say 32"),
        ({"time_embed_dim": 512}, "time_embed_dim = 512, the weights say 64"),
        ({"text_embed_dim": 4096}, "text_embed_dim = 4096"),
        ({"patch_size_t": 2}, "patch_size_t = 2, the weights say None"),
        ({"sample_frames": 81}, "28576 positions"),
    ],
)
def test_config_and_shapes_must_agree(tmp_path, learned, change, words):
    files = transformer_files(learned=learned)
    config = json.loads(files.pop("config.json")) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    shapes = shapes_of(read_model(tmp_path))
    if words is None or ("positions" in words and not learned):
        assert checked(tmp_path, shapes).blocks == 4
        return
    with pytest.raises(ValueError, match=words) as caught:
        checked(tmp_path, shapes)
    assert "config.json" in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", "[" * 99_999])
def test_a_config_that_is_none_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json (is no JSON|holds a list)"):
        checked(tmp_path, shapes_of(BASE))
