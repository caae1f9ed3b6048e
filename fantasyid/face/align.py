"""From photos to aligned faces: find, choose, cut, describe, draw.

Source: docs/released-model.md, section 0 (steps 1 and 2): the long side is reduced to 1024, the
face nearest the image center is taken, its five points are fitted to the 512 template.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..identity import FaceCrops
from .crop import cut_crop
from .draw import draw_faces
from .faces import Box, DetectedFace, choose_face, face_nearest_box
from .points import points_of
from .quality import describe_quality
from .sources import FaceSources, open_detectors
from .yunet import BETTER

STOP = "stop"
SKIP = "skip this image"
CONTINUE = "continue without identity"
NO_FACE_POLICIES = (STOP, CONTINUE, SKIP)

# Less overlap than this from one image to the next is another face.
_LEAST_OVERLAP = 0.3


class NoFaceError(ValueError):
    """Nobody is on a photo, and the policy is to stop then."""


@dataclass(frozen=True, slots=True)
class FaceChoice:
    """Which face is meant, and how it is cut."""

    rule: str  # one of `faces.RULES`
    index: int = 0  # which of the faces in the order of the rule
    region: Box | None = None  # the face that overlaps it most wins over the rule
    follow: bool = False  # in a batch, stay with the face that was taken in the image before
    padding: float = 1.0  # see `crop.align_crop`


@dataclass(frozen=True, slots=True)
class Alignment:
    """What the align stage puts out for one photo."""

    crop: FaceCrops  # the aligned face, or an empty one with the reason
    faces: tuple[DetectedFace, ...]  # all, left to right, in pixels of the photo
    preview: Tensor  # (1, H, W, 3) the photo with numbered boxes and points
    message: str  # some sentences for the node


def align_faces(
    photos: Sequence[Tensor],
    sources: FaceSources,
    choice: FaceChoice,
    policy: str,
    tick: Callable[[], None] = lambda: None,
) -> list[Alignment]:
    """Align one face of each photo.

    Args:
        photos: `(H, W, 3)` RGB in [0, 1] each.
        sources: Who finds the faces.
        choice: Which of them is meant.
        policy: What to do with a photo without a face: "stop" raises; "skip this image" and
            "continue without identity" give an empty crop that carries the reason.
        tick: Called after each photo; may raise to interrupt.

    Raises:
        NoFaceError: No face, with the policy "stop".
        ValueError: The index is beyond the faces found.
    """
    if policy not in NO_FACE_POLICIES:
        raise ValueError(
            f'the policy is "{policy}", expected one of: {", ".join(NO_FACE_POLICIES)}'
        )
    aligned: list[Alignment] = []
    before: Box | None = None
    for number, detect in enumerate(open_detectors(sources, len(photos))):
        photo = photos[number]
        faces = detect(photo)
        where = f"image {number}: " if len(photos) > 1 else ""
        if faces:
            chosen, is_new = _choose(faces, photo, choice, before)
            points = points_of(chosen).tolist()
            image = cut_crop(photo, points, choice.padding)
            at = torch.tensor(points, dtype=torch.float32)
            crop = FaceCrops(image[None], photo[None], chosen.detector, box=chosen.box, points=at)
            message = _describe(faces, chosen, is_new)
            message += describe_quality(image, at.tolist(), choice.padding)
            preview = draw_faces(photo, faces, chosen)[None]
            before = chosen.box if choice.follow else None
        else:
            reason = (
                f"no face found in the {photo.shape[1]}x{photo.shape[0]} photo (detector: "
                f"{sources.words}). Use a photo in which the face is larger and seen from the "
                "front, connect a MediaPipe Face Landmarker or a bounding box, or type the five "
                "points by hand"
            )
            if policy == STOP:
                raise NoFaceError(where + reason)
            crop, preview = FaceCrops.empty(photo[None], reason), photo[None]
            message = f"NO IDENTITY: {reason}."
        aligned.append(Alignment(crop, tuple(faces), preview, where.capitalize() + message))
        tick()
    return aligned


def _choose(
    faces: list[DetectedFace], photo: Tensor, choice: FaceChoice, before: Box | None
) -> tuple[DetectedFace, bool]:
    """The face that is meant, and whether the one that was followed is not here."""
    height, width = photo.shape[:2]
    if before is not None:
        followed = face_nearest_box(faces, before, _LEAST_OVERLAP)
        if followed is not None:
            return followed, False
        return choose_face(faces, width, height, choice.rule, 0), True
    if choice.region is None:
        return choose_face(faces, width, height, choice.rule, choice.index), False
    chosen = face_nearest_box(faces, choice.region, 0.0)
    if chosen is None:
        raise ValueError(
            f"none of the {len(faces)} faces touches the box that was given to choose by, "
            f"({', '.join(f'{v:.0f}' for v in choice.region)})"
        )
    return chosen, False


def _describe(faces: list[DetectedFace], chosen: DetectedFace, is_new: bool) -> str:
    words = (
        f"Face {faces.index(chosen)} of {len(faces)} (counted from the left, from 0), found by "
        f"{chosen.detector}."
    )
    if chosen.points is None:
        words += f" This detector gives a box only: the five points are estimated from it; {BETTER}"
        if chosen.roll_deg:
            words += f" The head is tilted by about {chosen.roll_deg:.0f} degrees."
    if is_new:
        words += " The face of the image before is not here; chosen anew."
    return words


def summarize(aligned: Sequence[Alignment], policy: str) -> str:
    """What became of a batch, in sentences.

    Raises:
        ValueError: No photo has a face and the policy was to skip those without.
    """
    count, first = len(aligned), aligned[0].message
    with_face = [i for i, a in enumerate(aligned) if not a.crop.empty_reason]
    if not with_face and policy == SKIP:
        raise ValueError(f"every image was skipped, {count} of {count}: {first}")
    if count == 1:
        return first
    head = f"{len(with_face)} of {count} images have a face."
    if not with_face:
        return f"{head} {first}"
    if len(with_face) < count:
        lost = [str(i) for i in range(count) if i not in with_face]
        what = "left out" if policy == SKIP else "black in the crops"
        head += f" Without one, and {what}: {', '.join(lost)}."
    head += f" The face output is that of image {with_face[0]}; the crops are a batch."
    return "\n".join([head, *(a.message for a in aligned)])
