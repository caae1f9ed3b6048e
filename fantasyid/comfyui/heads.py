"""Heads in and out: mesh files, and values for the host's 3D nodes."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
from comfy_api.latest import Types
from torch import Tensor

from ..geometry.backends import BACKENDS, choose_rasterizer
from ..geometry.files import check_flame_vertices, read_mesh, write_glb, write_obj, write_ply
from ..geometry.gltf import glb_bytes
from ..geometry.normals import vertex_normals
from ..geometry.render import rasterize, render_views
from ..identity import FaceGeometry

__all__ = [
    "BACKENDS",
    "FORMATS",
    "describe_geometry",
    "geometry_triangles",
    "load_geometry",
    "save_geometry",
    "saved_result",
    "to_mesh",
]

FORMATS = ("ply", "obj", "glb")


def load_geometry(path: Path, adapter: Any | None) -> FaceGeometry:
    """A head from a PLY, OBJ or GLB file.

    Args:
        path: The file.
        adapter: `weights.Adapter` whose mesh tables give triangles to a file without any.

    Raises:
        ValueError: The file is damaged, or is no head in FLAME topology.
    """
    vertices, triangles = read_mesh(path)
    check_flame_vertices(vertices, str(path))
    if triangles is None and adapter is not None:
        triangles = adapter.tables.triangles
    return FaceGeometry(vertices[None], triangles, None, path.name)


def geometry_triangles(
    geometry: FaceGeometry, adapter: Any | None = None, deca: Any | None = None
) -> Tensor | None:
    """The triangles of a head, from itself or from whatever is connected."""
    if geometry.triangles is not None:
        return geometry.triangles.cpu()
    if adapter is not None:
        return adapter.tables.triangles.cpu()
    return None if deca is None else deca.flame.model.triangles.cpu()


def _require_mesh(geometry: FaceGeometry) -> tuple[Tensor, Tensor]:
    """Vertices `(5023, 3)` and triangles on the CPU."""
    if geometry.empty_reason:
        raise ValueError(f"there is no head to show: {geometry.empty_reason}")
    if geometry.triangles is None:
        raise ValueError(
            f"{geometry.source} has points but no triangles: connect the adapter to Load "
            "FantasyID Vertices, which knows how they join"
        )
    return geometry.head, geometry.triangles.cpu()


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
    vertices, triangles = _require_mesh(geometry)
    glb = glb_bytes(vertices, triangles, normals=vertex_normals(vertices, triangles))
    mesh = Types.MESH(vertices=vertices[None], faces=triangles[None])
    device = comfy.model_management.get_torch_device()
    draw = choose_rasterizer(backend, device)
    drawn_on = vertices.device if draw is rasterize else device
    views = render_views(vertices.to(drawn_on), triangles.to(drawn_on), size, draw)
    return mesh, Types.File3D(BytesIO(glb), "glb"), views.cpu()


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


def save_geometry(geometry: FaceGeometry, prefix: str, form: str) -> tuple[Path, Types.File3D]:
    """Write a head to the host's output folder.

    Args:
        geometry: The head; a PLY or an OBJ may lack triangles, a GLB may not.
        prefix: The file's name before its number; folders and the host's %date% words work.
        form: One of `FORMATS`.

    Returns:
        The path, and the same file as a value.

    Raises:
        ValueError: The geometry is empty, or a GLB is asked for without triangles.
    """
    if geometry.empty_reason:
        raise ValueError(f"there is no head to save: {geometry.empty_reason}")
    if form == "glb":
        _require_mesh(geometry)
    folder, name, counter, _, _ = folder_paths.get_save_image_path(
        prefix, folder_paths.get_output_directory()
    )
    path = Path(folder) / f"{name}_{counter:05}_.{form}"
    write = {"ply": write_ply, "obj": write_obj, "glb": write_glb}[form]
    triangles: Any = None if geometry.triangles is None else geometry.triangles.cpu()
    write(path, geometry.head, triangles)
    return path, Types.File3D(str(path), form)


def saved_result(path: Path) -> dict[str, list[dict[str, str]]]:
    """The `ui` entry that makes the host show and link a saved 3D file."""
    subfolder = os.path.relpath(path.parent, folder_paths.get_output_directory())
    entry = {
        "filename": path.name,
        "subfolder": "" if subfolder == "." else subfolder.replace(os.sep, "/"),
        "type": "output",
    }
    return {"3d": [entry]}
