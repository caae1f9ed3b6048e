"""Heads in and out and changed by hand, with the words and pictures that go with it."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import comfy.model_management
import torch
from comfy_api.latest import Types
from torch import Tensor

from ..geometry.backends import BACKENDS, choose_rasterizer
from ..geometry.compare import compare_heads
from ..geometry.edit import SIDES, HeadEdit, describe_movement, edit_vertices
from ..geometry.files import check_flame_vertices, mesh_bytes, read_mesh
from ..geometry.render import rasterize, render_views
from ..identity import FaceGeometry
from .files import save_new, saved_file


def load_geometry(path: Path, adapter: Any | None) -> FaceGeometry:
    """A head from a PLY, OBJ or GLB file.

    Args:
        adapter: `weights.Adapter` whose mesh tables give triangles to a file without any.

    Raises:
        ValueError: The file is damaged, or is no head in FLAME topology.
    """
    vertices, triangles = read_mesh(path)
    check_flame_vertices(vertices, str(path))
    if triangles is None and adapter is not None:
        triangles = adapter.tables.triangles
    return FaceGeometry(vertices[None], triangles, None, path.name)


def known_triangles(
    geometry: FaceGeometry, adapter: Any | None = None, deca: Any | None = None
) -> Tensor | None:
    """The triangles of a head on the CPU, from itself or from whatever is connected."""
    if geometry.triangles is not None:
        return geometry.triangles.cpu()
    if adapter is not None:
        return adapter.tables.triangles.cpu()
    return None if deca is None else deca.flame.model.triangles.cpu()


def _triangles(geometry: FaceGeometry) -> Tensor:
    """The triangles on the CPU of a head that has some."""
    if geometry.triangles is None:
        raise ValueError(
            f"{geometry.source} has points but no triangles: connect the adapter to Load "
            "FantasyID Vertices, which knows how they join"
        )
    return geometry.triangles.cpu()


def to_mesh(
    geometry: FaceGeometry, size: int, backend: str = BACKENDS[0]
) -> tuple[Types.MESH, Types.File3D, Tensor]:
    """MESH, GLB file and three rendered views `(3, size, size, 3)` of a head.

    Args:
        geometry: The head.
        size: Edge of each view.
        backend: What draws the views; one of `BACKENDS`.

    Raises:
        ValueError: The geometry is empty, or has no triangles.
        ImportError: PyTorch3D is asked for by name and is not there.
    """
    if geometry.empty_reason:
        raise ValueError(f"there is no head to show: {geometry.empty_reason}")
    vertices, triangles = geometry.head, _triangles(geometry)
    glb = Types.File3D(BytesIO(mesh_bytes("glb", vertices, triangles)), "glb")
    mesh = Types.MESH(vertices=vertices[None], faces=triangles[None])
    device = comfy.model_management.get_torch_device()
    draw = choose_rasterizer(backend, device)
    drawn_on = vertices.device if draw is rasterize else device
    views = render_views(vertices.to(drawn_on), triangles.to(drawn_on), size, draw)
    return mesh, glb, views.cpu()


def describe_geometry(geometry: FaceGeometry) -> str:
    """Where a head comes from, in a sentence."""
    if geometry.empty_reason:
        return f"NO HEAD: {geometry.empty_reason}."
    heads, vertices = geometry.vertices.shape[:2]
    if heads > 1:
        return (
            f"{heads} heads of {vertices} vertices: {geometry.source}. Average Geometry makes one "
            "of them."
        )
    return f"Head of {vertices} vertices: {geometry.source}."


def save_geometry(
    geometry: FaceGeometry, prefix: str, form: str
) -> tuple[Path, Types.File3D, dict[str, Any]]:
    """Write a head to the host's output folder.

    Args:
        geometry: The head; a PLY or an OBJ may lack triangles, a GLB may not.
        prefix: The file's name before its number; folders and the host's %date% words work.
        form: One of `files.FORMATS`.

    Returns:
        The path, the same file as a value, and the `ui` entry by which the host shows and links it.

    Raises:
        ValueError: The geometry is empty, or a GLB is asked for without triangles.
    """
    if geometry.empty_reason:
        raise ValueError(f"there is no head to save: {geometry.empty_reason}")
    triangles = _triangles(geometry) if form == "glb" else geometry.triangles
    content = mesh_bytes(form, geometry.head, triangles)
    path = save_new(prefix, {f".{form}": content})
    return path, Types.File3D(str(path), form), {"3d": [saved_file(path)]}


def edit_geometry(
    geometry: FaceGeometry,
    edit: HeadEdit,
    size: int,
    second: FaceGeometry | None = None,
    deca: Any | None = None,
    adapter: Any | None = None,
) -> tuple[FaceGeometry, Tensor, str]:
    """Change a head and show what it did.

    Args:
        geometry: The head; an empty one is handed on with its reason.
        size: Edge of each picture.
        second: The head to blend in.
        deca: `weights.Deca`, for shape components.
        adapter: `weights.Adapter`, for what the network reads.

    Returns:
        The changed head, a picture `(1, H, W, 3)`, and a report.

    Raises:
        ValueError: Something that the edit needs is missing.

    Source: paper section 4.5, figure 4.
    """
    views = torch.full((1, size, size, 3), 0.93)
    if geometry.empty_reason:
        return geometry, views, f"There is no head to edit: {geometry.empty_reason}."
    if edit.blend and second is not None and second.empty_reason:
        raise ValueError(f"blend: the second head is empty: {second.empty_reason}")
    before = geometry.head
    other = None if second is None or second.empty_reason else second.head
    after = edit_vertices(before, edit, other, None if deca is None else deca.flame.model)
    coarse = None if adapter is None else adapter.tables.coarse_index
    report = describe_movement(before, after, coarse)
    triangles = known_triangles(geometry, adapter, deca)
    if triangles is None:
        report += " No picture: connect the adapter or the head model, which know the triangles."
    else:
        views = compare_heads(before, after, triangles, coarse, size)
    if torch.equal(before, after):
        return geometry, views, report
    betas, source = _edited_betas(geometry, edit, second), f"{geometry.source}, edited"
    edited = replace(
        geometry, vertices=after[None], triangles=triangles, betas=betas, source=source
    )
    return edited, views, report


def _edited_betas(
    geometry: FaceGeometry, edit: HeadEdit, second: FaceGeometry | None
) -> Tensor | None:
    """The shape components of an edited head, as far as components can say what was done."""
    betas = geometry.betas
    if betas is None or any(edit.sliders.values()) or edit.side != SIDES[0]:
        return None
    if any(number >= betas.shape[1] for number, _ in edit.components):
        return None
    edited = betas.clone()
    for number, value in edit.components:
        edited[:, number] += edit.amount * value
    if edit.blend:
        if second is None or second.betas is None:
            return None
        edited += edit.amount * edit.blend * (second.betas - betas)
    return edited
