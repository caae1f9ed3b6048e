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
from safetensors.torch import save, save_file

from fantasyid.weights.header import read_header
from fantasyid.weights.read import read_model, read_weights, weight_files

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


@settings(max_examples=150)
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
