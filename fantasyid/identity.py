"""The values that travel between the stages: crop, geometry, face tokens, identity.

Each one is frozen, and each one can be *empty*: a photo without a face, with the policy
"continue without identity", gives an empty crop, and every later stage hands the emptiness and
its reason on, so that the last node can say why no identity was applied.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FLAME_VERTICES = 5023
FACE_CROP_SIZE = 512


@dataclass(frozen=True, slots=True)
class FaceCrop:
    """An aligned face and the photo that it was cut from.

    Attributes:
        image: `(1, 512, 512, 3)` RGB in [0, 1]; `(0, 512, 512, 3)` when empty.
        photo: `(1, H, W, 3)` RGB in [0, 1], whole and not aligned.
        detector: What found the face ("insightface", "cascade", "points by hand", ...).
        empty_reason: Why there is no face; "" when there is one.
        box: The face in the photo, `(x0, y0, x1, y1)` pixels, or None where nobody measured it.
        points: `(5, 2)` facial points in pixels of the photo (`face.points.POINT_NAMES`), or None.
    """

    image: Tensor
    photo: Tensor
    detector: str
    empty_reason: str = ""
    box: tuple[float, float, float, float] | None = None
    points: Tensor | None = None

    @staticmethod
    def empty(photo: Tensor, reason: str) -> FaceCrop:
        """The crop of a photo without a face."""
        return FaceCrop(
            torch.zeros(0, FACE_CROP_SIZE, FACE_CROP_SIZE, 3), photo, "none", empty_reason=reason
        )


@dataclass(frozen=True, slots=True)
class FaceGeometry:
    """A head in FLAME topology.

    Attributes:
        vertices: `(1, 5023, 3)` in metres, y up, nose towards +z; `(0, 5023, 3)` when empty.
        triangles: `(T, 3)` int64 vertex indexes, or None where the source has none.
        betas: `(1, S)` FLAME shape components, or None where the source has none.
        source: Words for people: which file or photo, which mode.
        empty_reason: Why there is no head; "" when there is one.
    """

    vertices: Tensor
    triangles: Tensor | None
    betas: Tensor | None
    source: str
    empty_reason: str = ""

    @staticmethod
    def empty(reason: str) -> FaceGeometry:
        """The geometry of a photo without a face."""
        return FaceGeometry(
            torch.zeros(0, FLAME_VERTICES, 3), None, None, "none", empty_reason=reason
        )


@dataclass(frozen=True, slots=True)
class FaceTokens:
    """What the C-Abstractor says of a face.

    Attributes:
        tokens: `(R, 36, C)` of R references, one as a rule; `(1, R * 36, C)` when references were
            concatenated; `(0, 36, C)` when empty.
        empty_reason: Why there are none; "" when there are some.
    """

    tokens: Tensor
    empty_reason: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """Face tokens and vertex tokens of one person, ready to be injected.

    Attributes:
        face_tokens: `(1, 36, C)`, more tokens when references were concatenated; `(0, 36, C)`
            when empty.
        vertex_tokens: `(1, 79, C)`; `(0, 79, C)` when empty.
        empty_reason: Why there is no identity; "" when there is one.
    """

    face_tokens: Tensor
    vertex_tokens: Tensor
    empty_reason: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to inject."""
        return self.face_tokens.shape[0] == 0

    @property
    def tokens(self) -> Tensor:
        """`(1, 36 + 79, C)` or more, face tokens first (released-model fact, section 3)."""
        return torch.cat([self.face_tokens, self.vertex_tokens], dim=1)
