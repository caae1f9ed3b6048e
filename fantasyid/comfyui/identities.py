"""Identity files in the host's folders, and what an identity is in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..combine import blend_identities
from ..identity import THUMBNAIL_SIZE, FaceGeometry, FaceTokens, Identity, identity_mismatch
from ..weights.fingerprint import shown
from ..weights.identity_file import identity_bytes, read_identity
from .files import IDENTITY, find, save_new
from .stages import describe_identity, fuse
from .weights import Adapter, FaceEncoder

SUFFIX = ".safetensors"


def save_identity(identity: Identity, prefix: str, note: str) -> Path:
    """Write an identity to the host's output folder.

    Args:
        prefix: The file's name before its number; folders and the host's %date% words work.
        note: Replaces the note that the identity carries, unless it is blank.

    Raises:
        ValueError: The identity is empty.
    """
    if note.strip():
        origin = replace(identity.provenance, note=note.strip())
        identity = replace(identity, provenance=origin)
    return save_new(prefix, {SUFFIX: identity_bytes(identity)})


def load_identity(name: str, adapter: Adapter | None, encoder: FaceEncoder | None) -> Identity:
    """An identity from a file.

    Args:
        name: As in the drop-down.
        adapter: Where given, the identity must be of this adapter, and its head gets triangles.
        encoder: Where given, the identity must be of this face encoder.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or of another kind, or was made with other weights.
    """
    path = find(IDENTITY, name)
    identity = read_identity(path)
    mismatch = identity_mismatch(identity.provenance, adapter, encoder)
    if mismatch:
        raise ValueError(f"{path}: {mismatch}")
    if adapter is not None and identity.geometry is not None:
        geometry = replace(identity.geometry, triangles=adapter.tables.triangles)
        identity = replace(identity, geometry=geometry)
    return identity


def blend(
    a: Identity, b: Identity, looks: float, shape: float, adapter: Adapter | None
) -> tuple[Identity, str]:
    """The identity between two, and in words how it was made.

    Args:
        a: What 0 gives.
        b: What 1 gives.
        looks: Where the face tokens lie, 0 to 1.
        shape: Where the head lies, 0 to 1.
        adapter: Fuses the blended head with the blended looks, where both identities have a head.

    Raises:
        ValueError: The two do not fit each other, or the adapter.
    """
    blended = blend_identities(a, b, looks, shape)
    if blended.is_empty:
        return blended, describe_identity(blended)
    words = f"{1 - looks:.0%} of A's looks, {1 - shape:.0%} of A's shape; the rest is B's."
    if adapter is None or blended is a or blended is b:
        return blended, words
    mismatch = identity_mismatch(blended.provenance, adapter)
    if mismatch:
        raise ValueError(mismatch)
    if blended.geometry is None:
        return blended, f"{words} Vertex tokens were blended, because one of them has no head."
    return fuse(adapter, face_tokens_of(blended), blended.geometry), f"{words} Fused anew."


def face_tokens_of(identity: Identity) -> FaceTokens:
    """The looks of an identity, as the face tokens that they were."""
    return FaceTokens(
        identity.face_tokens, identity.empty_reason, identity.thumbnail, identity.provenance
    )


def geometry_of(identity: Identity) -> FaceGeometry:
    """The head of an identity; an empty one with the reason where it has none."""
    reason = identity.empty_reason or "the identity comes without a head"
    return identity.geometry or FaceGeometry.empty(reason)


def thumbnail_of(identity: Identity) -> Tensor:
    """The face `(1, 128, 128, 3)`; black where the identity has none."""
    if identity.thumbnail is None:
        return torch.zeros(1, THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3)
    return identity.thumbnail


def inspect(identity: Identity) -> str:
    """Everything in an identity in words, one line each."""
    origin, geometry = identity.provenance, identity.geometry
    if identity.is_empty:
        return describe_identity(identity)
    head = "none" if geometry is None else f"{geometry.vertices.shape[1]} vertices"
    if geometry is not None:
        betas = 0 if geometry.betas is None else geometry.betas.shape[-1]
        head += f", {betas} shape components; {geometry.source}"
    lines = {
        "Head": head,
        "Thumbnail": "none" if identity.thumbnail is None else "there",
        "Face found by": origin.detector or "unknown",
        "Photos": ", ".join(map(shown, origin.source_hashes)) or "unknown",
        "Face encoder": shown(origin.encoder_hash),
        "Adapter": shown(origin.adapter_hash),
        "Written by": origin.created_with or "not from a file",
        "Note": origin.note or "none",
    }
    return "\n".join([describe_identity(identity), *(f"{k}: {v}" for k, v in lines.items())])
