"""The values that travel between the stages: crops, geometry, face tokens, identity.

Each one is frozen, and each one can be *empty*: a photo without a face, with the policy "continue
without identity", gives empty crops, and every later stage hands the emptiness and its reason on,
so that the last node can say why no identity was applied.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

FLAME_VERTICES = 5023
FACE_CROP_SIZE = 512
NUM_FACE_TOKENS = 36  # of one reference
NUM_VERTEX_TOKENS = 79
THUMBNAIL_SIZE = 128


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where an identity comes from; "" or empty where nobody knows."""

    detector: str = ""  # what found the face
    encoder_hash: str = ""  # `fingerprint.weights_fingerprint` of the face encoder
    adapter_hash: str = ""  # the same of the adapter
    source_hashes: tuple[str, ...] = ()  # `fingerprint.photo_hash` of each photo
    note: str = ""  # license, consent, whose face it is: free words
    created_with: str = ""  # what wrote the file, for an identity from a file

    @staticmethod
    def of_all(what: str, given: Sequence[Provenance]) -> Provenance:
        """All that is known of several, each thing once.

        Raises:
            ValueError: `what` (the several) were made with different encoders or adapters.
        """

        def each(words: Iterable[str]) -> list[str]:
            return list(dict.fromkeys(word for word in words if word))

        encoders, adapters = (
            each(p.encoder_hash for p in given),
            each(p.adapter_hash for p in given),
        )
        for part, hashes in (("face encoder", encoders), ("adapter", adapters)):
            if len(hashes) > 1:
                raise ValueError(
                    f"{what} were made with different {part}s, "
                    f"{' and '.join(h[:16] for h in hashes)}: make them anew with one {part}"
                )
        return Provenance(
            detector=", ".join(each(p.detector for p in given)),
            encoder_hash="".join(encoders),
            adapter_hash="".join(adapters),
            source_hashes=tuple(each(h for p in given for h in p.source_hashes)),
            note="\n".join(each(p.note for p in given)),
        )


def make_thumbnail(image: Tensor) -> Tensor:
    """The first picture, small, in the steps of 8 bits that a file keeps.

    Args:
        image: `(B, H, W, 3)` RGB in [0, 1], B > 0.

    Returns:
        `(1, 128, 128, 3)`.
    """
    size = (THUMBNAIL_SIZE, THUMBNAIL_SIZE)
    small = interpolate(image[:1].cpu().float().permute(0, 3, 1, 2), size, mode="area")
    return (small.permute(0, 2, 3, 1).clamp(0.0, 1.0) * 255).round() / 255


@dataclass(frozen=True, slots=True)
class FaceCrops:
    """Aligned faces, one as a rule, and the photos that they were cut from."""

    # `(R, 512, 512, 3)` RGB in [0, 1]; `(0, 512, 512, 3)` when empty. Images that a user gave as
    # crops may have another size.
    images: Tensor
    photos: Tensor  # `(R, H, W, 3)` RGB in [0, 1], whole and not aligned
    detector: str  # what found the face ("insightface", "cascade", "points by hand", ...)
    empty_reason: str = ""  # why there is no face; "" when there is one
    # The only face in the photo, `(x0, y0, x1, y1)` pixels, or None where nobody measured it.
    box: tuple[float, float, float, float] | None = None
    # `(5, 2)` facial points in pixels of the photo (`face.points.POINT_NAMES`), or None.
    points: Tensor | None = None

    @staticmethod
    def empty(photos: Tensor, reason: str) -> FaceCrops:
        """The crops of a photo without a face."""
        none = torch.zeros(0, FACE_CROP_SIZE, FACE_CROP_SIZE, 3)
        return FaceCrops(none, photos, "none", empty_reason=reason)


@dataclass(frozen=True, slots=True)
class FaceGeometry:
    """A head in FLAME topology, or the heads of several photos."""

    # `(R, 5023, 3)` of R heads, one as a rule, in meters, y up, nose towards +z; `(0, 5023, 3)`
    # when empty.
    vertices: Tensor
    triangles: Tensor | None  # `(T, 3)` int64 vertex indexes, or None where the source has none
    betas: Tensor | None  # `(R, S)` FLAME shape components, or None where the source has none
    source: str  # words for people: which file or photo, which mode
    empty_reason: str = ""  # why there is no head; "" when there is one
    # `face.quality.sharpness` of the crop of each head; () where nobody measured it.
    sharpness: tuple[float, ...] = ()

    @property
    def head(self) -> Tensor:
        """The vertices of the only head, `(5023, 3)` on the CPU.

        Raises:
            ValueError: There are several.
        """
        if self.vertices.shape[0] > 1:
            raise ValueError(
                f"the geometry is of {self.vertices.shape[0]} heads: put FantasyID Average "
                "Geometry behind Face Vertices"
            )
        return self.vertices[0].cpu()

    @staticmethod
    def empty(reason: str) -> FaceGeometry:
        """The geometry of a photo without a face."""
        return FaceGeometry(
            torch.zeros(0, FLAME_VERTICES, 3), None, None, "none", empty_reason=reason
        )


@dataclass(frozen=True, slots=True)
class FaceTokens:
    """What the C-Abstractor says of a face."""

    # `(R, 36, C)` of R references, one as a rule; `(1, R * 36, C)` when references were
    # concatenated; `(0, 36, C)` when empty.
    tokens: Tensor
    empty_reason: str = ""  # why there are none; "" when there are some
    thumbnail: Tensor | None = None  # `(1, 128, 128, 3)` RGB in [0, 1] of the first crop, or None
    provenance: Provenance = Provenance()  # which photo, encoder and adapter


@dataclass(frozen=True, slots=True)
class Identity:
    """Face tokens and vertex tokens of one person, ready to be injected."""

    # `(1, 36, C)`, more tokens when references were concatenated; `(0, 36, C)` when empty.
    face_tokens: Tensor
    vertex_tokens: Tensor  # `(1, 79, C)`; `(0, 79, C)` when empty
    empty_reason: str = ""  # why there is no identity; "" when there is one
    # The head that the vertex tokens were made of, or None where nobody kept it.
    geometry: FaceGeometry | None = None
    thumbnail: Tensor | None = None  # `(1, 128, 128, 3)` RGB in [0, 1] of the face, or None
    provenance: Provenance = Provenance()  # which photo, encoder and adapter

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to inject."""
        return self.face_tokens.shape[0] == 0

    @property
    def tokens(self) -> Tensor:
        """`(1, 36 + 79, C)` or more, face tokens first (docs/released-model.md, section 3)."""
        return torch.cat([self.face_tokens, self.vertex_tokens], dim=1)


def identity_mismatch(
    provenance: Provenance, adapter: Any = None, face_encoder: Any = None
) -> str | None:
    """Why tokens do not belong to an adapter or a face encoder, with both hashes.

    Returns:
        A sentence, or None where they belong together or one of the hashes is not known.
    """
    for words, made_with, weights in (
        ("adapter", provenance.adapter_hash, adapter),
        ("face encoder", provenance.encoder_hash, face_encoder),
    ):
        if weights is not None and made_with and weights.fingerprint not in ("", made_with):
            return (
                f"the identity was made with the {words} {made_with[:16]}, the {words} "
                f"{weights.source} is {weights.fingerprint[:16]}: tokens of one say nothing to "
                f"the other. Load the {words} that it was made with, or make the identity anew "
                "with this one"
            )
    return None
