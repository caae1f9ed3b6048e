"""Head meshes on disk: PLY, OBJ and GLB in and out, vertex order kept throughout."""

from __future__ import annotations

import io
from array import array
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from .glb import MAGIC as GLB_MAGIC
from .glb import parse_glb
from .gltf import glb_bytes
from .normals import vertex_normals
from .ply import fan, parse_ply

__all__ = [
    "check_flame_vertices",
    "glb_bytes",
    "read_mesh",
    "read_vertices",
    "write_glb",
    "write_obj",
    "write_ply",
]

MAX_FILE_BYTES = 256 * 1024 * 1024
NUM_FLAME_VERTICES = 5023
PLAUSIBLE_DIAGONAL_M = (0.15, 1.5)
PLAUSIBLE_DEPTH_M = 0.5


def read_vertices(path: str | Path) -> Tensor:
    """The vertices of a PLY, OBJ or GLB file.

    Args:
        path: The file.

    Returns:
        `(V, 3)` float32 in the order of the file, in its units.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is of another kind, malformed or cut short.
    """
    return torch.from_numpy(_read(Path(path), corners=False)[0])


def read_mesh(path: str | Path) -> tuple[Tensor, Tensor | None]:
    """The vertices of a PLY, OBJ or GLB file and its triangles.

    Returns:
        `(V, 3)` float32 in the order of the file; `(T, 3)` int64, or none if there are no faces.
        Polygons are cut into triangles.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is of another kind, malformed or cut short.
    """
    vertices, triangles = _read(Path(path), corners=True)
    return torch.from_numpy(vertices), torch.from_numpy(triangles) if len(triangles) else None


def _read(path: Path, *, corners: bool) -> tuple[np.ndarray, np.ndarray]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"{path}: larger than {MAX_FILE_BYTES} bytes, which no head mesh is")
    content = path.read_bytes()
    if content[:4].strip() == b"ply":
        return parse_ply(content, str(path), corners=corners)
    if content[:4] == GLB_MAGIC:
        return parse_glb(content, str(path), corners=corners)
    if path.suffix.lower() == ".obj":
        return _parse_obj(content, str(path), corners=corners)
    raise ValueError(
        f"{path}: neither a PLY nor a GLB file nor named .obj; give a PLY, OBJ or GLB file"
    )


def _parse_obj(content: bytes, source: str, *, corners: bool) -> tuple[np.ndarray, np.ndarray]:
    coordinates = array("d")
    corners_of_triangles = array("q")
    for number, line in enumerate(io.BytesIO(content), start=1):
        words = line.split()
        kind = words[0] if words else b""
        try:
            if kind == b"v":
                x, y, z = words[1:4]
                coordinates.extend((float(x), float(y), float(z)))
            elif kind == b"f" and corners:
                corners_of_triangles.extend(fan(_corners(words[1:], len(coordinates) // 3)))
        except (ValueError, OverflowError):
            shown = line[:80].decode("latin-1").strip()
            raise ValueError(f"{source}: line {number} is not understood: {shown!r}") from None
    if not coordinates:
        raise ValueError(f"{source}: an OBJ file without vertices")
    with np.errstate(over="ignore"):
        vertices = np.array(coordinates, np.float64).reshape(-1, 3).astype(np.float32)
    triangles = np.array(corners_of_triangles, np.int64).reshape(-1, 3)
    if triangles.size and not 0 <= triangles.min() <= triangles.max() < len(vertices):
        raise ValueError(f"{source}: a face names a vertex outside 1..{len(vertices)}")
    return vertices, triangles


def _corners(words: list[bytes], num_vertices: int) -> list[int]:
    """Zero-based corners of a face; negative ones count back from the last vertex so far."""
    indices = [int(word.split(b"/", 1)[0]) for word in words]
    if len(indices) < 3 or 0 in indices:
        raise ValueError
    return [i - 1 if i > 0 else num_vertices + i for i in indices]


def write_ply(
    target: str | Path | BinaryIO,
    vertices: Tensor,
    triangles: Tensor | None,
    colors: Tensor | None = None,
) -> None:
    """Write a binary PLY file with float32 vertices.

    Args:
        target: A path or an open binary file.
        vertices: `(V, 3)`.
        triangles: `(T, 3)`, or none for points alone.
        colors: `(V, 3)` in [0, 1].
    """
    corners = _as_triangles(triangles, len(vertices))
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertices)}"]
    header += [f"property float {axis}" for axis in "xyz"]
    columns = [("xyz", "<f4", (3,))]
    if colors is not None:
        header += [f"property uchar {name}" for name in ("red", "green", "blue")]
        columns.append(("rgb", "u1", (3,)))
    rows = np.zeros(len(vertices), columns)
    rows["xyz"] = _as_points("vertices", vertices)
    if colors is not None:
        rows["rgb"] = (_as_points("colors", colors).clip(0, 1) * 255).round()
    faces = np.zeros(len(corners), [("count", "u1"), ("corners", "<i4", (3,))])
    faces["count"], faces["corners"] = 3, corners
    if len(corners):
        header += [f"element face {len(corners)}", "property list uchar int vertex_indices"]
    text = "\n".join([*header, "end_header\n"]).encode()
    _write(target, text + rows.tobytes() + faces.tobytes())


def write_obj(
    target: str | Path | BinaryIO,
    vertices: Tensor,
    triangles: Tensor | None,
    colors: Tensor | None = None,
) -> None:
    """Write an OBJ file; nine digits give back the same float32. See `write_ply`.

    Colours follow the coordinates on the vertex lines, as many programs read them.
    """
    points = _as_points("vertices", vertices)
    if colors is not None:
        points = np.concatenate([points, _as_points("colors", colors)], axis=1)
    lines = ["v " + " ".join(f"{x:.9g}" for x in row) for row in points.tolist()]
    corners = _as_triangles(triangles, len(vertices)) + 1
    lines += [f"f {a} {b} {c}" for a, b, c in corners.tolist()]
    _write(target, ("\n".join(lines) + "\n").encode())


def write_glb(
    target: str | Path | BinaryIO,
    vertices: Tensor,
    triangles: Tensor,
    colors: Tensor | None = None,
) -> None:
    """Write a glTF binary file with smooth normals. See `write_ply`; triangles are required."""
    corners = torch.from_numpy(_as_triangles(triangles, len(vertices)))
    points = vertices.detach().cpu().float()
    _write(target, glb_bytes(points, corners, vertex_normals(points, corners), colors))


def _as_points(name: str, points: Tensor) -> np.ndarray:
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"{name}: expected the shape (V, 3), got {tuple(points.shape)}")
    return points.detach().cpu().float().numpy()


def _as_triangles(triangles: Tensor | None, num_vertices: int) -> np.ndarray:
    if triangles is None:
        return np.empty((0, 3), np.int64)
    if triangles.ndim != 2 or triangles.shape[1] != 3:
        raise ValueError(f"triangles: expected the shape (T, 3), got {tuple(triangles.shape)}")
    corners = triangles.detach().cpu().numpy().astype(np.int64)
    if corners.size and not 0 <= corners.min() <= corners.max() < num_vertices:
        raise ValueError(f"triangles: a corner lies outside 0..{num_vertices - 1}")
    return corners


def _write(target: str | Path | BinaryIO, content: bytes) -> None:
    if isinstance(target, str | Path):
        Path(target).write_bytes(content)
    else:
        target.write(content)


def check_flame_vertices(vertices: Tensor, source: str) -> None:
    """Refuse vertices that cannot be a FLAME head in metres.

    Args:
        vertices: `(V, 3)`.
        source: Where they come from, for the message.

    Raises:
        ValueError: The number of vertices, their values, size or place is wrong; it says which.
    """
    if tuple(vertices.shape) != (NUM_FLAME_VERTICES, 3):
        raise ValueError(
            f"{source}: vertices of the shape {tuple(vertices.shape)}, expected "
            f"({NUM_FLAME_VERTICES}, 3). Only meshes in FLAME topology fit (DECA, MICA, EMOCA, "
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
            f"{smallest} to {largest} metres. Is it in millimetres or centimetres? Scale it "
            f"to metres"
        )
    depth_m = float(vertices[:, 2].mean())
    if abs(depth_m) > PLAUSIBLE_DEPTH_M:
        raise ValueError(
            f"{source}: the head's centre lies at z = {depth_m:.4g} m, expected it within "
            f"{PLAUSIBLE_DEPTH_M} m of the origin. Move it to where FLAME has it"
        )
