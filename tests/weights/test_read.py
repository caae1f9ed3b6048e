"""Files that are not what their name says: one sentence that names the file, never a crash."""

from __future__ import annotations

import json
import re
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save, save_file

from fantasyid.cogvideox.config import TransformerConfig
from fantasyid.weights.describe import describe_keys
from fantasyid.weights.header import read_header
from fantasyid.weights.keys import sort_released_keys
from fantasyid.weights.read import read_model, read_weights, weight_files
from fantasyid.weights.released import Released
from fantasyid.weights.safe_pickle import read_pickle
from fantasyid.weights.third_party import read_deca, read_eva, read_flame, read_mesh_tables
from miniature.checkpoints import transformer_files
from miniature.layouts import TINY, adapter_shapes, transformer_shapes

TENSORS = {
    "a": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "b": torch.arange(4, dtype=torch.int64),
    "c": torch.arange(5, dtype=torch.bfloat16),
    "d": torch.zeros(0, 3),
    "e": torch.tensor(7.0).to(torch.float8_e4m3fn),
}
GOOD = save(TENSORS, {"format": "pt"})
HEADER_END = 8 + struct.unpack("<Q", GOOD[:8])[0]
READ = (read_weights, read_header)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def refused(path: Path, read=read_weights) -> str:
    """The words of a refusal: one paragraph that names the file."""
    with pytest.raises(ValueError, match=re.escape(path.name)) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def with_header(header: object, data: bytes = GOOD[HEADER_END:]) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_the_header_says_what_the_library_reads(tmp_path):
    header = read_header(write(tmp_path / "x.safetensors", GOOD))
    assert header.metadata == {"format": "pt"}
    assert header.shapes() == {name: tuple(t.shape) for name, t in TENSORS.items()}
    assert {n: e.dtype for n, e in header.entries.items()} == {
        n: t.dtype for n, t in TENSORS.items()
    }


@pytest.mark.parametrize("name", ["x.safetensors", "x.bin", "x.anything"])
def test_content_decides_not_the_name(tmp_path, name):
    got = read_weights(write(tmp_path / name, GOOD))
    assert torch.equal(got["a"], TENSORS["a"])
    torch.save(TENSORS, tmp_path / "y.safetensors")
    assert "rename it to .pt" in refused(tmp_path / "y.safetensors")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "is an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a Git LFS pointer"),
        (b"\x08\0\0", "is cut short"),
        (GOOD[:40], "is cut short"),
        (GOOD[:-1], "cut short"),
        (GOOD + b"\0", "damaged"),
        (struct.pack("<Q", 2**62) + b"{}", "it claims a header of 4611686018427387904 bytes"),
        (struct.pack("<Q", 10**5) + b"{}", "is cut short"),
        (with_header(b"{" * 30), "damaged"),
        (with_header(b"[" * 200_000), "damaged"),
        (with_header([1, 2]), "damaged"),
        (with_header({"a": 3}), "damaged"),
        (with_header({"__metadata__": {"x": 1}}), "damaged"),
    ],
)
def test_what_is_no_whole_safetensors_file_is_named(tmp_path, content, words):
    assert words in refused(write(tmp_path / "x.safetensors", content))


def entry(**changes: object) -> dict[str, dict[str, object]]:
    return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}


@pytest.mark.parametrize(
    "header",
    [
        entry(dtype="F33"),
        entry(dtype=["F32"]),
        entry(shape=[3]),
        entry(shape=[2**40, 2**40]),
        entry(shape=[-2]),
        entry(shape=[True, 2]),
        entry(shape=[2.0]),
        entry(shape=[1] * 50),
        entry(data_offsets=[8, 16]),
        entry(data_offsets=[8, 0]),
        entry(shape=[2**30], data_offsets=[0, 2**32]),
        entry() | {"b": entry()["a"]},
    ],
)
def test_a_lying_header_is_refused_before_anything_is_allocated(tmp_path, header):
    path = write(tmp_path / "x.safetensors", with_header(header, b"\0" * 8))
    tracemalloc.start()
    words = refused(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "damaged" in words
    assert peak < 10_000_000


def test_more_tensors_than_any_model_has_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("fantasyid.weights.header.MAX_TENSORS", 4)
    assert "for 5 tensors" in refused(write(tmp_path / "x.safetensors", GOOD))


def independent(path: Path) -> dict[str, bytes]:
    """Every tensor's bytes, cut out by the file's own offsets."""
    raw = path.read_bytes()
    start = 8 + struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:start])
    header.pop("__metadata__", None)
    spans = {name: value["data_offsets"] for name, value in header.items()}
    return {name: raw[start + one : start + two] for name, (one, two) in spans.items()}


MUTATION = st.tuples(
    st.sampled_from(["set", "drop", "insert", "cut", "digit"]),
    st.integers(0, len(GOOD) - 1),
    st.integers(0, 255),
)


def mutate(content: bytes, kind: str, place: int, value: int) -> bytes:
    place %= max(len(content), 1)
    if kind == "cut":
        return content[:place]
    if kind == "drop":
        return content[:place] + content[place + 1 :]
    if kind == "digit":  # numbers are where a header can lie
        places = [n for n in range(8, len(content)) if 48 <= content[n] < 58]
        if not places:
            return content
        place, value = places[place % len(places)], 48 + value % 10
    tail = content[place:] if kind == "insert" else content[place + 1 :]
    return content[:place] + bytes([value]) + tail


@settings(max_examples=400, deadline=None, derandomize=True)
@given(mutations=st.lists(MUTATION, min_size=1, max_size=3))
def test_a_mutated_file_is_refused_or_read_right(tmp_path_factory, mutations):
    content = GOOD
    for mutation in mutations:
        content = mutate(content, *mutation)
    path = write(tmp_path_factory.getbasetemp() / "mutated.safetensors", content)
    try:
        got = read_weights(path)
    except ValueError:
        refused(path)
        return
    expected = independent(path)
    assert set(got) == set(expected)
    for name, tensor in got.items():
        raw = tensor.reshape(-1).view(torch.uint8).numpy() if tensor.numel() else np.empty(0, "u1")
        assert raw.tobytes() == expected[name]


def test_a_header_length_that_looks_like_html_is_no_html(tmp_path):
    """0x3c20 bytes of header: the length begins with a space and "<"."""
    text = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'.ljust(0x3C20)
    path = write(tmp_path / "x.safetensors", with_header(text, b"\0" * 8))
    assert path.read_bytes()[:2] == b" <"
    assert torch.equal(read_weights(path)["a"], torch.zeros(2))


def test_an_index_may_not_lead_elsewhere(tmp_path):
    folder = tmp_path / "transformer"
    folder.mkdir()
    save_file({"a": torch.ones(1)}, tmp_path / "secret.safetensors")
    index = folder / "m.safetensors.index.json"
    for name in ("../secret.safetensors", "/etc/passwd", "..\\secret.safetensors", "C:x", ".."):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(ValueError, match="names files outside its folder"):
            weight_files(folder)
    for text in ("{", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 3}}', "[" * 99_999):
        index.write_text(text)
        with pytest.raises(ValueError, match="is no index of shards"):
            weight_files(folder)


def test_two_sets_of_weights_in_one_folder_are_refused(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "one.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "two.safetensors")
    with pytest.raises(ValueError, match=r"two\.safetensors repeats 1 tensors"):
        read_model(tmp_path)


def test_a_table_with_other_things_than_tensors_is_refused(tmp_path):
    torch.save({"epoch": 3, "state": {"a": torch.ones(1)}}, tmp_path / "x.bin")
    with pytest.raises(ValueError, match="no table of tensors: epoch, state are something else"):
        read_model(tmp_path / "x.bin")


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
            assert words in refused(path, read)
    assert "the mesh transforms" in refused(tiny.transforms, read_flame)
    assert "a FLAME model" in refused(tiny.flame, read_mesh_tables)


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
