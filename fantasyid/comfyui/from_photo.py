"""From photos of one person to an identity in one call: the stages behind each other."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..combine import NORM_PRESERVING
from ..face.align import FaceChoice
from ..face.sources import FaceSources
from ..identity import FaceCrops, FaceGeometry, Identity
from .head_average import average_geometry
from .images import Shown, align_photos, first_face
from .stages import (
    NEUTRAL,
    combine_face_tokens,
    compute_face_tokens,
    compute_vertices,
    describe_identity,
    fuse,
)
from .weights import Adapter, Deca, FaceEncoder


@dataclass(frozen=True, slots=True)
class Parts:
    """The models that make an identity."""

    adapter: Adapter
    encoder: FaceEncoder
    deca: Deca


def identity_from_photos(
    image: Tensor,
    parts: Parts,
    sources: FaceSources,
    choice: FaceChoice,
    policy: str,
    head: str,
) -> tuple[Identity, FaceCrops, str, Shown]:
    """Align, read looks and shape, fuse.

    Of several photos the face tokens are averaged with their length kept, the heads laid onto
    each other and averaged; photos without a face are left out.

    Args:
        image: `(B, H, W, 3)` photos of one person.
        sources: Who finds the faces.
        choice: Which face of each photo is meant.
        policy: One of `align.NO_FACE_POLICIES`.
        head: One of `stages.GEOMETRY_MODES` but custom.

    Returns:
        The identity, the first face found, words, and the picture for the node. Both values are
        empty, with the reason, where there is no face.

    Raises:
        ValueError: No face, with the policy "stop"; or the models do not fit each other.
    """
    aligned, words, shown = align_photos(image, sources, choice, policy)
    first = first_face(aligned)
    crops = [a.crop for a in aligned if not a.crop.empty_reason] or [first]
    tokens = [compute_face_tokens(parts.encoder, parts.adapter, crop) for crop in crops]
    heads = [compute_vertices(parts.deca, crop, head) for crop in crops]
    identity = fuse(
        parts.adapter,
        combine_face_tokens(tokens, NORM_PRESERVING, "") if len(tokens) > 1 else tokens[0],
        _one_head(heads, parts.deca if head == NEUTRAL else None),
    )
    return identity, first, f"{describe_identity(identity)} {words}", shown


def _one_head(heads: list[FaceGeometry], deca: Deca | None) -> FaceGeometry:
    return heads[0] if len(heads) == 1 else average_geometry(heads, "mean", "", deca)[0]
