"""Heads in and out: mesh files of the input folder, and values for the host's 3D nodes."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

from comfy_api.latest import Types
from torch import Tensor

from ..identity import FaceGeometry
from ..mesh.files import check_flame_vertices, read_mesh
from ..mesh.gltf import glb_bytes
from ..mesh.normals import vertex_normals
from ..mesh.render import render_views


def load_geometry(path: Path, adapter: Any | None) -> FaceGeometry:
    """A head from a PLY or OBJ file.

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


def to_mesh(geometry: FaceGeometry, size: int) -> tuple[Types.MESH, Types.File3D, Tensor]:
    """MESH, GLB file and three rendered views `(3, size, size, 3)` of a head.

    Raises:
        ValueError: The geometry is empty, or has no triangles.
    """
    if geometry.empty_reason:
        raise ValueError(f"there is no head to show: {geometry.empty_reason}")
    if geometry.triangles is None:
        raise ValueError(
            f"{geometry.source} has points but no triangles: connect the adapter to Load "
            "FantasyID Vertices, which knows how they join"
        )
    vertices = geometry.vertices[0]
    normals = vertex_normals(vertices, geometry.triangles)
    glb = glb_bytes(vertices, geometry.triangles, normals=normals)
    mesh = Types.MESH(vertices=geometry.vertices, faces=geometry.triangles[None])
    return mesh, Types.File3D(BytesIO(glb), "glb"), render_views(vertices, geometry.triangles, size)
