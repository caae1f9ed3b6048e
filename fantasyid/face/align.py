"""From photos to aligned faces: find, choose, crop, and say in words what happened.

Source: docs/released-model.md, section 0 (steps 1 and 2): the long side is reduced to 1024, the
face nearest the image centre is taken, its five points are fitted to the 512 template.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..identity import FaceCrop
from .crop import align_crop, reduce_long_side
from .faces import DetectedFace, choose_face, draw_faces, face_nearest_box
from .points import points_from_box
from .quality import describe_quality
from .sources import FaceSources, open_finder

STOP = "stop"
SKIP = "skip this image"
CONTINUE = "continue without identity"
NO_FACE_POLICIES = (STOP, CONTINUE, SKIP)

# Less overlap than this from one image to the next is another face.
_LEAST_OVERLAP = 0.3


@dataclass(frozen=True, slots=True)
class FaceChoice:
    """Which face is meant, and how it is cut.

    Attributes:
        rule: One of `faces.RULES`.
        index: Which of the faces in the order of the rule, from 0.
        region: `(x0, y0, x1, y1)` pixels: the face that overlaps it most wins over the rule.
        follow: In a batch, stay with the face that was taken in the image before.
        padding: See `crop.align_crop`.
    """

    rule: str
    index: int = 0
    region: tuple[float, float, float, float] | None = None
    follow: bool = False
    padding: float = 1.0


@dataclass(frozen=True, slots=True)
class Alignment:
    """What the align stage puts out for one photo.

    Attributes:
        crop: The aligned face, or an empty one with the reason.
        faces: All faces found, left to right, in pixels of the photo.
        preview: `(1, H, W, 3)` the photo with numbered boxes and points.
        message: Some sentences for the node.
    """

    crop: FaceCrop
    faces: tuple[DetectedFace, ...]
    preview: Tensor
    message: str


def align_face(
    photo: Tensor, sources: FaceSources, rule: str, index: int, policy: str
) -> Alignment:
    """Find the faces of a photo `(H, W, 3)`, choose one, and cut the released 512 crop.

    Args:
        photo: RGB in [0, 1].
        sources: Who finds the face.
        rule: One of `faces.RULES`.
        index: Which of the faces in the order of the rule, from 0.
        policy: "stop" raises when there is no face; the others give an empty crop that carries
            the reason.

    Raises:
        ValueError: No face, with the policy "stop"; or the index is beyond the faces found.
    """
    (found,) = align_faces([photo], sources, FaceChoice(rule, index), policy)
    return found


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
        choice: Which face is meant.
        policy: What to do with a photo without a face: "stop" raises; "skip this image" and
            "continue without identity" give an empty crop that carries the reason.
        tick: Called after each photo; may raise to interrupt.

    Raises:
        ValueError: No face, with the policy "stop"; or the index is beyond the faces found.
    """
    if policy not in NO_FACE_POLICIES:
        raise ValueError(
            f'the policy is "{policy}", expected one of: {", ".join(NO_FACE_POLICIES)}'
        )
    find = open_finder(sources, len(photos))
    aligned: list[Alignment] = []
    before: tuple[float, float, float, float] | None = None
    for number, photo in enumerate(photos):
        faces = find(photo, number)
        where = f"image {number}: " if len(photos) > 1 else ""
        found = _align(photo, faces, choice, before, sources)
        if found.crop.empty_reason and policy == STOP:
            raise ValueError(where + found.crop.empty_reason)
        aligned.append(replace(found, message=where.capitalize() + found.message))
        before = found.crop.box if choice.follow and found.crop.box else before
        tick()
    return aligned


def _align(
    photo: Tensor,
    faces: list[DetectedFace],
    choice: FaceChoice,
    before: tuple[float, float, float, float] | None,
    sources: FaceSources,
) -> Alignment:
    height, width = photo.shape[:2]
    if not faces:
        reason = (
            f"no face found in the {width}x{height} photo (detector: {sources.words}). Use a "
            "photo in which the face is larger and seen from the front, connect a MediaPipe Face "
            "Landmarker or a bounding box, or type the five points by hand"
        )
        crop = FaceCrop.empty(photo[None], reason)
        return Alignment(crop, (), photo[None], f"NO IDENTITY: {reason}.")
    chosen, words = _choose(faces, width, height, choice, before)
    points = chosen.points or points_from_box(chosen.box, chosen.roll_deg).tolist()
    image = cut_crop(photo, points, choice.padding)
    message = _describe(chosen, faces.index(chosen), len(faces))
    message += words + describe_quality(image, points, choice.padding)
    crop = FaceCrop(
        image[None],
        photo[None],
        chosen.detector,
        box=chosen.box,
        points=torch.tensor(points, dtype=torch.float32),
    )
    return Alignment(crop, tuple(faces), draw_faces(photo, faces, chosen)[None], message)


def cut_crop(photo: Tensor, points: Sequence[Sequence[float]], padding: float = 1.0) -> Tensor:
    """The released way from a photo `(H, W, 3)` and its five points to the crop `(512, 512, 3)`."""
    reduced, scale = reduce_long_side(photo)
    image, _ = align_crop(reduced, [[x * scale, y * scale] for x, y in points], padding=padding)
    return image


def _choose(
    faces: list[DetectedFace],
    width: int,
    height: int,
    choice: FaceChoice,
    before: tuple[float, float, float, float] | None,
) -> tuple[DetectedFace, str]:
    """The face that is meant, and what there is to say about the choice."""
    if before is not None:
        followed = face_nearest_box(faces, before, _LEAST_OVERLAP)
        if followed is not None:
            return followed, ""
        words = " The face of the image before is not here; chosen anew."
        return choose_face(faces, width, height, choice.rule, 0), words
    if choice.region is not None:
        chosen = face_nearest_box(faces, choice.region, 0.0)
        if chosen is None:
            raise ValueError(
                f"none of the {len(faces)} faces touches the box that was given to choose by, "
                f"({', '.join(f'{v:.0f}' for v in choice.region)})"
            )
        return chosen, ""
    return choose_face(faces, width, height, choice.rule, choice.index), ""


def _describe(face: DetectedFace, number: int, count: int) -> str:
    words = f"Face {number} of {count} (counted from the left, from 0), found by {face.detector}."
    if face.points is None:
        words += " This detector gives a box only: the five points are estimated from it."
        if face.roll_deg:
            words += f" The head is tilted by about {face.roll_deg:.0f} degrees."
    return words


def first_found(aligned: Sequence[Alignment]) -> Alignment:
    """The first photo with a face, or the first photo where none has one."""
    return next((a for a in aligned if not a.crop.empty_reason), aligned[0])


def summarize(aligned: Sequence[Alignment], policy: str) -> str:
    """What became of a batch, in sentences.

    Raises:
        ValueError: No photo has a face and the policy was to skip those without.
    """
    with_face = [i for i, a in enumerate(aligned) if not a.crop.empty_reason]
    if not with_face and policy == SKIP:
        raise ValueError(
            f"every image was skipped, {len(aligned)} of {len(aligned)}: {aligned[0].message}"
        )
    if len(aligned) == 1:
        return aligned[0].message
    head = f"{len(with_face)} of {len(aligned)} images have a face."
    if not with_face:
        return f"{head} {aligned[0].message}"
    if len(with_face) < len(aligned):
        lost = [str(i) for i in range(len(aligned)) if i not in with_face]
        what = "left out" if policy == SKIP else "black in the crops"
        head += f" Without one, and {what}: {', '.join(lost)}."
    head += f" The face output is that of image {with_face[0]}; the crops are a batch."
    return "\n".join([head, *(a.message for a in aligned)])
