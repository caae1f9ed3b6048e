"""The head's nodes on the real host, with tiny format-true files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from host_client import bundled, changed, node_of
from host_graph import average
from host_graph import face_vertices as vertices_of

from fantasyid.geometry.files import mesh_bytes, read_mesh

AT_REST = dict.fromkeys(
    ("face_width", "jaw_sharpness", "chin_depth", "cheek_depth", "nose_depth", "brow_depth"), 0.0
)


@pytest.fixture(scope="module")
def deca(loaded):
    return loaded["deca"]


@pytest.fixture(scope="module")
def adapter(loaded):
    return loaded["adapter"]


@pytest.fixture(scope="module")
def face(ours, photo_image):
    crop = torch.zeros(1, 512, 512, 3)
    kind = ours("fantasyid.identity").FaceCrops
    return kind(crop, photo_image, "test", box=(175.0, 60.0, 275.0, 190.0))


@pytest.fixture(scope="module")
def head(host, loaded, face):
    return vertices_of(host, loaded, face)


@pytest.fixture(scope="module")
def neutral(host, loaded, face):
    return vertices_of(host, loaded, face, "neutral (paper)")


def edit(host, geometry, **changes):
    inputs = {"geometry": geometry, "amount": 1.0, "side": "both sides", "size": 64}
    return host.run("FantasyIDEditGeometry", **(inputs | AT_REST | changes))


def test_each_mode_says_what_it_read_and_kept(host, loaded, photo_image, head, neutral):
    assert "shape, expression, jaw, head rotation; read from the whole image" in head.source
    assert neutral.source.endswith("neutral (paper): shape; read from the square around the face")
    bare = vertices_of(host, loaded, photo_image, "neutral (paper)")
    assert "without a box" in bare.source
    assert not torch.equal(bare.betas, neutral.betas), "the square was not read"
    assert torch.equal(bare.betas, head.betas), "both read the whole image"


def test_neutral_is_the_shape_alone_and_custom_chooses(host, loaded, face, head, neutral):
    model = loaded["deca"].flame.model
    alone = model(neutral.betas, torch.zeros(1, 50), torch.zeros(1, 6))
    torch.testing.assert_close(neutral.vertices, alone)
    all_off = {"keep_expression": False, "keep_jaw": False, "keep_rotation": False}
    same = vertices_of(host, loaded, face, "custom", region="face box", **all_off)
    assert torch.equal(same.vertices, neutral.vertices)
    kept = vertices_of(host, loaded, face, "custom", region="whole image")
    assert torch.equal(kept.vertices, head.vertices)
    seen = [head.vertices]
    for name in all_off:
        other = vertices_of(host, loaded, face, "custom", **{name: False})
        assert all(not torch.equal(other.vertices, before) for before in seen), name
        seen.append(other.vertices)


def test_an_edit_moves_the_head_and_tells_what_the_network_reads(host, neutral, adapter):
    edited, views, report = edit(host, neutral, adapter=adapter, nose_depth=1.0)
    moved = (edited.vertices - neutral.vertices).norm(dim=-1)
    assert moved.max() == pytest.approx(0.006, rel=1e-3)
    assert (moved == 0).any()
    assert "6.00 mm at most" in report
    assert "314 vertices" in report
    assert "WARNING" not in report
    assert edited.betas is None
    assert edited.source.endswith("edited")
    assert views.shape[0] == 1
    assert views.shape[2] == 4 * 64
    blind = edit(host, neutral, nose_depth=1.0)
    assert "Connect the adapter" in blind[2]
    assert blind[1].shape[2] == 3 * 64
    assert torch.equal(blind[0].vertices, edited.vertices)


def test_a_head_at_rest_is_the_same_value(host, head, adapter):
    edited, _, report = edit(host, head, adapter=adapter)
    assert torch.equal(edited.vertices, head.vertices)
    assert edited.betas is head.betas
    assert "Nothing is changed" in report
    assert torch.equal(edit(host, head, nose_depth=1.0, amount=0.0)[0].vertices, head.vertices)


def test_components_go_through_flame(host, neutral, deca):
    edited, _, _ = edit(host, neutral, components="0:1.5, 3:-0.8", deca=deca)
    betas = neutral.betas.clone()
    betas[0, 0] += 1.5
    betas[0, 3] -= 0.8
    expected = deca.flame.model(betas, torch.zeros(1, 50), torch.zeros(1, 6))
    # The turn between the template and this head is found by a fit, which the shape disturbs.
    assert (edited.vertices - expected).norm(dim=-1).max() < 2e-4
    torch.testing.assert_close(edited.betas, betas)


def test_blending_reaches_the_second_head_without_its_pose(host, neutral, head, ours):
    turn = ours("fantasyid.geometry.rotations").rotation_matrix(torch.tensor([0.2, -0.5, 0.1]))
    posed = replace(head, vertices=head.vertices @ turn.T + 0.03)
    whole = edit(host, neutral, blend=1.0, second=posed)[0]
    unposed = edit(host, neutral, blend=1.0, second=head)[0]
    torch.testing.assert_close(whole.vertices, unposed.vertices, atol=1e-6, rtol=0)
    half = edit(host, neutral, blend=0.5, second=head)[0]
    middle = (whole.vertices + neutral.vertices) / 2
    torch.testing.assert_close(half.vertices, middle, atol=1e-6, rtol=0)
    torch.testing.assert_close(half.betas, (head.betas + neutral.betas) / 2)


def test_an_empty_head_is_handed_on(host, ours, head):
    empty = ours("fantasyid.identity").FaceGeometry.empty("no face was found")
    edited, views, report = edit(host, empty, nose_depth=1.0)
    assert edited.empty_reason == "no face was found"
    assert views.shape == (1, 64, 64, 3)
    assert "no face was found" in report
    made, report = average(host, [empty, head], "weighted", weights="5, 1")
    assert torch.allclose(made.vertices, head.vertices, atol=1e-6)
    assert "1 empty left out" in report
    assert average(host, [empty], "mean")[0].empty_reason == "no face was found"
    with pytest.raises(ValueError, match="no head to save: no face was found"):
        host.run("FantasyIDSaveVertices", geometry=empty, filename_prefix="x", format="ply")


def test_betas_are_averaged_through_flame(host, deca, head, neutral):
    made, report = average(host, [head, neutral], "mean", deca=deca)
    betas = (head.betas + neutral.betas) / 2
    torch.testing.assert_close(made.betas, betas)
    expected = deca.flame.model(betas, torch.zeros(1, 50), torch.zeros(1, 6))
    torch.testing.assert_close(made.vertices, expected)
    assert "FLAME shape components, neutral pose" in report
    first, report = average(host, [head, neutral], "weighted", weights="1, 0", deca=deca)
    torch.testing.assert_close(first.betas, head.betas)
    assert "Weights: head 1 1.00; head 2 0.00" in report
    facing, _ = average(host, [head, neutral], "by frontality", deca=deca)
    assert facing.betas.shape == head.betas.shape


def test_without_the_head_model_vertices_are_averaged(host, head, neutral):
    made, report = average(host, [head, head, neutral], "median")
    torch.testing.assert_close(made.vertices, head.vertices, atol=1e-5, rtol=0)
    assert made.betas is None
    assert "vertices, in the pose of the first head" in report
    for weights, match in (
        ("1", "1 given for 2 heads"),
        ("1 two", "is no weight"),
        ("1 -1", "0 or more"),
        ("0 0", "not all of them 0"),
        ("1 inf", "is no weight"),
    ):
        with pytest.raises(ValueError, match=match):
            average(host, [head, neutral], "weighted", weights=weights)


@pytest.mark.parametrize("form", ["ply", "obj", "glb"])
def test_a_saved_head_loads_as_the_same_numbers(host, host_base, head, form):
    path, file = host.run(
        "FantasyIDSaveVertices", geometry=head, filename_prefix="3d/test_head", format=form
    )
    assert Path(path).parent == host_base / "output" / "3d"
    assert file.format == form
    vertices, triangles = read_mesh(path)
    assert triangles is not None
    assert torch.equal(vertices, head.vertices[0])
    assert torch.equal(triangles, head.triangles)
    name = f"3d/{Path(path).name} [output]"
    node = host.nodes.NODE_CLASS_MAPPINGS["FantasyIDLoadVertices"]
    assert name in node.INPUT_TYPES()["required"]["file"][1]["options"]
    (loaded,) = host.run("FantasyIDLoadVertices", file=name)
    assert torch.equal(loaded.vertices, head.vertices)
    again, _ = host.run(
        "FantasyIDSaveVertices", geometry=head, filename_prefix="3d/test_head", format=form
    )
    assert again != path


def test_points_without_triangles_save_edit_and_ask_for_the_adapter(host, host_base, head, adapter):
    content = mesh_bytes("ply", head.vertices[0], None)
    (host_base / "input" / "points.ply").write_bytes(content)
    (points,) = host.run("FantasyIDLoadVertices", file="points.ply")
    edited, views, report = edit(host, points, chin_depth=1.0)
    assert views.min() == views.max(), "a picture of what?"
    assert "connect the adapter" in report
    path, _ = host.run("FantasyIDSaveVertices", geometry=edited, filename_prefix="p", format="ply")
    assert read_mesh(path)[1] is None
    with pytest.raises(ValueError, match="no triangles"):
        host.run("FantasyIDSaveVertices", geometry=points, filename_prefix="p", format="glb")
    known, views, _ = edit(host, points, chin_depth=1.0, adapter=adapter)
    assert views.std() > 0.05
    assert torch.equal(known.vertices, edited.vertices)
    assert known.triangles is not None


def test_backends_of_the_picture(host, head):
    views = {
        backend: host.run("FantasyIDVerticesToMesh", geometry=head, size=64, backend=backend)[2]
        for backend in ("auto", "torch")
    }
    assert views["torch"].shape == (3, 64, 64, 3)
    assert torch.equal(views["auto"], views["torch"])


def test_the_edit_the_head_graph_runs(client, host_base):
    graph = changed(bundled("edit_the_head"), "FantasyIDEditGeometry", size=64)
    run = client.finish(graph)
    words = run.outputs[node_of(graph, "FantasyIDEditGeometry")]["text"][0]
    assert "Depth that the network reads (314 vertices)" in words
    assert run.outputs[node_of(graph, "FantasyIDEditGeometry")]["images"]
    (saved,) = run.outputs[node_of(graph, "FantasyIDSaveVertices")]["3d"]
    path = host_base / saved["type"] / saved["subfolder"] / saved["filename"]
    assert len(read_mesh(path)[0]) == 5023
    again = client.run(changed(graph, "FantasyIDEditGeometry", nose_depth=0.5))
    ran = {graph[key]["class_type"] for key in again.executed}
    assert "FantasyIDFaceVertices" not in ran
    assert "FantasyIDEditGeometry" in ran
