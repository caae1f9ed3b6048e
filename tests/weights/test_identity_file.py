"""Identity files: what is written comes back bit for bit, and nothing else is believed."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from identities import assert_same, make_identity, pattern, write_identity
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fantasyid.identity import FaceGeometry, Identity, Provenance
from fantasyid.weights.identity_file import (
    CREATED_WITH,
    MAX_FILE_BYTES,
    VERSION,
    is_identity_file,
    read_identity,
)

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "identity_v1.safetensors"

floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
hashes = st.text("0123456789abcdef", min_size=64, max_size=64)


@st.composite
def identities(draw) -> Identity:
    """Any identity that a file can hold."""
    width = draw(st.integers(1, 4))
    corner = torch.tensor(draw(st.lists(floats, min_size=width, max_size=width)))
    face = pattern(1, 36 * draw(st.integers(1, 3)), width)
    face[0, 0] = corner
    vertex = pattern(1, 79, width, step=5)
    vertex[0, -1] = corner
    geometry, thumbnail = None, None
    if draw(st.booleans()):
        betas = draw(st.none() | st.lists(floats, min_size=1, max_size=9).map(torch.tensor))
        head = pattern(1, 5023, 3)
        head[0, 0, 0] = draw(floats)
        shape = None if betas is None else betas[None]
        geometry = FaceGeometry(head, None, shape, draw(st.text(max_size=20)))
    if draw(st.booleans()):
        thumbnail = torch.full((1, 128, 128, 3), draw(st.integers(0, 255)) / 255)
    origin = Provenance(
        draw(st.text(max_size=20)),
        draw(st.just("") | hashes),
        draw(st.just("") | hashes),
        tuple(draw(st.lists(hashes, max_size=3))),
        draw(st.text(max_size=200)),
    )
    return Identity(face, vertex, geometry=geometry, thumbnail=thumbnail, provenance=origin)


@given(identity=identities())
def test_what_is_written_comes_back_bit_for_bit(identity, tmp_path):
    path = tmp_path / "any.safetensors"
    write_identity(path, identity)
    found = read_identity(path)
    assert_same(found, identity)
    assert found.provenance.created_with == CREATED_WITH


def test_the_golden_file_of_version_1_is_read():
    assert_same(read_identity(GOLDEN), make_identity())


def test_the_same_identity_gives_the_same_bytes(tmp_path):
    paths = [tmp_path / name for name in ("a.safetensors", "b.safetensors")]
    for path in paths:
        write_identity(path, make_identity())
    assert paths[0].read_bytes() == paths[1].read_bytes()
    write_identity(paths[1], read_identity(paths[0]))
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_other_programs_can_open_it(tmp_path):
    path = tmp_path / "x.safetensors"
    identity = make_identity()
    write_identity(path, identity)
    assert torch.equal(load_file(path)["vertex_tokens"], identity.vertex_tokens)
    with safe_open(path, "pt") as file:
        assert file.metadata()["note"] == identity.provenance.note
        assert file.metadata()["version"] == str(VERSION)


def test_tokens_of_another_type_are_kept_as_float32(tmp_path):
    path = tmp_path / "x.safetensors"
    identity = make_identity()
    write_identity(path, replace(identity, face_tokens=identity.face_tokens.bfloat16()))
    assert torch.equal(read_identity(path).face_tokens, identity.face_tokens.bfloat16().float())


def test_the_maker_is_the_release():
    (version,) = re.findall(
        r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE
    )
    assert f"ComfyUI-FantasyID {version}" == CREATED_WITH


def test_an_empty_identity_is_not_saved(tmp_path):
    empty = Identity(torch.zeros(0, 36, 8), torch.zeros(0, 79, 8), "no face found in the photo")
    with pytest.raises(ValueError, match="no identity to save: no face found"):
        write_identity(tmp_path / "x.safetensors", empty)
    assert list(tmp_path.iterdir()) == []


WRONG = {
    "thumbnail is U8 .*expected": {"thumbnail": torch.zeros(1, 64, 64, 3)},
    "face_tokens has values that are not numbers": {"face_tokens": torch.zeros(1, 36, 8) / 0},
    "multiple of 36": {"face_tokens": torch.zeros(1, 35, 8)},
    "one width": {"face_tokens": torch.zeros(1, 36, 9)},
    "vertex_tokens is F32": {"vertex_tokens": torch.zeros(1, 80, 8)},
    "vertices is F32": {"geometry": FaceGeometry(torch.zeros(1, 100, 3), None, None, "x")},
    "its note has 20001 characters": {"provenance": Provenance(note="a" * 20001)},
    "surrogates not allowed": {"provenance": Provenance(note="\ud83d")},
    "is no hash": {"provenance": Provenance(adapter_hash="abc")},
}  # fmt: skip


@pytest.mark.parametrize("words", WRONG)
def test_what_does_not_fit_the_format_is_not_saved(tmp_path, words):
    with pytest.raises(ValueError, match=f"cannot be saved: .*{words}"):
        write_identity(tmp_path / "x.safetensors", replace(make_identity(), **WRONG[words]))
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_breaks_off_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    write_identity(path, make_identity())
    before = path.read_bytes()

    def full_disk(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_identity(path, make_identity(step=11))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def with_header(path: Path, change) -> None:
    """Change a file's header as JSON."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])


def words_set(**words: str):
    return lambda header: header["__metadata__"].update(words)


def without(name: str):
    return lambda header: header["__metadata__"].pop(name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (words_set(version="2"), "version 2, this FantasyID reads up to version 1: update"),
        (words_set(version="0"), "its version is '0', which is none"),
        (words_set(version="one"), "its version is 'one', which is none"),
        (words_set(format="something else"), "this is no FantasyID identity file"),
        (words_set(note="I consent to everything"), "was changed or damaged"),
        (words_set(adapter_hash="00" * 32), "was changed or damaged"),
        (words_set(more="words"), "metadata lack or add more"),
        (without("note"), "metadata lack or add note"),
        (without("digest"), "metadata lack or add digest"),
    ],
)
def test_a_changed_header_is_refused_by_name(tmp_path, change, words):
    path = tmp_path / "changed.safetensors"
    write_identity(path, make_identity())
    with_header(path, change)
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        read_identity(path)
    assert str(path) in str(error.value)


def test_json_written_otherwise_is_the_same_identity(tmp_path):
    path = tmp_path / "x.safetensors"
    write_identity(path, make_identity())
    written = path.read_bytes()
    with_header(path, lambda header: header["__metadata__"].update(detector="insightface"))
    assert path.read_bytes() != written, "no blank is different"
    assert_same(read_identity(path), make_identity())


def test_another_kind_of_file_is_told(tmp_path):
    path = tmp_path / "eva.safetensors"
    save_file({"visual.blocks.0.attn.q_proj.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="it looks like an EVA02-CLIP checkpoint") as error:
        read_identity(path)
    assert str(path) in str(error.value)


def test_a_large_file_is_refused_unread(tmp_path):
    path = tmp_path / "large.safetensors"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(ValueError, match=r"large\.safetensors is no identity file: it has"):
        read_identity(path)


def test_identity_files_are_known_at_a_glance(tmp_path):
    path, other = tmp_path / "x.safetensors", tmp_path / "other.safetensors"
    write_identity(path, make_identity())
    save_file({"a": torch.zeros(1)}, other)
    assert is_identity_file(path)
    assert not is_identity_file(other)
    assert not is_identity_file(tmp_path / "missing.safetensors")
    assert not is_identity_file(tmp_path)
