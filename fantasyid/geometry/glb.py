"""GLB files (glTF 2.0 in one binary file): reads the first mesh of any, writes a head.

The host's own writer has neither normals nor material, so heads would look faceted in viewers.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

MAGIC = b"glTF"
HEADER_BYTES, CHUNK_HEADER_BYTES = 12, 8
JSON_CHUNK, BINARY_CHUNK = b"JSON", b"BIN\0"
JSON_LIMIT = 1024 * 1024  # a head needs 1 kB; the decoder cannot be stopped
TRIANGLES_MODE = 4
FLOAT, UNSIGNED_INT = 5126, 5125
INDEX_TYPES = {5121: "u1", 5123: "<u2", UNSIGNED_INT: "<u4"}
VERTEX_DATA, INDEX_DATA = 34962, 34963
CLAY = {
    "baseColorFactor": [0.66, 0.70, 0.76, 1.0],
    "metallicFactor": 0.0,
    "roughnessFactor": 0.65,
}


def parse_glb(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles of the first primitive of the first mesh.

    Returns:
        `(V, 3)` float32 in file order and `(T, 3)` int64. Transforms of nodes are not applied.

    Raises:
        ValueError: The file is cut short, malformed, or needs something that is not read here.
    """
    document, binary = _chunks(content)
    required = document.get("extensionsRequired")
    if required:
        raise ValueError(
            f"this GLB needs the extensions {str(required)[:120]}; export it without compression"
        )
    primitive = _entry(_entry(document, "meshes", 0), "primitives", 0)
    attributes = primitive.get("attributes")
    if not isinstance(attributes, dict) or "POSITION" not in attributes:
        raise ValueError("the first mesh of the GLB has no POSITION")
    if primitive.get("mode", TRIANGLES_MODE) != TRIANGLES_MODE:
        raise ValueError("the first mesh of the GLB is not made of triangles")
    vertices = _accessor(document, binary, attributes["POSITION"], "VEC3", {FLOAT: "<f4"})
    corners = np.arange(len(vertices))
    if "indices" in primitive:
        corners = _accessor(document, binary, primitive["indices"], "SCALAR", INDEX_TYPES).ravel()
    if len(corners) % 3:
        raise ValueError(f"{len(corners)} corners do not make whole triangles")
    return vertices, corners.astype(np.int64).reshape(-1, 3)


def _chunks(content: bytes) -> tuple[dict[str, Any], memoryview]:
    """The description and the numbers of a file."""
    start = HEADER_BYTES + CHUNK_HEADER_BYTES
    if len(content) < start:
        raise ValueError("the GLB file is cut short")
    _, version, total, length, kind = struct.unpack_from("<4sIII4s", content)
    if version != 2:
        raise ValueError(f"a GLB of version {version}, expected 2")
    if total > len(content):
        raise ValueError(f"the GLB file is cut short: {len(content)} of {total} bytes")
    if kind != JSON_CHUNK or length > len(content) - start:
        raise ValueError("the GLB file does not begin with its description, or it is cut short")
    document = _description(content[start : start + length])
    start += length + CHUNK_HEADER_BYTES
    if len(content) < start:
        raise ValueError("a GLB file without numbers in it; files beside it are not read")
    length, kind = struct.unpack_from("<I4s", content, start - CHUNK_HEADER_BYTES)
    if kind != BINARY_CHUNK or length > len(content) - start:
        raise ValueError("the GLB's numbers are cut short")
    return document, memoryview(content)[start : start + length]


def _description(text: bytes) -> dict[str, Any]:
    if len(text) > JSON_LIMIT:
        raise ValueError(f"the GLB's description has {len(text)} bytes, more than {JSON_LIMIT}")
    try:
        document = json.loads(text.decode("utf-8"))
    except RecursionError:
        raise ValueError("the GLB's description is nested too deeply") from None
    except ValueError:
        raise ValueError("the GLB's description is not JSON") from None
    if not isinstance(document, dict):
        raise ValueError("the GLB's description is no object")
    return document


def _entry(parent: dict[str, Any], name: str, index: Any) -> dict[str, Any]:
    entries = parent.get(name)
    known = entries if isinstance(entries, list) and type(index) is int else []
    entry = known[index] if known and 0 <= index < len(known) else None
    if not isinstance(entry, dict):
        raise ValueError(f"the GLB has no {name}[{str(index)[:20]}]")
    return entry


def _size(parent: dict[str, Any], name: str, default: int | None = None) -> int:
    value = parent.get(name, default)
    if type(value) is not int or value < 0:
        raise ValueError(f"{name} is {str(value)[:20]!r}, expected a whole number")
    return value


def _accessor(
    document: dict[str, Any], binary: memoryview, index: Any, shape: str, types: dict[int, str]
) -> np.ndarray:
    """`(N, 3)` or `(N, 1)` numbers of one accessor, a view into the file."""
    accessor = _entry(document, "accessors", index)
    kind = accessor.get("componentType")
    if accessor.get("type") != shape or type(kind) is not int or kind not in types:
        raise ValueError(f"accessor {index} holds something else than {shape} numbers")
    if "sparse" in accessor or "bufferView" not in accessor:
        raise ValueError(f"accessor {index} is sparse or empty, which is not read")
    view = _entry(document, "bufferViews", accessor["bufferView"])
    if view.get("buffer", 0) != 0:
        raise ValueError("the GLB's numbers lie in another file, which is not read")
    dtype = np.dtype(types[kind])
    count, width = _size(accessor, "count"), 3 if shape == "VEC3" else 1
    row = dtype.itemsize * width
    stride = _size(view, "byteStride", row) or row
    start = _size(view, "byteOffset", 0) + _size(accessor, "byteOffset", 0)
    length = (count - 1) * stride + row if count else 0
    end = _size(view, "byteOffset", 0) + _size(view, "byteLength")
    if stride < row or start + length > min(end, len(binary)):
        raise ValueError(f"accessor {index} reaches beyond the file; it is cut short")
    if not count:
        return np.empty((0, width), dtype)
    return np.ndarray((count, width), dtype, binary, start, (stride, dtype.itemsize))


def glb_bytes(vertices: np.ndarray, triangles: np.ndarray, normals: np.ndarray) -> bytes:
    """A mesh of clay as a GLB file.

    Args:
        vertices: `(V, 3)` float32 in meters, y up, z towards the viewer: glTF's own frame.
        triangles: `(T, 3)` int64.
        normals: `(V, 3)` float32 unit vectors; with them viewers shade smoothly.
    """
    # Every part has a length that is a multiple of four, as the format wants.
    parts = (
        (triangles.astype("<u4").tobytes(), INDEX_DATA, UNSIGNED_INT, "SCALAR", triangles.size),
        (vertices.astype("<f4").tobytes(), VERTEX_DATA, FLOAT, "VEC3", len(vertices)),
        (normals.astype("<f4").tobytes(), VERTEX_DATA, FLOAT, "VEC3", len(vertices)),
    )
    binary, views, accessors = b"", [], []
    for number, (data, target, kind, shape, count) in enumerate(parts):
        place = {"byteOffset": len(binary), "byteLength": len(data)}
        views.append({"buffer": 0, **place, "target": target})
        accessors.append(
            {"bufferView": number, "componentType": kind, "type": shape, "count": count}
        )
        binary += data
    accessors[1] |= {"min": vertices.min(0).tolist(), "max": vertices.max(0).tolist()}
    primitive = {"attributes": {"POSITION": 1, "NORMAL": 2}, "indices": 0, "material": 0}
    document = {
        "asset": {"version": "2.0", "generator": "ComfyUI-FantasyID"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "head"}],
        "meshes": [{"primitives": [primitive]}],
        "materials": [{"pbrMetallicRoughness": CLAY, "doubleSided": True}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    total = HEADER_BYTES + 2 * CHUNK_HEADER_BYTES + len(text) + len(binary)
    head = struct.pack("<4sIII4s", MAGIC, 2, total, len(text), JSON_CHUNK)
    return head + text + struct.pack("<I4s", len(binary), BINARY_CHUNK) + binary
