"""Identities that tests make up."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from fantasyid.identity import FaceGeometry, Identity, Provenance
from fantasyid.weights.identity_file import identity_bytes
from fantasyid.whole_file import write_whole


def pattern(*shape: int, step: int = 37) -> Tensor:
    """Numbers between -1 and 1 that every machine makes alike."""
    count = torch.Size(shape).numel()
    return ((torch.arange(count) * step % 129) / 64 - 1).reshape(shape)


def write_identity(path: Path, identity: Identity) -> None:
    """As the node that saves, but over a file that is there."""
    content = identity_bytes(identity)
    write_whole(path, lambda file: file.write(content))


def make_identity(step: int = 37, width: int = 8, references: int = 1) -> Identity:
    """An identity with everything in it; another `step` gives another one."""
    head = FaceGeometry(
        pattern(1, 5023, 3, step=step) / 8,
        None,
        pattern(1, 10, step=step),
        f"deca_model.tar + generic_model.pkl, as released: photo {step}",
    )
    thumbnail = (pattern(1, 128, 128, 3, step=step) * 127 + 128).round().clamp(0, 255) / 255
    return Identity(
        pattern(1, 36 * references, width, step=step),
        pattern(1, 79, width, step=step + 2),
        geometry=head,
        thumbnail=thumbnail,
        provenance=Provenance(
            detector="insightface",
            encoder_hash="e1" * 32,
            adapter_hash="ad" * 32,
            source_hashes=(f"{step:064x}", "5c" * 32),
            note="Ada 爱达 🙂: consent of 2026-11-21,\nCC BY 4.0",
        ),
    )


def assert_same(a: Identity, b: Identity) -> None:
    """Equal in everything but the name of the program that wrote the file."""
    for name in ("face_tokens", "vertex_tokens", "thumbnail"):
        assert_equal(getattr(a, name), getattr(b, name))
    assert (a.geometry is None) == (b.geometry is None)
    if a.geometry is not None and b.geometry is not None:
        assert_equal(a.geometry.vertices, b.geometry.vertices)
        assert_equal(a.geometry.betas, b.geometry.betas)
        assert a.geometry.source == b.geometry.source
    origins = (a.provenance, b.provenance)
    for name in ("detector", "encoder_hash", "adapter_hash", "source_hashes", "note"):
        assert getattr(origins[0], name) == getattr(origins[1], name)


def assert_equal(a: Tensor | None, b: Tensor | None) -> None:
    if a is None or b is None:
        assert a is b
        return
    assert a.dtype == b.dtype
    assert torch.equal(a, b)
