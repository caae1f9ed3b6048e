"""Identity files: one person's tokens, head, thumbnail and origin in a safetensors file.

What a file of version 1 holds:

    face_tokens    (1, 36 R, C) float32   looks, of R references; needed
    vertex_tokens  (1, 79, C)   float32   3D shape; needed
    vertices       (1, 5023, 3) float32   the head in metres
    betas          (1, S)       float32   its FLAME shape components; only with vertices
    thumbnail      (1, 128, 128, 3) uint8 the face

and in its metadata, as words: the format and its version, the detector, the hashes of encoder,
adapter and photos, a note on licence and consent, what the head was read from, what wrote the
file, and a digest of all of this. Changed bytes are noticed by the digest. Nothing in the file is
run, and it holds no path of the machine that it was made on.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from ..identity import (
    FLAME_VERTICES,
    NUM_FACE_TOKENS,
    NUM_VERTEX_TOKENS,
    THUMBNAIL_SIZE,
    FaceGeometry,
    Identity,
    Provenance,
)
from ..shapes import Shapes
from .describe import describe_keys
from .header import DTYPE_NAMES, TensorEntry, header_bytes, read_header

FORMAT = "fantasyid identity"
VERSION = 1
CREATED_WITH = "ComfyUI-FantasyID 0.1.0"
# 100 references of the released width concatenated are 30 MB.
MAX_FILE_BYTES = 64 * 1024**2
MAX_WORDS = 20_000
# The format stands at the beginning of the header, so that a folder is listed by a glance at each.
GLANCE_BYTES = 256

# Name -> type and shape; None is any size above 0.
SLOTS: dict[str, tuple[torch.dtype, tuple[int | None, ...]]] = {
    "face_tokens": (torch.float32, (1, None, None)),
    "vertex_tokens": (torch.float32, (1, NUM_VERTEX_TOKENS, None)),
    "vertices": (torch.float32, (1, FLAME_VERTICES, 3)),
    "betas": (torch.float32, (1, None)),
    "thumbnail": (torch.uint8, (1, THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3)),
}
NEEDED = ("face_tokens", "vertex_tokens")
ORIGIN = tuple(field.name for field in fields(Provenance))
WORDS = {"format", "version", *ORIGIN, "geometry", "digest"}
HASH = re.compile(r"[0-9a-f]{64}")


def identity_bytes(identity: Identity) -> bytes:
    """The content of an identity file.

    Args:
        identity: Tokens of any float type; they are kept as float32.

    Raises:
        ValueError: The identity is empty, or something in it does not fit the format.
    """
    if identity.is_empty:
        raise ValueError(f"there is no identity to save: {identity.empty_reason}")
    tensors, words = _tensors(identity), _words(identity)
    entries = {name: TensorEntry(t.dtype, tuple(t.shape)) for name, t in tensors.items()}
    words["digest"] = _digest(words, tensors)
    try:
        _check_words(words)
        _check_shapes(entries)
        _check_values(tensors)
    except ValueError as error:
        raise ValueError(f"the identity cannot be saved: {error}") from None
    content = [t.numpy().tobytes() for t in tensors.values()]
    return b"".join([header_bytes(entries, words), *content])


def read_identity(path: Path) -> Identity:
    """Read an identity file of any version there has been.

    A version that has been released stays, and tests/golden/identity_v1.safetensors with it.

    Raises:
        ValueError: Names the file: it is damaged, too large, of a newer version, or another kind
            of file.
        OSError: There is no such file, or it may not be read.
    """
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ValueError(
            f"{path} is no identity file: it has {size} bytes, an identity at most {MAX_FILE_BYTES}"
        )
    header = read_header(path)
    words = header.metadata
    try:
        _check_version(words, header.shapes())
        _check_words(words)
        _check_shapes(header.entries)
        tensors = load(path.read_bytes())  # no map, so that the file can be replaced on Windows
        found = _digest(words, tensors)
        if found != words["digest"]:
            raise ValueError(
                "the file was changed or damaged after it was written: its content gives the "
                f"digest {found[:16]}, it says {words['digest'][:16]}; get the file again"
            )
        _check_values(tensors)
    except (ValueError, SafetensorError) as error:
        raise ValueError(f"{path}: {error}") from None
    vertices, thumbnail = tensors.get("vertices"), tensors.get("thumbnail")
    geometry = None
    if vertices is not None:
        geometry = FaceGeometry(vertices, None, tensors.get("betas"), words["geometry"])
    origin: dict[str, Any] = {name: words[name] for name in ORIGIN}
    origin["source_hashes"] = tuple(words["source_hashes"].split())
    return Identity(
        tensors["face_tokens"],
        tensors["vertex_tokens"],
        geometry=geometry,
        thumbnail=None if thumbnail is None else thumbnail.float() / 255,
        provenance=Provenance(**origin),
    )


def is_identity_file(path: Path) -> bool:
    """Whether a file says that it is one; a glance at its beginning."""
    try:
        with path.open("rb") as file:
            return json.dumps(FORMAT).encode() in file.read(GLANCE_BYTES)
    except OSError:
        return False


def _tensors(identity: Identity) -> dict[str, Tensor]:
    """What is written, in the order of `SLOTS`."""
    geometry, thumbnail = identity.geometry, identity.thumbnail
    found: dict[str, Tensor | None] = {
        "face_tokens": identity.face_tokens,
        "vertex_tokens": identity.vertex_tokens,
        "vertices": None if geometry is None else geometry.vertices,
        "betas": None if geometry is None else geometry.betas,
    }
    tensors = {name: t.detach().cpu().float() for name, t in found.items() if t is not None}
    if thumbnail is not None:
        tensors["thumbnail"] = (thumbnail.cpu().float() * 255).round().clamp(0, 255).byte()
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _words(identity: Identity) -> dict[str, str]:
    origin = {name: getattr(identity.provenance, name) for name in ORIGIN}
    return {
        "format": FORMAT,
        "version": str(VERSION),
        **(origin | {"source_hashes": " ".join(identity.provenance.source_hashes)}),
        "geometry": "" if identity.geometry is None else identity.geometry.source,
        "created_with": CREATED_WITH,
    }


def _check_version(words: Mapping[str, str], shapes: Shapes) -> None:
    if words.get("format") != FORMAT:
        raise ValueError(
            f"this is no FantasyID identity file: {describe_keys(shapes)}. Save "
            "FantasyID Identity writes them"
        )
    version = words.get("version", "")
    if not re.fullmatch(r"[1-9][0-9]{0,5}", version):
        raise ValueError(f"its version is {version[:20]!r}, which is none: the file is damaged")
    if int(version) > VERSION:
        raise ValueError(
            f"it is an identity file of version {version}, this FantasyID reads up to version "
            f"{VERSION}: update ComfyUI-FantasyID"
        )


def _check_words(words: Mapping[str, str]) -> None:
    if set(words) != WORDS:
        raise ValueError(f"its metadata lack or add {', '.join(sorted(set(words) ^ WORDS))[:200]}")
    for name, text in words.items():
        if len(text) > MAX_WORDS:
            raise ValueError(f"its {name} has {len(text)} characters, at most {MAX_WORDS} fit")
        text.encode()  # half a character (a lone surrogate) is a ValueError
    hashes = [words[name] for name in ("encoder_hash", "adapter_hash") if words[name]]
    for value in (*hashes, *words["source_hashes"].split(), words["digest"]):
        if not HASH.fullmatch(value):
            raise ValueError(f"{value[:80]!r} is no hash of 64 hexadecimal digits")


def _check_shapes(found: Mapping[str, TensorEntry]) -> None:
    """Names, types and sizes, and the sizes against each other."""
    strange = [n for n in NEEDED if n not in found] + [n for n in found if n not in SLOTS]
    if strange:
        raise ValueError(f"its tensors lack or add {', '.join(strange)[:200]}")
    for name, entry in found.items():
        dtype, wanted = SLOTS[name]
        sizes = [n if w is None and n else w for n, w in zip(entry.shape, wanted, strict=False)]
        if entry.dtype != dtype or len(entry.shape) != len(wanted) or sizes != list(entry.shape):
            expected = ", ".join("any" if n is None else str(n) for n in wanted)
            raise ValueError(
                f"{name} is {DTYPE_NAMES.get(entry.dtype, entry.dtype)} {entry.shape}, expected "
                f"{DTYPE_NAMES[dtype]} ({expected})"
            )
    face, vertex = found["face_tokens"].shape, found["vertex_tokens"].shape
    if face[1] % NUM_FACE_TOKENS or face[2] != vertex[2]:
        raise ValueError(
            f"the face tokens are {face}, the vertex tokens {vertex}: expected a multiple of "
            f"{NUM_FACE_TOKENS} face tokens, and one width"
        )
    if "betas" in found and "vertices" not in found:
        raise ValueError("it has shape components (betas) but no head (vertices)")


def _check_values(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} has values that are not numbers (NaN or infinity)")


def _digest(words: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over all words but the digest itself, and all tensors."""
    told = {name: words[name] for name in sorted(words) if name != "digest"}
    shapes = {name: [DTYPE_NAMES[t.dtype], *t.shape] for name, t in sorted(tensors.items())}
    digest = hashlib.sha256(json.dumps([told, shapes]).encode())
    for name in sorted(tensors):
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()
