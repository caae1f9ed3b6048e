"""Which rasteriser draws, and PyTorch3D's conventions against ours."""

from __future__ import annotations

import logging
import math
import sys
from types import SimpleNamespace

import pytest
import torch

from fantasyid.geometry import backends
from fantasyid.geometry.backends import choose_rasterizer, rasterize_with_pytorch3d
from fantasyid.geometry.render import rasterize, render_normals

MODULES = (
    "pytorch3d",
    "pytorch3d._C",
    "pytorch3d.structures",
    "pytorch3d.renderer",
    "pytorch3d.renderer.mesh",
    "pytorch3d.renderer.mesh.rasterize_meshes",
)


def draw_in_camera_space(meshes, image_size, **options):
    """PyTorch3D's rasteriser as a loop over pixels, in its own conventions.

    x to the left, y up, the shorter side from -1 to 1 between outer edges, z in front of 0.
    """
    assert options.pop("faces_per_pixel") == 1
    assert options.pop("blur_radius") == 0.0
    assert not any(options.values())
    (points,), (triangles,) = meshes.verts, meshes.faces
    height, width = image_size
    shorter = min(height, width)
    ids = torch.full((1, height, width, 1), -1)
    depth = torch.full((1, height, width, 1), -1.0)
    weights = torch.full((1, height, width, 1, 3), -1.0)
    for row in range(height):
        for column in range(width):
            x = (width - 2 * (column + 0.5)) / shorter
            y = (height - 2 * (row + 0.5)) / shorter
            for number, corners in enumerate(points[triangles].tolist()):
                matrix = torch.tensor(corners, dtype=torch.float64)
                system = torch.stack([matrix[:, 0], matrix[:, 1], torch.ones(3).double()])
                if abs(torch.linalg.det(system)) < 1e-12:
                    continue
                w = torch.linalg.solve(system, torch.tensor([x, y, 1.0]).double())
                z = float(w @ matrix[:, 2])
                nearer = ids[0, row, column, 0] < 0 or z < depth[0, row, column, 0]
                if w.min() >= 0 and z > 0 and nearer:
                    ids[0, row, column, 0], depth[0, row, column, 0] = number, z
                    weights[0, row, column, 0] = w.float()
    return ids, depth, weights, torch.zeros_like(depth)


def meshes_of(verts, faces):
    return SimpleNamespace(verts=verts, faces=faces)


@pytest.fixture
def stand_in_pytorch3d(monkeypatch):
    """Modules under PyTorch3D's names that draw with the loop."""
    for name in MODULES:
        module = SimpleNamespace(Meshes=meshes_of, rasterize_meshes=draw_in_camera_space)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.usefixtures("stand_in_pytorch3d")
@pytest.mark.parametrize(("height", "width"), [(9, 9), (6, 11), (11, 6)])
def test_the_adapter_speaks_its_conventions(height, width):
    generator = torch.Generator().manual_seed(height)
    vertices = torch.rand(12, 3, generator=generator) * 14 - 3
    triangles = torch.randint(0, 12, (9, 3), generator=generator)
    ids, weights, depth = rasterize_with_pytorch3d(vertices, triangles, height, width)
    expected = rasterize(vertices, triangles, height, width)
    assert (ids >= 0).any()
    assert torch.equal(ids, expected[0])
    torch.testing.assert_close(weights, expected[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(depth, expected[2], atol=1e-4, rtol=0)
    assert depth[ids < 0].isinf().all()


def test_a_missing_pytorch3d_is_only_missed_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch3d", None)
    monkeypatch.setitem(sys.modules, "pytorch3d._C", None)
    monkeypatch.setattr(backends, "find_spec", lambda _: None)
    assert choose_rasterizer("auto", "cpu") is rasterize
    assert choose_rasterizer("auto", "cuda") is rasterize
    assert choose_rasterizer("torch", "cuda") is rasterize
    with pytest.raises(ImportError, match="choose auto or torch"):
        choose_rasterizer("pytorch3d", "cpu")
    with pytest.raises(ValueError, match="expected one of auto, torch, pytorch3d"):
        choose_rasterizer("opengl", "cpu")


def test_a_broken_pytorch3d_falls_back_and_says_so_once(monkeypatch, caplog):
    def broken(_name):
        raise OSError("undefined symbol")

    monkeypatch.setattr(backends, "import_module", broken)
    monkeypatch.setattr(backends, "find_spec", lambda _: object())
    backends._say_once.cache_clear()
    with caplog.at_level(logging.INFO):
        assert choose_rasterizer("auto", "cuda") is rasterize
        assert choose_rasterizer("auto", "cuda") is rasterize
    assert caplog.text.count("undefined symbol") == 1
    with pytest.raises(ImportError, match="undefined symbol"):
        choose_rasterizer("pytorch3d", "cpu")


@pytest.mark.usefixtures("stand_in_pytorch3d")
def test_auto_takes_pytorch3d_on_cuda_alone():
    assert choose_rasterizer("auto", "cuda") is rasterize_with_pytorch3d
    assert choose_rasterizer("auto", "cpu") is rasterize
    assert choose_rasterizer("pytorch3d", "cpu") is rasterize_with_pytorch3d


def test_the_picture_of_a_head_is_the_same():
    pytest.importorskip("pytorch3d._C", reason="PyTorch3D is not installed")
    from geometry.stand_in_head import stand_in

    vertices, triangles = stand_in()
    ours = render_normals(vertices, triangles, 96, 0.5)
    theirs = render_normals(vertices, triangles, 96, 0.5, draw=rasterize_with_pytorch3d)
    different = ((ours - theirs).abs().amax(-1) > 2 / 255).float().mean()
    assert different < 0.002
    assert math.isclose(float(ours.mean()), float(theirs.mean()), abs_tol=1e-3)
