"""The identity stages on the host's devices: crop to tokens, photo to vertices, both to identity.

They run once per identity, in fp32 whatever the files' dtype, and give CPU tensors back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..combine import CONCATENATED, WEIGHTED, combine_tokens, parse_weights
from ..face.eva_clip import preprocess as preprocess_crop
from ..face.quality import sharpness
from ..geometry.deca import split_code
from ..geometry.deca_photo import face_square
from ..geometry.deca_photo import preprocess as preprocess_photo
from ..identity import (
    FACE_CROP_SIZE,
    NUM_FACE_TOKENS,
    NUM_VERTEX_TOKENS,
    FaceCrops,
    FaceGeometry,
    FaceTokens,
    Identity,
    Provenance,
    make_thumbnail,
)
from ..weights.fingerprint import photo_hash, shown
from .weights import Adapter, Deca, FaceEncoder, load_to_device

AS_RELEASED = "as released"
NEUTRAL = "neutral (paper)"
CUSTOM = "custom"
GEOMETRY_MODES = (AS_RELEASED, NEUTRAL, CUSTOM)
WHOLE_IMAGE, FACE_BOX = "whole image", "face box"
PHOTO_REGIONS = (WHOLE_IMAGE, FACE_BOX)
# Crops in the face encoder, or photos in DECA, at a time: bounds the memory of a batch.
CROPS_AT_ONCE = 4


def compute_face_tokens(encoder: FaceEncoder, adapter: Adapter, face: FaceCrops) -> FaceTokens:
    """CLIP face abstraction: crops -> EVA02-CLIP -> C-Abstractor -> `(R, 36, C)`.

    A few crops are on the device at a time.

    Raises:
        ValueError: Encoder and adapter have different widths.

    Source: paper section 3.2 (face abstractor).
    """
    width = encoder.patcher.model.config.dim
    expected = adapter.abstractor.model.config.dim
    if width != expected:
        raise ValueError(
            f"the face encoder {encoder.source} is {width} wide, the adapter {adapter.source} "
            f"takes {expected}: they come from different releases (tiny and real parts mixed?)"
        )
    if face.empty_reason:
        empty = torch.zeros(0, NUM_FACE_TOKENS, adapter.injection.context_dim)
        return FaceTokens(empty, face.empty_reason)
    device = load_to_device(encoder.patcher, adapter.abstractor)
    parts = []
    for chunk in face.images.split(CROPS_AT_ONCE):
        pixels = preprocess_crop(chunk.to(device, torch.float32))
        parts.append(adapter.abstractor.model(encoder.patcher.model(pixels)).cpu())
    hashes = dict.fromkeys(photo_hash(photo[None]) for photo in face.photos)
    origin = Provenance(face.detector, encoder.fingerprint, adapter.fingerprint, tuple(hashes))
    return FaceTokens(torch.cat(parts), "", make_thumbnail(face.images), origin)


def combine_face_tokens(given: Sequence[FaceTokens], mode: str, weights: str) -> FaceTokens:
    """One set of face tokens from several; empty ones are left out.

    Args:
        given: Each may hold several references.
        mode: One of `combine.MODES`.
        weights: Numbers as text, one per reference, for "weighted"; not read otherwise.

    Raises:
        ValueError: The tokens have different sizes or come from different adapters, or the
            weights do not fit.
    """
    full = [f for f in given if not f.empty_reason]
    if not full:
        return given[0]
    sizes = {tuple(f.tokens.shape[1:]) for f in full}
    if len(sizes) > 1:
        raise ValueError(
            f"the face tokens have different sizes, {sorted(sizes)}: make them with one adapter, "
            "and combine before concatenating"
        )
    tokens = torch.cat([f.tokens for f in full])
    origin = Provenance.of_all("the references", [f.provenance for f in full])
    shares = parse_weights(weights) if mode == WEIGHTED else ()
    combined = combine_tokens(tokens, mode, shares)
    return FaceTokens(combined, "", full[0].thumbnail, origin)


def describe_combination(given: Sequence[FaceTokens], combined: FaceTokens, mode: str) -> str:
    """What the combining stage made, in sentences."""
    if combined.empty_reason:
        return f"NO IDENTITY: {combined.empty_reason}."
    count = sum(f.tokens.shape[0] for f in given)
    words = f"{count} references, {mode}: {combined.tokens.shape[1]} face tokens."
    left_out = sum(bool(f.empty_reason) for f in given)
    if left_out:
        words += f" {left_out} without a face left out."
    if mode == CONCATENATED and count > 1:
        words += f" The released training saw {NUM_FACE_TOKENS} tokens of one crop."
    return words


@dataclass(frozen=True, slots=True)
class KeptCodes:
    """What of DECA's reading goes into the head, and which part of the photo is read."""

    expression: bool  # keep the expression
    jaw: bool  # keep the jaw's rotation
    rotation: bool  # keep the head's rotation
    region: str  # one of `PHOTO_REGIONS`


KEEP_ALL = KeptCodes(True, True, True, WHOLE_IMAGE)
_KEPT = {AS_RELEASED: KEEP_ALL, NEUTRAL: KeptCodes(False, False, False, FACE_BOX)}


def compute_vertices(
    deca: Deca, face: FaceCrops, mode: str, custom: KeptCodes = KEEP_ALL
) -> FaceGeometry:
    """DECA vertex extraction: photos -> codes -> FLAME vertices `(R, 5023, 3)`.

    A few photos are on the device at a time.

    Args:
        deca: Encoder and FLAME layer.
        face: The aligned faces; their photos are read.
        mode: "as released" reads the whole photo and applies shape, expression, jaw and head
            rotation; "neutral (paper)" reads the square around the face and keeps the shape alone;
            "custom" does what `custom` says.

    Returns:
        The heads; their `source` says which part of the photo was read and what was kept.

    Raises:
        ValueError: The mode or the region is unknown.

    Source: docs/released-model.md, section 8; paper section 3.3 for the neutral head.
    """
    if mode not in GEOMETRY_MODES or custom.region not in PHOTO_REGIONS:
        raise ValueError(
            f"face vertices: expected a mode of {GEOMETRY_MODES} and a region of "
            f"{PHOTO_REGIONS}, got {mode!r} and {custom.region!r}"
        )
    kept = _KEPT.get(mode, custom)
    if face.empty_reason:
        return FaceGeometry.empty(face.empty_reason)
    photos, region = _photo_region(face, kept.region)
    device = load_to_device(deca.encoder, deca.flame)
    small = torch.cat([preprocess_photo(photo[None].float()) for photo in photos])
    read = [_read_heads(deca, chunk.to(device), kept) for chunk in small.split(CROPS_AT_ONCE)]
    named = {"expression": kept.expression, "jaw": kept.jaw, "head rotation": kept.rotation}
    words = ", ".join(["shape", *(name for name, keep in named.items() if keep)])
    # An image of another size is no crop: where its face lies, nobody knows.
    aligned = tuple(face.images.shape[1:3]) == (FACE_CROP_SIZE, FACE_CROP_SIZE)
    return FaceGeometry(
        torch.cat([vertices for vertices, _ in read]),
        deca.flame.model.triangles.cpu(),
        torch.cat([betas for _, betas in read]),
        f"{deca.source}, {mode}: {words}; {region}",
        sharpness=tuple(sharpness(crop) for crop in face.images) if aligned else (),
    )


def _read_heads(deca: Deca, photos: Tensor, kept: KeptCodes) -> tuple[Tensor, Tensor]:
    """Vertices `(B, 5023, 3)` and shape components `(B, 100)` of photos `(B, 3, 224, 224)`."""
    code = split_code(deca.encoder.model(photos))
    rotations = code.pose.new_tensor([kept.rotation] * 3 + [kept.jaw] * 3)
    vertices = deca.flame.model(
        code.shape, code.expression * float(kept.expression), code.pose * rotations
    )
    return vertices.cpu(), code.shape.cpu()


def _photo_region(crop: FaceCrops, region: str) -> tuple[Tensor, str]:
    """The part of the photo that DECA reads, and what it is in words."""
    if region == WHOLE_IMAGE:
        return crop.photos, "read from the whole image"
    if crop.box is None:
        return crop.photos, (
            "read from the whole image, because this face comes without a box (give the output of "
            "Align Face rather than a bare image)"
        )
    return face_square(crop.photos, crop.box), "read from the square around the face"


def fuse(adapter: Adapter, face_tokens: FaceTokens, geometry: FaceGeometry) -> Identity:
    """Fusion transformer: face tokens and vertices -> identity of 36 + 79 tokens.

    Raises:
        ValueError: The face tokens were made with another adapter, or there are several heads.

    Source: paper section 3.4.
    """
    dim = adapter.injection.context_dim
    if face_tokens.tokens.shape[-1] != dim:
        raise ValueError(
            f"the face tokens are {face_tokens.tokens.shape[-1]} wide, the adapter "
            f"{adapter.source} takes {dim}: make them with this adapter"
        )
    references = face_tokens.tokens.shape[0]
    if references > 1:
        raise ValueError(
            f"the face tokens are of {references} references: put FantasyID Combine References "
            "between Face Tokens and Fuse"
        )
    made_with = face_tokens.provenance.adapter_hash
    if made_with and adapter.fingerprint and made_with != adapter.fingerprint:
        raise ValueError(
            f"the face tokens were made with the adapter {shown(made_with)}, the adapter "
            f"{adapter.source} is {shown(adapter.fingerprint)}: make them with this adapter"
        )
    reason = face_tokens.empty_reason or geometry.empty_reason
    if reason:
        empty = torch.zeros(0, NUM_FACE_TOKENS, dim)
        return Identity(empty, torch.zeros(0, NUM_VERTEX_TOKENS, dim), reason)
    device = load_to_device(adapter.fusion)
    vertex_tokens = adapter.fusion.model(
        face_tokens.tokens.to(device, torch.float32),
        geometry.head[None].to(device, torch.float32),
        adapter.tables.to(device),
    )
    return Identity(
        face_tokens.tokens,
        vertex_tokens.cpu(),
        geometry=geometry,
        thumbnail=face_tokens.thumbnail,
        provenance=face_tokens.provenance,
    )


def describe_identity(identity: Identity) -> str:
    """What the fusion stage made, in a sentence."""
    if identity.is_empty:
        return f"EMPTY IDENTITY: {identity.empty_reason}."
    looks, shape = identity.face_tokens.shape[1], identity.vertex_tokens.shape[1]
    width = identity.tokens.shape[-1]
    words = (
        f"Identity of {looks} face tokens (looks) and {shape} vertex tokens (shape), {width} wide."
    )
    if looks != NUM_FACE_TOKENS:
        words += f" The released training saw {NUM_FACE_TOKENS} face tokens of one crop."
    return words
