"""Small meshes, and GLB files made by hand."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import torch

CUBE = torch.tensor([[x, y, z] for x in (0.0, 1) for y in (0.0, 1) for z in (0.0, 1)])
CUBE_TRIANGLES = torch.tensor(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
     [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
)  # fmt: skip


def closed_mesh(rings: int, around: int) -> tuple[int, list[tuple[int, int, int]]]:
    """How many vertices a ball has (rings, then top and bottom), and its triangles.

    Seen from outside the triangles run counter-clockwise.
    """
    top, bottom, rows = rings * around, rings * around + 1, []
    for i in range(around):
        j = (i + 1) % around
        rows += [(top, i, j), (bottom, (rings - 1) * around + j, (rings - 1) * around + i)]
        for a in range(0, (rings - 1) * around, around):
            b = a + around
            rows += [(a + i, b + i, b + j), (a + i, b + j, a + j)]
    return rings * around + 2, rows


def ascii_ply(vertices: int, faces: int = 0, form: str = "ascii") -> str:
    """The header of a plain PLY file."""
    lines = ["ply", f"format {form} 1.0", f"element vertex {vertices}"]
    lines += [f"property float {axis}" for axis in "xyz"]
    if faces:
        lines += [f"element face {faces}", "property list uchar int vertex_indices"]
    return "\n".join([*lines, "end_header\n"])


def glb(document: dict[str, Any] | bytes, binary: bytes, version: int = 2) -> bytes:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    total = 28 + len(text) + len(binary)
    head = struct.pack("<4sIII4s", b"glTF", version, total, len(text), b"JSON")
    return head + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary


def glb_document(where: str = "", **changes: Any) -> dict[str, Any]:
    """Positions interleaved with something else, then two-byte indices; one part changed."""
    positions = {"bufferView": 0, "componentType": 5126, "type": "VEC3", "count": 8}
    positions["byteOffset"] = 4
    indices = {"bufferView": 1, "componentType": 5123, "type": "SCALAR", "count": 36}
    view = {"buffer": 0, "byteLength": 8 * 16, "byteStride": 16}
    primitive = {"attributes": {"POSITION": 0}, "indices": 1}
    made = {
        "asset": {"version": "2.0"},
        "meshes": [{"primitives": [primitive]}],
        "accessors": [positions, indices],
        "bufferViews": [view, {"buffer": 0, "byteOffset": 8 * 16, "byteLength": 72}],
        "buffers": [{"byteLength": 200}],
    }
    parts = {"positions": positions, "indices": indices, "view": view, "primitive": primitive}
    (parts | {"": made})[where].update(changes)
    return made


def glb_numbers() -> bytes:
    rows = np.zeros(8, [("other", "<f4"), ("xyz", "<f4", (3,))])
    rows["xyz"] = CUBE.numpy()
    return rows.tobytes() + CUBE_TRIANGLES.numpy().astype("<u2").tobytes()
