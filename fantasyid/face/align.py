"""From a photo to an aligned face: find, choose, crop, and say in words what happened.

Source: released-model facts, section 0 (steps 1 and 2): the long side is reduced to 1024, the
face nearest the image centre is taken, its five points are fitted to the 512 template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..identity import FACE_CROP_SIZE, FaceCrop
from .crop import align_crop, parse_points, points_from_box, reduce_long_side
from .detect import (
    detect_with_cascade,
    detect_with_insightface,
    faces_from_boxes,
    faces_from_landmarks,
)
from .faces import DetectedFace, choose_face, draw_faces

DETECTORS = ("auto", "insightface", "cascade")
STOP = "stop"
CONTINUE = "continue without identity"
NO_FACE_POLICIES = (STOP, CONTINUE)


@dataclass(frozen=True, slots=True)
class FaceSources:
    """Who may say where the face is; the first one that is given wins, in this order.

    Attributes:
        points: Five points as text, "x,y x,y x,y x,y x,y" in pixels of the photo; "" for none.
        landmarks: The host's FACE_LANDMARKS value, or None.
        boxes: The host's BOUNDING_BOX value, or None.
        detector: "auto", "insightface" or "cascade", when none of the above is given.
        insightface_folders: Where insightface packs may lie.
    """

    points: str
    landmarks: Mapping[str, Any] | None
    boxes: Any
    detector: str
    insightface_folders: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Alignment:
    """What the align stage puts out.

    Attributes:
        crop: The aligned face, or an empty one with the reason.
        faces: All faces found, left to right, in pixels of the photo.
        preview: `(1, H, W, 3)` the photo with numbered boxes and points.
        message: One or two sentences for the node.
    """

    crop: FaceCrop
    faces: tuple[DetectedFace, ...]
    preview: Tensor
    message: str


def find_faces(photo: Tensor, sources: FaceSources) -> list[DetectedFace]:
    """All faces of a photo `(H, W, 3)`, left to right.

    Raises:
        ImportError, FileNotFoundError: The detector that was asked for is not installed, or has
            no model files; with "auto", only when no detector is there at all.
    """
    points = parse_points(sources.points)
    if points is not None:
        return [_from_points(points.tolist())]
    if sources.landmarks is not None:
        frames = sources.landmarks["frames"]
        return faces_from_landmarks(frames[0] if frames else [])
    if sources.boxes is not None:
        return faces_from_boxes(sources.boxes)
    if sources.detector == "cascade":
        return detect_with_cascade(photo)
    try:
        return _with_insightface(photo, sources.insightface_folders)
    except (ImportError, FileNotFoundError):
        if sources.detector == "insightface":
            raise
    return detect_with_cascade(photo)


def _with_insightface(photo: Tensor, folders: Sequence[Path]) -> list[DetectedFace]:
    for folder in folders:
        if (folder / "models").is_dir():
            return detect_with_insightface(photo, folder / "models")
    return detect_with_insightface(photo, folders[0] / "models" if folders else Path("insightface"))


def _from_points(points: Sequence[Sequence[float]]) -> DetectedFace:
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    box = (min(xs), min(ys), max(xs), max(ys))
    return DetectedFace(box, tuple((p[0], p[1]) for p in points), 1.0, "points by hand")


def align_face(
    photo: Tensor, sources: FaceSources, rule: str, index: int, policy: str
) -> Alignment:
    """Find the faces of a photo `(H, W, 3)`, choose one, and cut the released 512 crop.

    Args:
        photo: RGB in [0, 1].
        sources: Who finds the face.
        rule: One of `faces.RULES`.
        index: Which of the faces in the order of the rule, from 0.
        policy: "stop" raises when there is no face; "continue without identity" gives an empty
            crop that carries the reason.

    Raises:
        ValueError: No face, with the policy "stop"; or the index is beyond the faces found.
    """
    height, width = photo.shape[:2]
    faces = find_faces(photo, sources)
    if not faces:
        reason = (
            f"no face found in the {width}x{height} photo (detector: {sources.detector}). Use a "
            "photo in which the face is larger and seen from the front, connect a MediaPipe Face "
            "Landmarker or a bounding box, or type the five points by hand"
        )
        if policy == STOP:
            raise ValueError(reason)
        crop = FaceCrop.empty(photo[None], reason)
        return Alignment(crop, (), photo[None], f"NO IDENTITY: {reason}.")
    chosen = choose_face(faces, width, height, rule, index)
    points = chosen.points or points_from_box(chosen.box).tolist()
    reduced, scale = reduce_long_side(photo)
    image, _ = align_crop(reduced, [[x * scale, y * scale] for x, y in points])
    message = _describe(chosen, faces.index(chosen), len(faces), points)
    preview = draw_faces(photo, faces, chosen)[None]
    return Alignment(
        FaceCrop(image[None], photo[None], chosen.detector), tuple(faces), preview, message
    )


def _describe(
    face: DetectedFace, number: int, count: int, points: Sequence[Sequence[float]]
) -> str:
    eyes = abs(complex(*points[1]) - complex(*points[0]))
    words = f"Face {number} of {count} (counted from the left, from 0), found by {face.detector}."
    if face.points is None:
        words += " This detector gives a box only: the five points are estimated from it."
    template_eyes = 125.9 * FACE_CROP_SIZE / 512
    if eyes < template_eyes / 3:
        words += f" The eyes are only {eyes:.0f} px apart: the crop is enlarged and will be soft."
    return words
