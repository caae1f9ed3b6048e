"""Which rasterizer draws: ours in plain torch everywhere, PyTorch3D's where it is fast."""

from __future__ import annotations

import logging
import math
from functools import cache
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import Tensor

from .render import Rasterizer, rasterize

BACKENDS = ("auto", "torch", "pytorch3d")
# PyTorch3D draws only what lies in front of its camera.
NEAREST = 1.0


def choose_rasterizer(backend: str, device: torch.device | str) -> Rasterizer:
    """The rasterizer for a backend's name.

    Args:
        backend: One of `BACKENDS`. "auto" takes PyTorch3D only on CUDA: on the CPU it is a hundred
            times slower than ours.
        device: Where the vertices are.

    Raises:
        ValueError: The name is unknown.
        ImportError: "pytorch3d" is asked for and cannot be imported.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend: expected one of {', '.join(BACKENDS)}, got {backend!r}")
    if backend == "torch" or (backend == "auto" and torch.device(device).type != "cuda"):
        return rasterize
    try:
        import_module("pytorch3d._C")
        import_module("pytorch3d.renderer.mesh.rasterize_meshes")
    except (ImportError, OSError) as error:
        reason = str(error) or type(error).__name__
        if backend == "pytorch3d":
            raise ImportError(
                f"the PyTorch3D backend cannot be used: {reason}. Build PyTorch3D from its sources "
                "for this torch, or choose auto or torch, which draw the same picture"
            ) from error
        if find_spec("pytorch3d") is not None:
            _say_once(reason)
        return rasterize
    return rasterize_with_pytorch3d


@cache
def _say_once(reason: str) -> None:
    logging.info("FantasyID: drawing without PyTorch3D: %s", reason)


def rasterize_with_pytorch3d(
    vertices_px: Tensor, triangles: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """`render.rasterize` drawn by PyTorch3D: the same arguments, the same three results.

    PyTorch3D's camera space has x to the left and y up, the shorter side of the picture reaching
    from -1 to 1 between the outer edges of its pixels, and nothing nearer than z = 0.
    """
    rasterizer = import_module("pytorch3d.renderer.mesh.rasterize_meshes")
    structures = import_module("pytorch3d.structures")
    points = vertices_px.detach().float()
    nearest = points[:, 2].amin() - NEAREST
    x, y = (
        (edge - 2 * points[:, i]) / min(height, width) for i, edge in enumerate((width, height))
    )
    camera = torch.stack([x, y, points[:, 2] - nearest], dim=1)
    meshes = structures.Meshes([camera], [triangles.to(camera.device)])
    triangle_id, depth, barycentrics, _ = rasterizer.rasterize_meshes(
        meshes,
        image_size=(height, width),
        blur_radius=0.0,
        faces_per_pixel=1,
        perspective_correct=False,
        clip_barycentric_coords=False,
        cull_backfaces=False,
    )
    triangle_id = triangle_id[0, ..., 0]
    hit = triangle_id >= 0
    return (
        torch.where(hit, triangle_id, -1),
        torch.where(hit[..., None], barycentrics[0, ..., 0, :], 0.0).to(vertices_px),
        torch.where(hit, depth[0, ..., 0] + nearest, math.inf).to(vertices_px),
    )
