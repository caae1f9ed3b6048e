"""Meshes go to disk and come back, in every form of the formats."""

from __future__ import annotations

import json
import struct
import time
import tracemalloc

import numpy as np
import pytest
import torch
from geometry.meshes import CUBE, CUBE_TRIANGLES, ascii_ply, glb, glb_document, glb_numbers
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fantasyid.geometry.files import FORMATS, check_flame_vertices, mesh_bytes, read_mesh
from fantasyid.geometry.glb import parse_glb
from fantasyid.geometry.normals import vertex_normals

pytestmark = pytest.mark.slow


@st.composite
def meshes(draw) -> tuple[torch.Tensor, torch.Tensor]:
    num_vertices = draw(st.integers(1, 12))
    finite = st.floats(-(2.0**100), 2.0**100, width=32)
    vertices = draw(arrays.arrays(np.float32, (num_vertices, 3), elements=finite))
    corners = st.integers(0, num_vertices - 1)
    shape = (draw(st.integers(0, 6)), 3)
    triangles = draw(arrays.arrays(np.int64, shape, elements=corners))
    return torch.from_numpy(vertices), torch.from_numpy(triangles)


def assert_holds(path, vertices, triangles) -> None:
    got, corners = read_mesh(path)
    assert torch.equal(got, vertices)
    assert (corners is None) == (len(triangles) == 0)
    assert corners is None or torch.equal(corners, triangles)


@given(mesh=meshes(), form=st.sampled_from(FORMATS))
def test_a_mesh_comes_back_exactly(tmp_path, mesh, form):
    vertices, triangles = mesh
    if form == "glb" and not len(triangles):
        triangles = torch.zeros(1, 3, dtype=torch.int64)
    path = tmp_path / f"mesh.{form}"
    path.write_bytes(mesh_bytes(form, vertices, triangles))
    assert_holds(path, vertices, triangles)


@given(
    mesh=meshes(),
    form=st.sampled_from(["ascii", "binary_little_endian", "binary_big_endian"]),
    number=st.sampled_from(["float", "double", "float64"]),
    index=st.sampled_from(["int", "uint", "ushort", "uchar", "int16"]),
    extra=st.booleans(),
    faces_first=st.booleans(),
    newline=st.sampled_from(["\n", "\r\n"]),
)
def test_every_form_of_ply_is_read(
    tmp_path, mesh, form, number, index, extra, faces_first, newline
):
    vertices, triangles = mesh
    order = ">" if "big" in form else "<"
    code = {"int": "i4", "uint": "u4", "ushort": "u2", "uchar": "u1", "int16": "i2"}[index]
    axes = [(a, order + ("f4" if number == "float" else "f8")) for a in "xyz"]
    types = [("quality", order + "i2"), *axes, ("red", "u1")] if extra else axes
    rows = np.zeros(len(vertices), types)
    for axis, name in enumerate("xyz"):
        rows[name] = vertices[:, axis].numpy()
    faces = np.zeros(
        len(triangles), [("n", "u1"), ("i", order + code, (3,)), ("flag", order + "f4")]
    )
    faces["n"], faces["i"], faces["flag"] = 3, triangles.numpy(), 0.25
    names = {"f4": "float", "f8": number, "i2": "short", "u1": "uchar"}
    vertex_header = [f"element vertex {len(rows)}", "comment by hand"]
    vertex_header += [f"property {names[t[-2:]]} {n}" for n, t in types]
    face_header = [f"element face {len(faces)}", f"property list uchar {index} vertex_index"]
    face_header += ["property float flag"]
    unknown = ["element camera 2", "property double w", "property list uchar float k"]
    tables = [(vertex_header, rows), (face_header, faces)]
    if faces_first:
        tables.reverse()
    cameras = np.zeros(2, [("w", order + "f8"), ("n", "u1"), ("k", order + "f4", (2,))])
    cameras["n"] = 2
    tables.insert(1, (unknown, cameras))
    header = ["ply", f"format {form} 1.0", *[line for t in tables for line in t[0]], "end_header"]
    body = b"".join(t[1].tobytes() for t in tables)
    if form == "ascii":
        body = "".join(_as_text(t[1]) for t in tables).encode()
    path = tmp_path / "mesh.ply"
    path.write_bytes((newline.join(header) + newline).encode() + body)
    assert_holds(path, vertices, triangles)


def _as_text(rows: np.ndarray) -> str:
    lines = (np.hstack([np.ravel(part) for part in row]).tolist() for row in rows.tolist())
    return "".join(" ".join(map(repr, line)) + "\n" for line in lines)


def test_polygons_become_triangles(tmp_path):
    points = torch.tensor([[i, i * i, 0.0] for i in range(6)])
    expected = torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 4], [3, 4, 5]])
    path = tmp_path / "mesh.ply"
    numbers = "".join(f"{i} {i * i} 0\n" for i in range(6))
    path.write_text(ascii_ply(6, 3) + numbers + "5 0 1 2 3 4\n3 3 4 5\n2 0 1\n")
    assert_holds(path, points, expected)
    faces = b"".join(
        bytes([len(face)]) + struct.pack(f">{len(face)}i", *face)
        for face in ((0, 1, 2, 3, 4), (3, 4, 5), (0, 1))
    )
    header = ascii_ply(6, 3, "binary_big_endian").encode()
    path.write_bytes(header + points.numpy().astype(">f4").tobytes() + faces)
    assert_holds(path, points, expected)
    lines = "# made by hand\no head\n" + "".join(f"v {i} {i * i} 0 1.0\n" for i in range(6))
    path = tmp_path / "mesh.obj"
    path.write_text(lines + "vt 0 0\nvn 0 0 1\nf 1/1/1 2/1 3//1 4 5\nf -3 -2 -1\n")
    assert_holds(path, points, expected)


def test_the_released_point_cloud_is_read(shared):
    path = shared / "data" / "newton.ply"
    vertices, triangles = read_mesh(path)
    assert triangles is None
    raw = path.read_bytes()
    body = raw[raw.index(b"end_header\n") + 11 :]
    expected = np.array(struct.unpack(f"<{5023 * 3}d", body)).reshape(-1, 3)
    assert np.array_equal(vertices.double().numpy(), expected)
    check_flame_vertices(vertices, "newton.ply")


def test_interleaved_positions_and_short_indices_of_a_glb_are_read(tmp_path):
    path = tmp_path / "other.glb"
    path.write_bytes(glb(glb_document(), glb_numbers()))
    assert_holds(path, CUBE, CUBE_TRIANGLES)
    made = glb_document("positions", count=6)
    del made["meshes"][0]["primitives"][0]["indices"]
    path.write_bytes(glb(made, glb_numbers()))
    assert_holds(path, CUBE[:6], torch.arange(6).reshape(2, 3))


def test_a_glb_has_normals_bounds_and_a_material():
    content = mesh_bytes("glb", CUBE - 0.5, CUBE_TRIANGLES)
    vertices, triangles = parse_glb(content)
    assert np.array_equal(vertices, (CUBE - 0.5).numpy())
    assert np.array_equal(triangles, CUBE_TRIANGLES.numpy())
    length = struct.unpack_from("<I", content, 12)[0]
    document = json.loads(content[20 : 20 + length])
    assert struct.unpack_from("<I", content, 8) == (len(content),)
    assert len(content) % 4 == length % 4 == 0
    (primitive,) = document["meshes"][0]["primitives"]
    assert primitive == {"attributes": {"POSITION": 1, "NORMAL": 2}, "indices": 0, "material": 0}
    assert document["accessors"][1]["min"] == [-0.5] * 3
    assert document["accessors"][1]["max"] == [0.5] * 3
    assert len(document["materials"][0]["pbrMetallicRoughness"]["baseColorFactor"]) == 4
    view = document["bufferViews"][2]
    body = content[28 + length :]
    assert document["buffers"] == [{"byteLength": len(body)}]
    part = body[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
    normals = np.frombuffer(part, "<f4").reshape(-1, 3)
    assert np.array_equal(normals, vertex_normals(CUBE - 0.5, CUBE_TRIANGLES).numpy())
    assert ((normals * vertices).sum(1) > 0).all()


def test_the_text_of_a_glb_is_filled_up_with_spaces():
    """glTF 2.0, section 4.4.3.2: a chunk's length is a multiple of four."""
    filled = set()
    for width in range(4):
        content = mesh_bytes("glb", CUBE * (1.0 + 0.5 ** (1 + width)), CUBE_TRIANGLES)
        length = struct.unpack_from("<I", content, 12)[0]
        text = content[20 : 20 + length]
        assert length % 4 == 0
        assert text.rstrip(b" ").endswith(b"}")
        filled.add(length - len(text.rstrip(b" ")))
    assert len(filled) > 1, "one length of text would not show that it is filled up"


def test_normals_follow_area_and_degenerate_meshes_have_some():
    normals = vertex_normals(CUBE - 0.5, CUBE_TRIANGLES)
    tiny = vertex_normals((CUBE - 0.5) * 1e-6, CUBE_TRIANGLES)
    torch.testing.assert_close(tiny, normals)
    expected = torch.zeros(8, 3)
    for triangle in CUBE_TRIANGLES.tolist():
        a, b, c = (CUBE[i] for i in triangle)
        for corner in triangle:
            expected[corner] += torch.linalg.cross(b - a, c - a)
    expected /= torch.linalg.vector_norm(expected, dim=1, keepdim=True)
    torch.testing.assert_close(normals, expected)
    flat = vertex_normals(torch.zeros(4, 3), torch.tensor([[0, 1, 2]]))
    assert torch.equal(flat, torch.tensor([[0.0, 0.0, 1.0]]).repeat(4, 1))


@pytest.mark.parametrize(
    ("form", "vertices", "triangles", "match"),
    [
        ("glb", CUBE, CUBE_TRIANGLES[:0], "there is no triangle"),
        ("glb", CUBE, None, "there is no triangle"),
        ("glb", CUBE * float("nan"), CUBE_TRIANGLES, "is not finite"),
        ("ply", CUBE, CUBE_TRIANGLES + 1, r"corner lies outside 0\.\.7"),
        ("ply", CUBE, CUBE_TRIANGLES - 1, r"corner lies outside 0\.\.7"),
        ("obj", CUBE[:, :2], CUBE_TRIANGLES, r"expected the shape \(V, 3\), got \(8, 2\)"),
        ("obj", CUBE, CUBE_TRIANGLES[:, :2], r"expected the shape \(T, 3\), got \(12, 2\)"),
        ("stl", CUBE, CUBE_TRIANGLES, "expected a format of ply, obj, glb, got 'stl'"),
    ],
)
def test_what_cannot_be_written_is_named(form, vertices, triangles, match):
    with pytest.raises(ValueError, match=match):
        mesh_bytes(form, vertices, triangles)


COUNT = 20_000
LARGE = {
    "ascii.ply": lambda: (
        ascii_ply(COUNT, COUNT) + "1 2 3\n" * COUNT + "3 1 2 3\n" * COUNT
    ).encode(),
    "m.obj": lambda: ("v 1 2 3\n" * COUNT + "f 1 2 3\n" * COUNT).encode(),
    "triangles.ply": lambda: binary_ply(bytes([3]) + bytes(12)),
    "quads.ply": lambda: binary_ply(bytes([4]) + bytes(16)),
    "mixed.ply": lambda: binary_ply(bytes([4]) + bytes(16), bytes([3]) + bytes(12), bytes(1)),
    "m.glb": lambda: mesh_bytes("glb", torch.rand(COUNT, 3), torch.randint(0, COUNT, (COUNT, 3))),
}


def binary_ply(*faces: bytes) -> bytes:
    header = ascii_ply(COUNT, COUNT, "binary_little_endian").encode()
    rows = b"".join(faces[i % len(faces)] for i in range(COUNT))
    return header + np.zeros((COUNT, 3), "<f4").tobytes() + rows


@pytest.mark.parametrize("name", LARGE)
def test_reading_takes_a_few_times_the_file(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(LARGE[name]())
    start = time.process_time()
    vertices, triangles = read_mesh(path)
    assert time.process_time() - start < 1.0, "faces of any shape take a fraction of a second"
    assert len(vertices) == COUNT
    assert triangles is not None
    tracemalloc.start()
    read_mesh(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * path.stat().st_size


def test_only_heads_in_meters_pass_the_check():
    head = torch.randn(5023, 3, generator=torch.Generator().manual_seed(0)) * 0.05
    check_flame_vertices(head, "head.ply")
    check_flame_vertices(head + torch.tensor([0.0, 1.5, 0.0]), "head.ply")
    broken = head.clone()
    broken[7, 1] = float("nan")
    for vertices, match in (
        (head[1:], r"head\.ply: vertices of the shape \(5022, 3\), expected \(5023, 3\)"),
        (head[None], r"of the shape \(1, 5023, 3\)"),
        (broken, "not finite"),
        (head * 1000, "millimeters or centimeters"),
        (head * 0.01, "expected 0.15 to 1.5 meters"),
        (head + torch.tensor([0.0, 0.0, 0.9]), "center lies at z = 0.89"),
    ):
        with pytest.raises(ValueError, match=match):
            check_flame_vertices(vertices, "head.ply")
