"""Reads the first mesh of a GLB file: its positions and how they join."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

MAGIC = b"glTF"
HEADER_BYTES, CHUNK_HEADER_BYTES = 12, 8
JSON_CHUNK, BINARY_CHUNK = b"JSON", b"BIN\0"
JSON_LIMIT = 16 * 1024 * 1024
TRIANGLES_MODE = 4
FLOAT = 5126
INDEX_TYPES = {5121: "u1", 5123: "<u2", 5125: "<u4"}


class _Refused(ValueError):
    """Something in the file is not as it must be; the message says what."""


def parse_glb(content: bytes, source: str, *, corners: bool) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and, if `corners`, triangles of the first primitive of the first mesh.

    Args:
        content: The whole file.
        source: Names the file in errors.
        corners: Read the triangles too.

    Returns:
        `(V, 3)` float32 in file order and `(T, 3)` int64, empty without corners. Transforms of
        nodes are not applied.

    Raises:
        ValueError: The file is cut short, malformed, or needs something that is not read here.
    """
    try:
        document, binary = _chunks(content)
        return _first_primitive(document, binary, corners=corners)
    except _Refused as error:
        raise ValueError(f"{source}: {error}") from None
    except RecursionError:
        raise ValueError(f"{source}: the GLB's description is nested too deeply") from None


def _chunks(content: bytes) -> tuple[dict[str, Any], memoryview]:
    if len(content) < HEADER_BYTES + CHUNK_HEADER_BYTES:
        raise _Refused("the GLB file is cut short")
    _, version, total = struct.unpack_from("<4sII", content)
    if version != 2:
        raise _Refused(f"a GLB of version {version}, expected 2")
    if total > len(content):
        raise _Refused(f"the GLB file is cut short: {len(content)} of {total} bytes")
    length, kind = struct.unpack_from("<I4s", content, HEADER_BYTES)
    start = HEADER_BYTES + CHUNK_HEADER_BYTES
    if kind != JSON_CHUNK or length > min(JSON_LIMIT, len(content) - start):
        raise _Refused("the GLB file does not begin with its description, or it is cut short")
    try:
        document = json.loads(content[start : start + length].decode("utf-8"))
    except ValueError:
        raise _Refused("the GLB's description is not JSON") from None
    if not isinstance(document, dict):
        raise _Refused("the GLB's description is no object")
    start += length
    if len(content) < start + CHUNK_HEADER_BYTES:
        raise _Refused("a GLB file without numbers in it; files beside it are not read")
    length, kind = struct.unpack_from("<I4s", content, start)
    start += CHUNK_HEADER_BYTES
    if kind != BINARY_CHUNK or length > len(content) - start:
        raise _Refused("the GLB's numbers are cut short")
    return document, memoryview(content)[start : start + length]


def _first_primitive(
    document: dict[str, Any], binary: memoryview, *, corners: bool
) -> tuple[np.ndarray, np.ndarray]:
    required = document.get("extensionsRequired")
    if required:
        raise _Refused(
            f"this GLB needs the extensions {str(required)[:120]}; export it without compression"
        )
    mesh = _entry(document, "meshes", 0)
    primitive = _entry(mesh, "primitives", 0)
    attributes = primitive.get("attributes")
    if not isinstance(attributes, dict) or "POSITION" not in attributes:
        raise _Refused("the first mesh of the GLB has no POSITION")
    positions = _accessor(document, binary, attributes["POSITION"], "VEC3", {FLOAT: "<f4"})
    vertices = np.array(positions, np.float32)
    if not len(vertices):
        raise _Refused("a GLB file without vertices")
    none = np.empty((0, 3), np.int64)
    if not corners:
        return vertices, none
    if primitive.get("mode", TRIANGLES_MODE) != TRIANGLES_MODE:
        raise _Refused("the first mesh of the GLB is not made of triangles")
    if "indices" in primitive:
        found = _accessor(document, binary, primitive["indices"], "SCALAR", INDEX_TYPES)
        index = found.astype(np.int64).ravel()
    else:
        index = np.arange(len(vertices))
    if len(index) % 3:
        raise _Refused(f"{len(index)} corners do not make whole triangles")
    if len(index) and int(index.max()) >= len(vertices):
        raise _Refused(f"a triangle names a vertex outside 0..{len(vertices) - 1}")
    return vertices, index.reshape(-1, 3)


def _entry(parent: dict[str, Any], name: str, index: Any) -> dict[str, Any]:
    entries = parent.get(name)
    known = entries if isinstance(entries, list) and type(index) is int else []
    entry = known[index] if known and 0 <= index < len(known) else None
    if not isinstance(entry, dict):
        raise _Refused(f"the GLB has no {name}[{str(index)[:20]}]")
    return entry


def _size(parent: dict[str, Any], name: str, default: int | None = None) -> int:
    value = parent.get(name, default)
    if type(value) is not int or value < 0:
        raise _Refused(f"{name} is {str(value)[:20]!r}, expected a whole number")
    return value


def _accessor(
    document: dict[str, Any],
    binary: memoryview,
    index: Any,
    shape: str,
    types: dict[int, str],
) -> np.ndarray:
    """`(N, 3)` or `(N, 1)` numbers of one accessor, a view into the file."""
    accessor = _entry(document, "accessors", index)
    kind = accessor.get("componentType")
    if accessor.get("type") != shape or type(kind) is not int or kind not in types:
        raise _Refused(f"accessor {index} holds something else than {shape} numbers")
    if "sparse" in accessor or "bufferView" not in accessor:
        raise _Refused(f"accessor {index} is sparse or empty, which is not read")
    view = _entry(document, "bufferViews", accessor["bufferView"])
    if view.get("buffer", 0) != 0:
        raise _Refused("the GLB's numbers lie in another file, which is not read")
    dtype = np.dtype(types[kind])
    count, width = _size(accessor, "count"), 3 if shape == "VEC3" else 1
    row = dtype.itemsize * width
    stride = _size(view, "byteStride", row) or row
    start = _size(view, "byteOffset", 0) + _size(accessor, "byteOffset", 0)
    length = (count - 1) * stride + row if count else 0
    end = _size(view, "byteOffset", 0) + _size(view, "byteLength")
    if stride < row or start + length > min(end, len(binary)):
        raise _Refused(f"accessor {index} reaches beyond the file; it is cut short")
    if not count:
        return np.empty((0, width), dtype)
    return np.ndarray((count, width), dtype, binary, start, (stride, dtype.itemsize))
