"""Head meshes on disk: PLY, OBJ and GLB in and out, vertex order kept throughout."""

from __future__ import annotations

import io
from array import array
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..identity import FLAME_VERTICES
from .glb import MAGIC as GLB_MAGIC
from .glb import glb_bytes, parse_glb
from .normals import vertex_normals
from .ply import fans, parse_ply

FORMATS = ("ply", "obj", "glb")
MAX_FILE_BYTES = 8 * 1024 * 1024  # a head has 1
MAX_LINES = 400_000  # a head has 30,000
PLAUSIBLE_DIAGONAL_M = (0.15, 1.5)
PLAUSIBLE_DEPTH_M = 0.5


def read_mesh(path: str | Path) -> tuple[Tensor, Tensor | None]:
    """The vertices of a PLY, OBJ or GLB file and its triangles.

    Returns:
        `(V, 3)` float32 in the order of the file, in its units; `(T, 3)` int64, or none if there
        are no faces. Polygons are cut into triangles.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is of another kind, malformed or cut short.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file, or it is a folder")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"{path}: larger than {MAX_FILE_BYTES} bytes, which no head mesh is")
    content = path.read_bytes()
    if content[:4].strip() == b"ply":
        parse = parse_ply
    elif content[:4] == GLB_MAGIC:
        parse = parse_glb
    elif path.suffix.lower() == ".obj":
        parse = _parse_obj
    else:
        raise ValueError(
            f"{path}: neither a PLY nor a GLB file nor named .obj; give a PLY, OBJ or GLB file"
        )
    try:
        vertices, triangles = parse(content)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path}: {error}") from None
    if not len(vertices):
        raise ValueError(f"{path}: a mesh file without vertices")
    if triangles.size and not 0 <= triangles.min() <= triangles.max() < len(vertices):
        raise ValueError(f"{path}: a face names a vertex beyond the {len(vertices)} of the file")
    with np.errstate(over="ignore"):
        points = torch.from_numpy(vertices.astype(np.float32))
    return points, torch.from_numpy(triangles).long() if len(triangles) else None


def _parse_obj(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    coordinates, corners, counts = array("d"), array("i"), array("i")
    for number, line in enumerate(io.BytesIO(content), start=1):
        if number > MAX_LINES:
            raise ValueError(f"more than {MAX_LINES} lines, which no head mesh has")
        words = line.split()
        kind = words[0] if words else b""
        try:
            if kind == b"v":
                x, y, z = words[1:4]
                coordinates.extend((float(x), float(y), float(z)))
            elif kind == b"f":
                face = [int(word.split(b"/", 1)[0]) for word in words[1:]]
                if len(face) < 3 or 0 in face:
                    raise ValueError
                # Negative corners count back from the last vertex so far.
                corners.extend(i - 1 if i > 0 else len(coordinates) // 3 + i for i in face)
                counts.append(len(face))
        except (ValueError, OverflowError):
            shown = line[:80].decode("latin-1").strip()
            raise ValueError(f"line {number} is not understood: {shown!r}") from None
    sizes = np.frombuffer(counts, np.int32)
    starts = np.cumsum(sizes, dtype=np.int32) - sizes
    triangles = fans(np.frombuffer(corners, np.int32), starts, sizes)
    return np.frombuffer(coordinates).reshape(-1, 3), triangles


def mesh_bytes(form: str, vertices: Tensor, triangles: Tensor | None) -> bytes:
    """A mesh as the content of a file.

    Args:
        form: One of `FORMATS`: a binary PLY with float32 vertices; an OBJ, whose nine digits give
            back the same float32; a GLB with smooth normals and a clay material.
        vertices: `(V, 3)`; for a GLB in meters, y up, z towards the viewer.
        triangles: `(T, 3)`, or none for points alone, which a GLB cannot hold.

    Raises:
        ValueError: A shape does not fit, a corner is no vertex, or a GLB gets no triangle or a
            vertex that is not finite.
    """
    if vertices.ndim != 2 or vertices.shape[1] != 3:
        raise ValueError(f"vertices: expected the shape (V, 3), got {tuple(vertices.shape)}")
    joined = torch.zeros(0, 3, dtype=torch.int64) if triangles is None else triangles.cpu().long()
    if joined.ndim != 2 or joined.shape[1] != 3:
        raise ValueError(f"triangles: expected the shape (T, 3), got {tuple(joined.shape)}")
    if joined.numel() and not 0 <= joined.min() <= joined.max() < len(vertices):
        raise ValueError(f"triangles: a corner lies outside 0..{len(vertices) - 1}")
    points = vertices.detach().cpu().float()
    corners = joined.numpy()
    if form == "ply":
        return _ply_bytes(points.numpy(), corners)
    if form == "obj":
        lines = [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in points.tolist()]
        lines += [f"f {a} {b} {c}" for a, b, c in (corners + 1).tolist()]
        return ("\n".join(lines) + "\n").encode()
    if form != "glb":
        raise ValueError(f"mesh: expected a format of {', '.join(FORMATS)}, got {form!r}")
    if not len(corners) or not torch.isfinite(points).all():
        raise ValueError("GLB: there is no triangle, or a vertex is not finite")
    return glb_bytes(points.numpy(), corners, vertex_normals(points, joined).numpy())


def _ply_bytes(points: np.ndarray, corners: np.ndarray) -> bytes:
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    header += [f"property float {axis}" for axis in "xyz"]
    if len(corners):
        header += [f"element face {len(corners)}", "property list uchar int vertex_indices"]
    faces = np.zeros(len(corners), [("count", "u1"), ("corners", "<i4", (3,))])
    faces["count"], faces["corners"] = 3, corners
    text = "\n".join([*header, "end_header\n"]).encode()
    return text + points.astype("<f4").tobytes() + faces.tobytes()


def check_flame_vertices(vertices: Tensor, source: str) -> None:
    """Refuse vertices that cannot be a FLAME head in meters.

    Args:
        vertices: `(V, 3)`.
        source: Where they come from, for the message.

    Raises:
        ValueError: The number of vertices, their values, size or place is wrong; it says which.
    """
    if tuple(vertices.shape) != (FLAME_VERTICES, 3):
        raise ValueError(
            f"{source}: vertices of the shape {tuple(vertices.shape)}, expected "
            f"({FLAME_VERTICES}, 3). Only meshes in FLAME topology fit (DECA, MICA, EMOCA, "
            f"SMIRK), with their vertices in the original order"
        )
    if not torch.isfinite(vertices).all():
        raise ValueError(f"{source}: some vertices are not finite numbers; export the mesh again")
    span = vertices.amax(0) - vertices.amin(0)
    diagonal_m = float(torch.linalg.vector_norm(span))
    smallest, largest = PLAUSIBLE_DIAGONAL_M
    if not smallest <= diagonal_m <= largest:
        raise ValueError(
            f"{source}: the head measures {diagonal_m:.4g} from corner to corner, expected "
            f"{smallest} to {largest} meters. Is it in millimeters or centimeters? Scale it "
            f"to meters"
        )
    depth_m = float(vertices[:, 2].mean())
    if abs(depth_m) > PLAUSIBLE_DEPTH_M:
        raise ValueError(
            f"{source}: the head's center lies at z = {depth_m:.4g} m, expected it within "
            f"{PLAUSIBLE_DEPTH_M} m of the origin. Move it to where FLAME has it"
        )
