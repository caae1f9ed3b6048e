"""IMAGE and BOUNDING_BOX values of the host, and ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.utils
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..face.align import SKIP, Alignment, FaceChoice, align_faces, summarize
from ..face.faces import Box, DetectedFace
from ..face.sources import FaceSources
from ..identity import FACE_CROP_SIZE, FaceCrops

# Pictures on a node: side by side, this many at most.
SHOWN_AT_MOST = 16
GIVEN_IMAGE = "given image"
BLACK = "the given image is black, which is what the face nodes give where they find no face"
BoundingBoxes = list[list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Shown:
    """The picture for a node, and where the faces are in it, to be chosen by a click."""

    picture: Tensor  # (N, 512, W', 3) photo with boxes and crop, side by side
    # Left to right, in shares of width and height; of a single photo only, for in a batch a number
    # means another face in each.
    faces: list[Box]


def check_photos(image: Tensor) -> Tensor:
    """An IMAGE as `(B, H, W, 3)` float32 RGB in [0, 1] on the CPU; gray is spread, alpha dropped.

    Raises:
        ValueError: There is no picture in it, it has no three colours, or non-finite values.
    """
    if image.ndim != 4:
        raise ValueError(f"the image input is {tuple(image.shape)}, expected (B, H, W, 3)")
    if 0 in image.shape:
        raise ValueError(f"the image input is empty: its shape is {tuple(image.shape)}")
    if (channels := image.shape[-1]) > 4:
        raise ValueError(
            f"the image input has {channels} channels, expected gray, RGB or either with alpha"
        )
    photos = image.float().cpu()
    photos = photos[..., :3] if channels > 2 else photos[..., :1].expand(-1, -1, -1, 3)
    if not torch.isfinite(photos).all():
        raise ValueError("the image input has values that are not numbers (NaN or infinity)")
    return photos.clamp(0.0, 1.0)


def align_photos(
    image: Tensor, sources: FaceSources, choice: FaceChoice, policy: str
) -> tuple[list[Alignment], str, Shown]:
    """The align stage for an IMAGE of one or many photos.

    Returns:
        What was found in each photo, words, and the picture for the node.

    Raises:
        ValueError: See `align_faces` and `check_photos`.
    """
    photos = list(check_photos(image))
    bar = comfy.utils.ProgressBar(len(photos))

    def tick() -> None:
        bar.update(1)
        comfy.model_management.throw_exception_if_processing_interrupted()

    aligned = align_faces(photos, sources, choice, policy, tick)
    picture = torch.cat([_side_by_side(a) for a in aligned[:SHOWN_AT_MOST]])
    faces = _places(aligned[0], picture.shape[2]) if len(aligned) == 1 else []
    return aligned, summarize(aligned, policy), Shown(picture, faces)


def align_images(
    image: Tensor, sources: FaceSources, choice: FaceChoice, policy: str
) -> tuple[FaceCrops, Tensor, BoundingBoxes, Tensor, str, Shown]:
    """As `align_photos`, as the align node puts it out.

    Returns:
        The first face found, or an empty one with the reason; crops `(B, 512, 512, 3)`, black
        where there is no face, unless such images are skipped; all faces of every image; the
        photos with numbered boxes `(B, H, W, 3)`; words; and the picture for the node.
    """
    aligned, message, shown = align_photos(image, sources, choice, policy)
    kept = [a for a in aligned if policy != SKIP or not a.crop.empty_reason]
    return (
        first_face(aligned),
        torch.cat([crop_or_black(a.crop) for a in kept]),
        [[_as_box(face) for face in a.faces] for a in aligned],
        torch.cat([a.preview for a in aligned]),
        message,
        shown,
    )


def first_face(aligned: Sequence[Alignment]) -> FaceCrops:
    """The first face that was found, or an empty one with the reason."""
    return next((a for a in aligned if not a.crop.empty_reason), aligned[0]).crop


def as_face_crops(face: FaceCrops | Tensor) -> FaceCrops:
    """What a face socket carries; an IMAGE counts as aligned already.

    Black pictures, which the face nodes put into a batch where they find no face, are left out:
    where all are black, the crops are empty and say so.

    Raises:
        ValueError: See `check_photos`.
    """
    if isinstance(face, FaceCrops):
        return face
    photos = check_photos(face)
    seen = photos.flatten(1).any(1)
    if not seen.any():
        return FaceCrops.empty(photos[:1], BLACK)
    return FaceCrops(photos[seen], photos[seen], GIVEN_IMAGE)


def crop_or_black(crop: FaceCrops) -> Tensor:
    """The crop as an IMAGE; a black square where there is no face."""
    return crop.images if crop.images.shape[0] else crop.images.new_zeros(1, *crop.images.shape[1:])


def _side_by_side(aligned: Alignment) -> Tensor:
    """The photo with its boxes, as high as the crop, and the crop beside it."""
    height, width = aligned.preview.shape[1:3]
    size = (FACE_CROP_SIZE, max(1, round(width * FACE_CROP_SIZE / height)))
    small = interpolate(aligned.preview.permute(0, 3, 1, 2), size, mode="bilinear", antialias=True)
    return torch.cat([small.permute(0, 2, 3, 1), crop_or_black(aligned.crop)], dim=2)


def _places(aligned: Alignment, width: int) -> list[Box]:
    """The faces in shares of the picture of `_side_by_side`, `width` pixels wide."""
    high, wide = aligned.preview.shape[1:3]
    share = (width - FACE_CROP_SIZE) / width
    boxes = (face.box for face in aligned.faces)
    return [
        (x0 / wide * share, y0 / high, x1 / wide * share, y1 / high) for x0, y0, x1, y1 in boxes
    ]


def _as_box(face: DetectedFace) -> dict[str, Any]:
    x0, y0, x1, y1 = face.box
    place = {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0}
    return {**place, "label": "face", "score": face.score}
