"""Thousands of damaged mesh files: each is a right mesh or an error that names the file."""

from __future__ import annotations

import io
import random
import time
import tracemalloc

import pytest
import torch

from fantasyid.geometry.files import read_mesh, write_glb, write_obj, write_ply

VERTICES = torch.tensor([[x, y, z] for x in (0.0, 1) for y in (0.0, 1) for z in (0.0, 1)])
TRIANGLES = torch.tensor([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]])
ASCII_PLY = (
    "ply\nformat ascii 1.0\nelement vertex 8\nproperty float x\nproperty float y\n"
    "property float z\nelement face 6\nproperty list uchar int vertex_indices\nend_header\n"
    + "".join(f"{x} {y} {z}\n" for x, y, z in VERTICES.tolist())
    + "".join(f"3 {a} {b} {c}\n" for a, b, c in TRIANGLES.tolist())
).encode()
ODD_BYTES = (b"-1", b"9999999999", b"1e400", b"nan", b"\xff\xff\xff\xff", b"\0", b"\n", b"{", b"[")
# What any file costs, however small: its name, headers as objects, an error with its text.
FIXED_BYTES = 64 * 1024
SLOWEST_SECONDS = 2.0


def written(kind: str) -> bytes:
    stream = io.BytesIO()
    if kind == "ascii.ply":
        return ASCII_PLY
    {"ply": write_ply, "obj": write_obj, "glb": write_glb}[kind](stream, VERTICES, TRIANGLES)
    return stream.getvalue()


def mutated(content: bytes, dice: random.Random) -> bytes:
    """One to six bytes changed, cut out, doubled, cut off, or replaced by something odd."""
    data = bytearray(content)
    for _ in range(dice.randint(1, 6)):
        at = dice.randrange(len(data) or 1)
        action = dice.randrange(6)
        if action == 0 and data:
            data[at] = dice.randrange(256)
        elif action == 1 and data:
            data[at] ^= 1 << dice.randrange(8)
        elif action == 2:
            del data[at : at + dice.randint(1, 40)]
        elif action == 3:
            data[at:at] = data[at : at + dice.randint(1, 200)]
        elif action == 4:
            odd = dice.choice(ODD_BYTES)
            data[at : at + len(odd)] = odd
        else:
            del data[at:]
    return bytes(data)


@pytest.mark.parametrize("kind", ["ply", "ascii.ply", "obj", "glb"])
def test_1250_mutated_files_are_meshes_or_named_errors(tmp_path, kind):
    content, dice = written(kind), random.Random(kind)
    path = tmp_path / f"mutant.{kind}"
    outcomes = {"read": 0, "refused": 0}
    tracemalloc.start()
    try:
        for number in range(1250):
            damaged = mutated(content, dice)
            path.write_bytes(damaged)
            tracemalloc.reset_peak()
            start, held = time.perf_counter(), tracemalloc.get_traced_memory()[0]
            try:
                vertices, triangles = read_mesh(path)
            except ValueError as error:
                message = str(error)
                outcomes["refused"] += 1
            else:
                message = path.name
                outcomes["read"] += 1
                assert vertices.ndim == 2
                assert len(vertices) > 0
                assert vertices.shape[1] == 3
                if triangles is not None:
                    assert 0 <= triangles.min() <= triangles.max() < len(vertices)
            assert path.name in message, number
            peak = tracemalloc.get_traced_memory()[1] - held
            assert peak < FIXED_BYTES + 10 * len(damaged), number
            assert time.perf_counter() - start < SLOWEST_SECONDS, number
    finally:
        tracemalloc.stop()
    assert min(outcomes.values()) > 50, outcomes
