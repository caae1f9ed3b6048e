"""Damaged mesh files: each is a right mesh or an error that names the file, in bounded memory."""

from __future__ import annotations

import random

import pytest
import torch
from damage import mutated
from geometry.meshes import CUBE, CUBE_TRIANGLES, ascii_ply, glb, glb_document, glb_numbers

from fantasyid.geometry.files import mesh_bytes, read_mesh

pytestmark = pytest.mark.slow

ASCII_PLY = (
    ascii_ply(8, 12)
    + "".join(f"{x} {y} {z}\n" for x, y, z in CUBE.tolist())
    + "".join(f"3 {a} {b} {c}\n" for a, b, c in CUBE_TRIANGLES.tolist())
).encode()


def written(kind: str) -> bytes:
    return ASCII_PLY if kind == "ascii.ply" else mesh_bytes(kind, CUBE, CUBE_TRIANGLES)


@pytest.mark.parametrize("kind", ["ply", "ascii.ply", "obj", "glb"])
def test_1000_mutated_files_are_meshes_or_named_errors(tmp_path, kind):
    content, dice = written(kind), random.Random(kind)
    path = tmp_path / f"mutant.{kind}"
    messages, read = [], 0
    for _ in range(1000):
        path.write_bytes(mutated(content, dice))
        try:
            vertices, triangles = read_mesh(path)
        except ValueError as error:
            messages.append(str(error))
        else:
            read += 1
            assert vertices.shape == (len(vertices), 3)
            assert len(vertices) > 0
            if triangles is not None:
                assert 0 <= triangles.min() <= triangles.max() < len(vertices)
    assert [words for words in messages if path.name not in words] == []
    assert min(read, len(messages)) > 30, (read, len(messages))


@pytest.mark.parametrize("kind", ["ply", "ascii.ply", "glb"])
def test_a_file_cut_anywhere_is_refused_by_name(tmp_path, kind):
    path = tmp_path / f"cut.{kind}"
    content = written(kind).rstrip()
    # A text may end before its last digit and is then another mesh, so it is cut at its words.
    ends = range(4, len(content)) if kind != "ascii.ply" else [
        i for i, byte in enumerate(content) if bytes([byte]).isspace() and i > 4
    ]  # fmt: skip
    for end in ends:
        path.write_bytes(content[:end])
        with pytest.raises(ValueError, match=r"cut\."):
            read_mesh(path)


PLY = "ply\nformat ascii 1.0\n"
POINT = ascii_ply(1, 1) + "1 2 3\n"


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("m.ply", PLY + "element vertex 1\n", "header does not end"),
        ("m.ply", "ply\nformat odd 1.0\nend_header\n", "format 'odd' is unknown"),
        ("m.ply", "ply\nelement vertex 1\nend_header\n", "format '' is unknown"),
        ("m.ply", PLY + "end_header\n", "without vertices"),
        ("m.ply", PLY + "element vertex -1\nend_header\n", "'element vertex -1' is not understood"),
        ("m.ply", PLY + "property float x\nend_header\n", "'property float x' is not understood"),
        ("m.ply", PLY + "element v 1\nproperty word x\nend_header\n", "'property word x'"),
        ("m.ply", ascii_ply(1).replace("property float z\n", "") + "1 2\n", "have no number 'z'"),
        ("m.ply", ascii_ply(10**15) + "1 2\n", "cut short"),
        ("m.ply", ascii_ply(1) + "1 2 three\n", "three"),
        ("m.ply", POINT + "3 0 0 1\n", "beyond the 1 of the file"),
        ("m.ply", POINT + "4 0 0 0 -1\n", "beyond the 1 of the file"),
        ("m.ply", POINT + "3 0 0 0.5\n", "not whole numbers"),
        ("m.ply", POINT + "3 0 0 nan\n", "not whole numbers"),
        ("m.ply", POINT + "-1\n", "has -1 entries"),
        ("m.ply", POINT + "3.5 0 0 0\n", "has 3.5 entries"),
        ("m.ply", POINT + "inf 0 0 0\n", "has inf entries"),
        ("m.obj", "v 1 2 3\nv 1 2\n", "line 2 is not understood: 'v 1 2'"),
        ("m.obj", "v 1 2 3\nf 1 1\n", "line 2 is not understood"),
        ("m.obj", "v 1 2 3\nf 1 1 0\n", "line 2 is not understood"),
        ("m.obj", f"v 1 2 3\nf 1 1 {10**30}\n", "line 2 is not understood"),
        ("m.obj", "v 1 2 3\nf 1 1 2\n", "beyond the 1 of the file"),
        ("m.obj", "v 1 2 3\nf 1 1 -2\n", "beyond the 1 of the file"),
        ("m.obj", "# nothing\n", "without vertices"),
        ("m.stl", "solid x", "neither a PLY nor a GLB file nor named"),
    ],
)
def test_malformed_texts_are_named(tmp_path, name, content, match):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ValueError, match=match) as caught:
        read_mesh(path)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("made", "match"),
    [
        (glb_document(extensionsRequired=["KHR_draco_mesh_compression"]), "needs the extensions"),
        (glb_document(meshes=[]), r"no meshes\[0\]"),
        (glb_document(meshes=7), r"no meshes\[0\]"),
        (glb_document(meshes=[{"primitives": [5]}]), r"no primitives\[0\]"),
        (glb_document("primitive", attributes={}), "no POSITION"),
        (glb_document("primitive", mode=1), "not made of triangles"),
        (glb_document("primitive", indices=9), r"no accessors\[9\]"),
        (glb_document("positions", bufferView=True), r"no bufferViews\[True\]"),
        (glb_document("positions", type="VEC4"), "something else than VEC3"),
        (glb_document("positions", componentType=5123), "something else than VEC3"),
        (glb_document("positions", componentType=[1]), "something else than VEC3"),
        (glb_document("positions", sparse={}), "sparse or empty"),
        (glb_document("positions", count=9), "reaches beyond the file"),
        (glb_document("positions", count=10**30), "reaches beyond the file"),
        (glb_document("positions", count=-1), "expected a whole number"),
        (glb_document("positions", count=2.5), "expected a whole number"),
        (glb_document("positions", count=0), "without vertices"),
        (glb_document("positions", count=5), "beyond the 5 of the file"),
        (glb_document("view", byteStride=4), "reaches beyond"),
        (glb_document("view", byteLength=10**9), None),
        (glb_document("view", buffer=1), "in another file"),
        (glb_document("indices", count=35), "do not make whole triangles"),
        (b"{not json", "not JSON"),
        (b"[1]", "is no object"),
        (b"[" * 200_000, "nested too deeply|not JSON"),
        (b'{"meshes": "\xff"}', "not JSON"),
    ],
)
def test_malformed_glb_files_are_named(tmp_path, made, match):
    path = tmp_path / "made.glb"
    path.write_bytes(glb(made, glb_numbers()))
    if match is None:
        assert torch.equal(read_mesh(path)[0], CUBE)
        return
    with pytest.raises(ValueError, match=match) as caught:
        read_mesh(path)
    assert "made.glb" in str(caught.value)


def test_another_version_a_missing_and_a_huge_file_are_named(tmp_path, monkeypatch):
    path = tmp_path / "m.glb"
    path.write_bytes(glb(glb_document(), glb_numbers(), version=1))
    with pytest.raises(ValueError, match="version 1, expected 2"):
        read_mesh(path)
    with pytest.raises(FileNotFoundError, match=r"absent\.ply: there is no such file"):
        read_mesh(tmp_path / "absent.ply")
    monkeypatch.setattr("fantasyid.geometry.files.MAX_FILE_BYTES", 100)
    with pytest.raises(ValueError, match="larger than 100 bytes"):
        read_mesh(path)
