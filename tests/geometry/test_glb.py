"""GLB files come back exactly, whoever wrote them, or are refused by name."""

from __future__ import annotations

import json
import struct
import tracemalloc

import numpy as np
import pytest
import torch

from fantasyid.geometry.files import read_mesh, read_vertices, write_glb

CUBE = torch.tensor([[x, y, z] for x in (0.0, 1) for y in (0.0, 1) for z in (0.0, 1)])
CUBE_TRIANGLES = torch.tensor(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
     [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
)  # fmt: skip


def glb(document: dict | bytes, binary: bytes, version: int = 2) -> bytes:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    total = 28 + len(text) + len(binary)
    head = struct.pack("<4sIII4s", b"glTF", version, total, len(text), b"JSON")
    return head + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary


def document(**changes) -> dict:
    """Positions interleaved with something else, then two-byte indices."""
    made = {
        "asset": {"version": "2.0"},
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "type": "VEC3", "count": 8, "byteOffset": 4},
            {"bufferView": 1, "componentType": 5123, "type": "SCALAR", "count": 36},
        ],
        "bufferViews": [
            {"buffer": 0, "byteLength": 8 * 16, "byteStride": 16},
            {"buffer": 0, "byteOffset": 8 * 16, "byteLength": 72},
        ],
        "buffers": [{"byteLength": 200}],
    }
    return made | changes


def binary() -> bytes:
    rows = np.zeros(8, [("other", "<f4"), ("xyz", "<f4", (3,))])
    rows["xyz"] = CUBE.numpy()
    return rows.tobytes() + CUBE_TRIANGLES.numpy().astype("<u2").tobytes()


@pytest.mark.parametrize("seed", range(8))
def test_what_we_write_comes_back_exactly(tmp_path, seed):
    generator = torch.Generator().manual_seed(seed)
    vertices = torch.randn(3 + seed, 3, generator=generator) * 10.0 ** (seed - 4)
    triangles = torch.randint(0, 3 + seed, (1 + 2 * seed, 3), generator=generator)
    colors = torch.rand(3 + seed, 3, generator=generator) if seed % 2 else None
    path = tmp_path / "head.glb"
    write_glb(path, vertices, triangles, colors)
    got, corners = read_mesh(path)
    assert torch.equal(got, vertices)
    assert corners is not None
    assert torch.equal(corners, triangles)
    assert torch.equal(read_vertices(path), vertices)


def test_interleaved_positions_and_short_indices_are_read(tmp_path):
    path = tmp_path / "other.glb"
    path.write_bytes(glb(document(), binary()))
    vertices, triangles = read_mesh(path)
    assert torch.equal(vertices, CUBE)
    assert triangles is not None
    assert torch.equal(triangles, CUBE_TRIANGLES)


def test_without_indices_three_vertices_are_a_triangle(tmp_path):
    made = document(meshes=[{"primitives": [{"attributes": {"POSITION": 0}}]}])
    made["accessors"][0]["count"] = 6
    path = tmp_path / "soup.glb"
    path.write_bytes(glb(made, binary()))
    vertices, triangles = read_mesh(path)
    assert len(vertices) == 6
    assert triangles is not None
    assert triangles.tolist() == [[0, 1, 2], [3, 4, 5]]


def changed(where: str, **changes) -> dict:
    made = document()
    part = made["accessors"][0] if where == "positions" else made["accessors"][1]
    part = made["bufferViews"][0] if where == "view" else part
    part = made["meshes"][0]["primitives"][0] if where == "primitive" else part
    part.update(changes)
    return made


@pytest.mark.parametrize(
    ("made", "match"),
    [
        (document(extensionsRequired=["KHR_draco_mesh_compression"]), "needs the extensions"),
        (document(meshes=[]), r"no meshes\[0\]"),
        (document(meshes=7), r"no meshes\[0\]"),
        (document(meshes=[{"primitives": [5]}]), r"no primitives\[0\]"),
        (changed("primitive", attributes={}), "no POSITION"),
        (changed("primitive", mode=1), "not made of triangles"),
        (changed("primitive", indices=9), r"no accessors\[9\]"),
        (changed("positions", bufferView=True), r"no bufferViews\[True\]"),
        (changed("positions", type="VEC4"), "something else than VEC3"),
        (changed("positions", componentType=5123), "something else than VEC3"),
        (changed("positions", componentType=[1]), "something else than VEC3"),
        (changed("positions", sparse={}), "sparse or empty"),
        (changed("positions", count=9), "reaches beyond the file"),
        (changed("positions", count=10**30), "reaches beyond the file"),
        (changed("positions", count=-1), "expected a whole number"),
        (changed("positions", count=2.5), "expected a whole number"),
        (changed("positions", count=0), "without vertices"),
        (changed("positions", count=5), r"outside 0\.\.4"),
        (changed("view", byteStride=4), "reaches beyond"),
        (changed("view", byteLength=10**9), None),
        (changed("view", buffer=1), "in another file"),
        (changed("indices", count=35), "do not make whole triangles"),
        (b"{not json", "not JSON"),
        (b"[1]", "is no object"),
        (b"[" * 200_000, "nested too deeply|not JSON"),
        (b'{"meshes": "\xff"}', "not JSON"),
    ],
)
def test_malformed_files_are_named(tmp_path, made, match):
    path = tmp_path / "made.glb"
    path.write_bytes(glb(made, binary()))
    if match is None:
        assert torch.equal(read_mesh(path)[0], CUBE)
        return
    with pytest.raises(ValueError, match=match) as caught:
        read_mesh(path)
    assert "made.glb" in str(caught.value)


def test_a_glb_cut_anywhere_or_of_another_version_is_refused(tmp_path):
    path = tmp_path / "cut.glb"
    content = glb(document(), binary())
    for end in range(4, len(content)):
        path.write_bytes(content[:end])
        with pytest.raises(ValueError, match=r"cut\.glb"):
            read_mesh(path)
    path.write_bytes(glb(document(), binary(), version=1))
    with pytest.raises(ValueError, match="version 1, expected 2"):
        read_mesh(path)


def test_reading_takes_a_few_times_the_file(tmp_path):
    path = tmp_path / "large.glb"
    write_glb(path, torch.rand(40_000, 3), torch.randint(0, 40_000, (80_000, 3)))
    tracemalloc.start()
    read_mesh(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * path.stat().st_size
