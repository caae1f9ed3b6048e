"""The identity stages on the host's devices: crop to tokens, photo to vertices, both to identity.

They run once per identity, in fp32 whatever the files' dtype, and give CPU tensors back.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..face.eva_clip import preprocess as preprocess_crop
from ..identity import FaceCrop, FaceGeometry, FaceTokens, Identity
from ..mesh.deca import preprocess as preprocess_photo
from ..mesh.deca import split_code
from .weights import Adapter, Deca, FaceEncoder, load_to_device

AS_RELEASED = "as released"
NEUTRAL = "neutral (paper)"
GEOMETRY_MODES = (AS_RELEASED, NEUTRAL)
NUM_FACE_TOKENS = 36
NUM_VERTEX_TOKENS = 79


def as_crop(face: FaceCrop | Tensor) -> FaceCrop:
    """A crop from whatever a face socket carries; an IMAGE counts as aligned already.

    Raises:
        ValueError: The IMAGE holds no picture, or more than one.
    """
    if isinstance(face, FaceCrop):
        return face
    if face.shape[0] != 1:
        raise ValueError(
            f"the face input holds {face.shape[0]} images, FantasyID reads one: choose it with "
            "Get Image from Batch"
        )
    image = face[..., :3]
    return FaceCrop(image, image, "given image")


def compute_face_tokens(
    encoder: FaceEncoder, adapter: Adapter, face: FaceCrop | Tensor
) -> FaceTokens:
    """CLIP face abstraction: crop -> EVA02-CLIP -> C-Abstractor -> `(1, 36, C)`.

    Raises:
        ValueError: Encoder and adapter have different widths.
    """
    crop = as_crop(face)
    width = encoder.patcher.model.config.dim
    expected = adapter.abstractor.model.config.dim
    if width != expected:
        raise ValueError(
            f"the face encoder {encoder.source} is {width} wide, the adapter {adapter.source} "
            f"takes {expected}: they come from different releases (tiny and real parts mixed?)"
        )
    if crop.empty_reason:
        empty = torch.zeros(0, NUM_FACE_TOKENS, adapter.injection.context_dim)
        return FaceTokens(empty, crop.empty_reason)
    device = load_to_device(encoder.patcher, adapter.abstractor)
    pixels = preprocess_crop(crop.image.to(device, torch.float32))
    tokens = adapter.abstractor.model(encoder.patcher.model(pixels))
    return FaceTokens(tokens.cpu())


def compute_vertices(deca: Deca, face: FaceCrop | Tensor, mode: str) -> FaceGeometry:
    """DECA vertex extraction: the whole photo -> codes -> FLAME vertices `(1, 5023, 3)`.

    Args:
        deca: Encoder and FLAME layer.
        face: The aligned face (its whole photo is read), or an IMAGE.
        mode: "as released" applies shape, expression, jaw and head rotation; "neutral (paper)"
            keeps the shape alone.

    Source: released-model facts, section 8; paper section 3.1 for the neutral head.
    """
    crop = as_crop(face)
    if crop.empty_reason:
        return FaceGeometry.empty(crop.empty_reason)
    device = load_to_device(deca.encoder, deca.flame)
    pixels = preprocess_photo(crop.photo.to(device, torch.float32))
    code = split_code(deca.encoder.model(pixels))
    keep = 1.0 if mode == AS_RELEASED else 0.0
    vertices = deca.flame.model(code.shape, code.expression * keep, code.pose * keep)
    return FaceGeometry(
        vertices.cpu(),
        deca.flame.model.triangles.cpu(),
        code.shape.cpu(),
        f"{deca.source}, {mode}",
    )


def fuse(adapter: Adapter, face_tokens: FaceTokens, geometry: FaceGeometry) -> Identity:
    """Fusion transformer: face tokens and vertices -> identity of 36 + 79 tokens.

    Raises:
        ValueError: The face tokens were made with an adapter of another width.
    """
    dim = adapter.injection.context_dim
    if face_tokens.tokens.shape[-1] != dim:
        raise ValueError(
            f"the face tokens are {face_tokens.tokens.shape[-1]} wide, the adapter "
            f"{adapter.source} takes {dim}: make them with this adapter"
        )
    reason = face_tokens.empty_reason or geometry.empty_reason
    if reason:
        empty = torch.zeros(0, NUM_FACE_TOKENS, dim)
        return Identity(empty, torch.zeros(0, NUM_VERTEX_TOKENS, dim), reason)
    device = load_to_device(adapter.fusion)
    vertex_tokens = adapter.fusion.model(
        face_tokens.tokens.to(device, torch.float32),
        geometry.vertices.to(device, torch.float32),
        adapter.tables.to(device),
    )
    return Identity(face_tokens.tokens, vertex_tokens.cpu())


def describe_identity(identity: Identity) -> str:
    """What the fusion stage made, in a sentence."""
    if identity.is_empty:
        return f"EMPTY IDENTITY: {identity.empty_reason}."
    looks, shape = identity.face_tokens.shape[1], identity.vertex_tokens.shape[1]
    width = identity.tokens.shape[-1]
    return (
        f"Identity of {looks} face tokens (looks) and {shape} vertex tokens (shape), {width} wide."
    )
