"""Meshes go to disk and come back, in every form of the formats, or are refused by name."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fantasyid.geometry.files import (
    check_flame_vertices,
    glb_bytes,
    read_mesh,
    read_vertices,
    write_glb,
    write_obj,
    write_ply,
)
from fantasyid.geometry.normals import vertex_normals

relaxed = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
finite = st.floats(-(2.0**100), 2.0**100, width=32)
CUBE = torch.tensor([[x, y, z] for x in (0.0, 1) for y in (0.0, 1) for z in (0.0, 1)])
CUBE_TRIANGLES = torch.tensor(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
     [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
)  # fmt: skip


@st.composite
def meshes(draw) -> tuple[torch.Tensor, torch.Tensor]:
    num_vertices = draw(st.integers(1, 12))
    vertices = draw(arrays.arrays(np.float32, (num_vertices, 3), elements=finite))
    corners = st.integers(0, num_vertices - 1)
    shape = (draw(st.integers(0, 6)), 3)
    triangles = draw(arrays.arrays(np.int64, shape, elements=corners))
    return torch.from_numpy(vertices), torch.from_numpy(triangles)


@relaxed
@given(mesh=meshes(), colored=st.booleans(), suffix=st.sampled_from([".ply", ".obj"]))
def test_a_mesh_comes_back_exactly(tmp_path, mesh, colored, suffix):
    vertices, triangles = mesh
    path = tmp_path / f"mesh{suffix}"
    write = write_ply if suffix == ".ply" else write_obj
    write(path, vertices, triangles, torch.full_like(vertices, 0.5) if colored else None)
    assert torch.equal(read_vertices(path), vertices)
    got, corners = read_mesh(path)
    assert torch.equal(got, vertices)
    assert (corners is None) == (len(triangles) == 0)
    assert corners is None or torch.equal(corners, triangles)


@relaxed
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
    got, corners = read_mesh(path)
    assert torch.equal(got, vertices)
    assert torch.equal(read_vertices(path), vertices)
    assert corners is None or torch.equal(corners, triangles)
    assert (corners is None) == (len(triangles) == 0)


def _as_text(rows: np.ndarray) -> str:
    lines = (np.hstack([np.ravel(part) for part in row]).tolist() for row in rows.tolist())
    return "".join(" ".join(map(repr, line)) + "\n" for line in lines)


def test_polygons_become_triangles(tmp_path):
    header = (
        "ply\nformat ascii 1.0\nelement vertex 6\nproperty float x\nproperty float y\n"
        "property float z\nelement face 3\nproperty list uchar int vertex_indices\nend_header\n"
    )
    points = "".join(f"{i} {i * i} 0\n" for i in range(6))
    path = tmp_path / "mesh.ply"
    path.write_text(header + points + "5 0 1 2 3 4\n3 3 4 5\n2 0 1\n")
    expected = [[0, 1, 2], [0, 2, 3], [0, 3, 4], [3, 4, 5]]
    corners = read_mesh(path)[1]
    assert corners is not None
    assert corners.tolist() == expected
    lines = "# made by hand\no head\n" + "".join(f"v {i} {i * i} 0 1.0\n" for i in range(6))
    lines += "vt 0 0\nvn 0 0 1\nf 1/1/1 2/1 3//1 4 5\nf -3 -2 -1\n"
    path = tmp_path / "mesh.obj"
    path.write_text(lines)
    vertices, corners = read_mesh(path)
    assert corners is not None
    assert corners.tolist() == expected
    assert vertices[5].tolist() == [5, 25, 0]


def test_the_released_point_cloud_is_read(shared):
    path = shared / "data" / "newton.ply"
    vertices, triangles = read_mesh(path)
    assert triangles is None
    raw = path.read_bytes()
    body = raw[raw.index(b"end_header\n") + 11 :]
    expected = np.array(struct.unpack(f"<{5023 * 3}d", body)).reshape(-1, 3)
    assert np.array_equal(vertices.double().numpy(), expected)
    check_flame_vertices(vertices, "newton.ply")


@relaxed
@given(
    cut=st.floats(0, 1, exclude_max=True),
    form=st.sampled_from(["ascii", "binary_little_endian"]),
)
def test_a_ply_cut_anywhere_is_refused_by_name(tmp_path, cut, form):
    path = tmp_path / "cut.ply"
    if form == "ascii":
        header = "ply\nformat ascii 1.0\nelement vertex 8\nproperty float x\nproperty float y\n"
        header += "property float z\nend_header\n"
        body = "\n".join(" ".join(f"{x}" for x in row) for row in CUBE.int().tolist())
        content = (header + body).encode()
    else:
        write_ply(path, CUBE, CUBE_TRIANGLES)
        content = path.read_bytes()
    path.write_bytes(content[: int(cut * len(content))])
    with pytest.raises(ValueError, match=r"cut\.ply"):
        read_mesh(path)


@relaxed
@given(position=st.integers(0, 10**6), value=st.integers(0, 255))
def test_a_damaged_ply_is_read_or_refused_by_name(tmp_path, position, value):
    path = tmp_path / "damaged.ply"
    write_ply(path, CUBE, CUBE_TRIANGLES)
    content = bytearray(path.read_bytes())
    content[position % len(content)] = value
    path.write_bytes(content)
    message = "damaged.ply"
    try:
        read_mesh(path)
    except ValueError as error:
        message = str(error)
    assert "damaged.ply" in message


HEADER = "ply\nformat ascii 1.0\nelement vertex {}\nproperty float x\nproperty float y\n"


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("m.ply", "ply\nformat ascii 1.0\nelement vertex 1\n", "header does not end"),
        ("m.ply", "ply\nformat odd 1.0\nend_header\n", "format 'odd' is unknown"),
        ("m.ply", "ply\nformat ascii 1.0\nend_header\n", "without vertices"),
        ("m.ply", "ply\nelement vertex -1\nend_header\n", "'element vertex -1' is not understood"),
        ("m.ply", "ply\nproperty float x\nend_header\n", "'property float x' is not understood"),
        ("m.ply", "ply\nelement v 1\nproperty word x\nend_header\n", "'property word x'"),
        ("m.ply", HEADER.format(1) + "end_header\n1 2\n", "have no number 'z'"),
        ("m.ply", HEADER.format(10**15) + "end_header\n1 2\n", "cut short"),
        ("m.ply", HEADER.format(1) + "property float z\nend_header\n1 2 three\n", "three"),
        ("m.obj", "v 1 2 3\nv 1 2\n", "line 2 is not understood: 'v 1 2'"),
        ("m.obj", "v 1 2 3\nf 1 1\n", "line 2 is not understood"),
        ("m.obj", "v 1 2 3\nf 1 1 0\n", "line 2 is not understood"),
        ("m.obj", f"v 1 2 3\nf 1 1 {10**30}\n", "line 2 is not understood"),
        ("m.obj", "v 1 2 3\nf 1 1 2\n", r"outside 1\.\.1"),
        ("m.obj", "v 1 2 3\nf 1 1 -2\n", r"outside 1\.\.1"),
        ("m.obj", "# nothing\n", "without vertices"),
        ("m.stl", "solid x", "neither a PLY nor a GLB file nor named"),
    ],
)
def test_malformed_files_are_named(tmp_path, name, content, match):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ValueError, match=match) as caught:
        read_mesh(path)
    assert name in str(caught.value)


def test_faces_outside_the_mesh_are_refused(tmp_path):
    header = HEADER.format(1) + "property float z\nelement face 1\n"
    header += "property list uchar int vertex_indices\nend_header\n1 2 3\n"
    path = tmp_path / "m.ply"
    for face, match in (
        ("3 0 0 1", r"outside 0\.\.0"),
        ("4 0 0 0 -1", r"outside 0\.\.0"),
        ("3 0 0 0.5", "not whole numbers"),
        ("3 0 0 nan", "not whole numbers"),
        ("-1", "has -1 entries"),
    ):
        path.write_text(header + face + "\n")
        with pytest.raises(ValueError, match=match):
            read_mesh(path)


def test_a_missing_and_a_huge_file_are_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"absent\.ply: there is no such file"):
        read_vertices(tmp_path / "absent.ply")
    path = tmp_path / "m.ply"
    write_ply(path, CUBE, None)
    monkeypatch.setattr("fantasyid.geometry.files.MAX_FILE_BYTES", 100)
    with pytest.raises(ValueError, match="larger than 100 bytes"):
        read_vertices(path)


@pytest.mark.parametrize("kind", ["ascii ply", "binary ply", "binary ply of quads", "obj"])
def test_reading_takes_a_few_times_the_file(tmp_path, kind):
    path = tmp_path / ("m.obj" if kind == "obj" else "m.ply")
    count = 20_000
    header = f"ply\nformat {{}} 1.0\nelement vertex {count}\nproperty float x\nproperty float y\n"
    header += f"property float z\nelement face {count}\nproperty list uchar int vertex_indices\n"
    header += "end_header\n"
    if kind == "ascii ply":
        path.write_text(header.format("ascii") + "1 2 3\n" * count + "3 1 2 3\n" * count)
    elif kind == "obj":
        path.write_text("v 1 2 3\n" * count + "f 1 2 3\n" * count)
    else:
        corners = 4 if "quads" in kind else 3
        body = np.zeros((count, 3), "<f4").tobytes()
        body += (bytes([corners]) + bytes(4 * corners)) * count
        path.write_bytes(header.format("binary_little_endian").encode() + body)
    tracemalloc.start()
    vertices, triangles = read_mesh(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(vertices) == count
    assert triangles is not None
    assert peak < 10 * path.stat().st_size


def parse_glb(content: bytes) -> tuple[dict, list[np.ndarray]]:
    magic, version, total = struct.unpack_from("<4sII", content)
    assert (magic, version, total) == (b"glTF", 2, len(content))
    length, kind = struct.unpack_from("<I4s", content, 12)
    assert kind == b"JSON"
    assert length % 4 == 0
    document = json.loads(content[20 : 20 + length])
    start = 20 + length
    binary_length, kind = struct.unpack_from("<I4s", content, start)
    assert kind == b"BIN\0"
    assert binary_length % 4 == 0
    assert start + 8 + binary_length == total
    assert document["buffers"] == [{"byteLength": binary_length}]
    parts = []
    types = {5126: "<f4", 5125: "<u4", 5121: "u1"}
    widths = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}
    for accessor in document["accessors"]:
        view = document["bufferViews"][accessor["bufferView"]]
        assert view["byteOffset"] % 4 == 0
        at = start + 8 + view["byteOffset"]
        values = np.frombuffer(
            content[at : at + view["byteLength"]], types[accessor["componentType"]]
        )
        parts.append(values.reshape(accessor["count"], widths[accessor["type"]]))
    return document, parts


def test_a_glb_holds_the_mesh_its_normals_and_its_bounds():
    stream = io.BytesIO()
    colors = torch.rand(8, 3, generator=torch.Generator().manual_seed(0))
    write_glb(stream, CUBE - 0.5, CUBE_TRIANGLES, colors)
    document, (corners, positions, normals, rgba) = parse_glb(stream.getvalue())
    (primitive,) = document["meshes"][0]["primitives"]
    assert primitive["attributes"] == {"POSITION": 1, "NORMAL": 2, "COLOR_0": 3}
    assert primitive["indices"] == 0
    assert np.array_equal(corners.reshape(-1, 3), CUBE_TRIANGLES.numpy())
    assert np.array_equal(positions, (CUBE - 0.5).numpy())
    assert document["accessors"][1]["min"] == [-0.5] * 3
    assert document["accessors"][1]["max"] == [0.5] * 3
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)
    assert ((normals * positions).sum(1) > 0).all()
    assert document["accessors"][3]["normalized"] is True
    np.testing.assert_allclose(rgba[:, :3] / 255, colors.numpy(), atol=0.5 / 255 + 1e-6)
    assert (rgba[:, 3] == 255).all()
    plain, parts = parse_glb(glb_bytes(CUBE, CUBE_TRIANGLES, torch.from_numpy(normals.copy())))
    assert len(parts) == 3
    assert len(plain["materials"][0]["pbrMetallicRoughness"]["baseColorFactor"]) == 4


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


def test_what_cannot_be_written_is_named(tmp_path):
    normals = torch.zeros(8, 3)
    with pytest.raises(ValueError, match=r"expected \(T, 3\) triangles, got \(0, 3\)"):
        glb_bytes(CUBE, CUBE_TRIANGLES[:0], normals)
    with pytest.raises(ValueError, match=r"vertex outside 0\.\.7"):
        glb_bytes(CUBE, CUBE_TRIANGLES + 1, normals)
    with pytest.raises(ValueError, match="vertices has values that are not finite"):
        glb_bytes(CUBE * float("nan"), CUBE_TRIANGLES, normals)
    with pytest.raises(ValueError, match=r"normals has the shape \(7, 3\), expected \(8, 3\)"):
        glb_bytes(CUBE, CUBE_TRIANGLES, normals[1:])
    path = tmp_path / "m.ply"
    with pytest.raises(ValueError, match=r"corner lies outside 0\.\.7"):
        write_ply(path, CUBE, CUBE_TRIANGLES + 1)
    with pytest.raises(ValueError, match=r"expected the shape \(V, 3\), got \(8, 2\)"):
        write_obj(path, CUBE[:, :2], CUBE_TRIANGLES)
    with pytest.raises(ValueError, match=r"expected the shape \(T, 3\), got \(12, 2\)"):
        write_obj(path, CUBE, CUBE_TRIANGLES[:, :2])
    assert not Path(path).exists()


def test_only_heads_in_metres_pass_the_check():
    head = torch.randn(5023, 3, generator=torch.Generator().manual_seed(0)) * 0.05
    check_flame_vertices(head, "head.ply")
    check_flame_vertices(head + torch.tensor([0.0, 1.5, 0.0]), "head.ply")
    broken = head.clone()
    broken[7, 1] = float("nan")
    for vertices, match in (
        (head[1:], r"head\.ply: vertices of the shape \(5022, 3\), expected \(5023, 3\)"),
        (head[None], r"of the shape \(1, 5023, 3\)"),
        (broken, "not finite"),
        (head * 1000, "millimetres or centimetres"),
        (head * 0.01, "expected 0.15 to 1.5 metres"),
        (head + torch.tensor([0.0, 0.0, 0.9]), "centre lies at z = 0.89"),
    ):
        with pytest.raises(ValueError, match=match):
            check_flame_vertices(vertices, "head.ply")
