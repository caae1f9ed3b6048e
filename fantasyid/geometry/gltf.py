"""Writes a mesh as glTF 2.0 in one binary file."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
from torch import Tensor

MAGIC, VERSION = b"glTF", 2
JSON_CHUNK, BINARY_CHUNK = b"JSON", b"BIN\0"
FLOAT, UNSIGNED_INT, UNSIGNED_BYTE = 5126, 5125, 5121
VERTEX_DATA, INDEX_DATA = 34962, 34963
CLAY = [0.66, 0.70, 0.76, 1.0]


def glb_bytes(
    vertices: Tensor, triangles: Tensor, normals: Tensor, colors: Tensor | None = None
) -> bytes:
    """The mesh as a GLB file.

    Args:
        vertices: `(V, 3)` in metres, y up, z towards the viewer: glTF's own frame.
        triangles: `(T, 3)`.
        normals: `(V, 3)` unit vectors; with them viewers shade smoothly.
        colors: `(V, 3)` in [0, 1], linear, or none for a clay material.

    Returns:
        The file's bytes.

    Raises:
        ValueError: A shape does not fit, a value is not finite, or there is no triangle.
    """
    positions = _numbers("vertices", vertices, len(vertices))
    corners = triangles.detach().cpu().numpy().astype("<u4").reshape(-1)
    if not len(corners) or triangles.ndim != 2 or triangles.shape[1] != 3:
        raise ValueError(f"GLB: expected (T, 3) triangles, got {tuple(triangles.shape)}")
    if int(triangles.min()) < 0 or int(triangles.max()) >= len(positions):
        raise ValueError(f"GLB: a triangle names a vertex outside 0..{len(positions) - 1}")
    blocks = [
        _block(corners, UNSIGNED_INT, "SCALAR", len(corners), INDEX_DATA),
        _block(positions, FLOAT, "VEC3", len(positions), VERTEX_DATA)
        | {"min": positions.min(0).tolist(), "max": positions.max(0).tolist()},
        _block(
            _numbers("normals", normals, len(positions)), FLOAT, "VEC3", len(positions), VERTEX_DATA
        ),
    ]
    attributes = {"POSITION": 1, "NORMAL": 2}
    material: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": 0.65}
    if colors is None:
        material["baseColorFactor"] = CLAY
    else:
        levels = (_numbers("colors", colors, len(positions)).clip(0, 1) * 255).round()
        opaque = np.full((len(levels), 1), 255)
        rgba = np.concatenate([levels, opaque], axis=1).astype(np.uint8)
        blocks.append(
            _block(rgba, UNSIGNED_BYTE, "VEC4", len(rgba), VERTEX_DATA) | {"normalized": True}
        )
        attributes["COLOR_0"] = 3
    return _file(blocks, attributes, material)


def _numbers(name: str, tensor: Tensor, length: int) -> np.ndarray:
    if tuple(tensor.shape) != (length, 3):
        raise ValueError(f"GLB: {name} has the shape {tuple(tensor.shape)}, expected ({length}, 3)")
    numbers = tensor.detach().cpu().float().numpy().astype("<f4")
    if not np.isfinite(numbers).all():
        raise ValueError(f"GLB: {name} has values that are not finite")
    return numbers


def _block(data: np.ndarray, kind: int, shape: str, count: int, target: int) -> dict[str, Any]:
    return {
        "bytes": data.tobytes(),
        "target": target,
        "componentType": kind,
        "type": shape,
        "count": count,
    }


def _file(
    blocks: list[dict[str, Any]], attributes: dict[str, int], material: dict[str, Any]
) -> bytes:
    """Every block has a length that is a multiple of four, as the format wants."""
    binary = b""
    views, accessors = [], []
    for number, block in enumerate(blocks):
        data, target = block.pop("bytes"), block.pop("target")
        views.append(
            {"buffer": 0, "byteOffset": len(binary), "byteLength": len(data), "target": target}
        )
        accessors.append({"bufferView": number, **block})
        binary += data
    document = {
        "asset": {"version": "2.0", "generator": "ComfyUI-FantasyID"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "head"}],
        "meshes": [{"primitives": [{"attributes": attributes, "indices": 0, "material": 0}]}],
        "materials": [{"pbrMetallicRoughness": material, "doubleSided": True}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    total = 12 + 8 + len(text) + 8 + len(binary)
    return b"".join(
        (
            struct.pack("<4sII", MAGIC, VERSION, total),
            struct.pack("<I4s", len(text), JSON_CHUNK),
            text,
            struct.pack("<I4s", len(binary), BINARY_CHUNK),
            binary,
        )
    )
