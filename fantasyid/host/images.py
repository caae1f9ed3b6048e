"""IMAGE and BOUNDING_BOX values of the host, and ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..face.faces import DetectedFace
from ..identity import FaceCrop


def one_photo(image: Tensor) -> Tensor:
    """The single photo of an IMAGE `(1, H, W, C)`: `(H, W, 3)` float32 RGB in [0, 1].

    Raises:
        ValueError: There is no photo, or more than one, or it has non-finite values.
    """
    if image.ndim != 4 or image.shape[0] != 1:
        raise ValueError(
            f"the image input holds {image.shape[0]} images, FantasyID reads one: choose it with "
            "Get Image from Batch"
        )
    photo = image[0].float().cpu()
    photo = photo.expand(-1, -1, 3) if photo.shape[-1] == 1 else photo[..., :3]
    if not torch.isfinite(photo).all():
        raise ValueError("the image input has values that are not numbers (NaN or infinity)")
    return photo.clamp(0.0, 1.0)


def crop_or_blank(crop: FaceCrop) -> Tensor:
    """The crop as an IMAGE; a black square where there is no face."""
    return crop.image if crop.image.shape[0] else crop.image.new_zeros(1, *crop.image.shape[1:])


def as_bounding_boxes(faces: Sequence[DetectedFace]) -> list[list[dict[str, Any]]]:
    """Faces of one photo as the host's BOUNDING_BOX: a list per frame of boxes in pixels."""
    return [
        [
            {
                "x": f.box[0],
                "y": f.box[1],
                "width": f.box[2] - f.box[0],
                "height": f.box[3] - f.box[1],
                "label": "face",
                "score": f.score,
            }
            for f in faces
        ]
    ]
