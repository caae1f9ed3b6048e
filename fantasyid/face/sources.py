"""Who says where the faces are: every source is a `faces.Detector`, and this is their table.

The released pipeline uses RetinaFace of facexlib. Here five points by hand, the host's values and
models, insightface, its SCRFD file alone and, as the last resort, the cascade of scikit-image give
the same kind of answer. Nothing here downloads anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from .cascade import (
    SEARCHED_SIDE_PX,
    detect_quickly,
    detect_with_cascade,
    shrink,
    turn_photo,
)
from .faces import DetectedFace, Detector, left_to_right, make_face, to_photo
from .given import detect_with_landmarker, faces_from_boxes, landmarks_of_image
from .insight import open_insightface
from .points import box_from_points, parse_points
from .scrfd import open_scrfd
from .yunet import BETTER, look_closely, open_yunet
from .yunet import NAME as YUNET

# What opens each detector, given the folders of insightface; it sees upright faces only.
_OPENERS: dict[str, Callable[[Sequence[Path]], Detector]] = {
    "insightface": open_insightface,
    "cascade": lambda _folders: detect_quickly,
    "scrfd": open_scrfd,
    "yunet": open_yunet,
}
DETECTORS = ("auto", *_OPENERS)

_BLACK = (0.0, 0.0, 0.0)  # around a turned copy: a margin, see `insight.with_margin`
# Detectors with points see faces that are tilted by some 40 degrees; the rest is tried in turn.
_TURNS_DEG = (90.0, -90.0, 180.0, 45.0, -45.0, 135.0, -135.0)
# Of the square that holds a turned copy: what the networks look at.
_TURNED_SIDE_PX = 640
# Above this score YuNet's face is no half turn away from upright, and near enough for a close look.
_SURE = 0.93


@dataclass(frozen=True, slots=True)
class FaceSources:
    """Who may say where the face is.

    What is given wins in this order: points, landmarks, boxes, `landmarker`, `detector`.
    """

    detector: str  # one of `DETECTORS`, when nothing else is given
    insightface_folders: tuple[Path, ...] = ()  # where insightface packs may lie
    landmarker: Any = None  # the host's FACE_DETECTION_MODEL value
    points: str = ""  # see `points.parse_points`
    landmarks: Mapping[str, Any] | None = None  # the host's FACE_LANDMARKS value
    boxes: Any = None  # the host's BOUNDING_BOX value
    # Loads a FACE_DETECTION_MODEL where the host has its file: the second choice of "auto".
    host_landmarker: Callable[[], Any] | None = None

    @property
    def words(self) -> str:
        """The source that is used, for people."""
        given = (
            (bool(self.points.strip()), "points by hand"),
            (self.landmarks is not None, "MediaPipe landmarks"),
            (self.boxes is not None, "bounding boxes"),
            (self.landmarker is not None, "MediaPipe model"),
        )
        return next((words for there, words in given if there), self.detector)


def open_detectors(sources: FaceSources, count: int) -> list[Detector]:
    """The detector of each photo of a batch of `count`.

    Raises:
        ImportError, FileNotFoundError: The detector that was asked for is not installed, or has
            no model files; "auto" never raises them.
        ValueError: The landmarks are of another number of images, or the points are no face.
    """
    points, landmarks = parse_points(sources.points), sources.landmarks
    if points is not None:
        by_hand = make_face(box_from_points(points.tolist()), points, 1.0, "points by hand")
        return [lambda _photo: [by_hand]] * count
    if landmarks is not None:
        frames = len(landmarks["frames"])
        if count > 1 and frames != count:
            raise ValueError(
                f"the face landmarks are of {frames} images, the image input holds {count}: "
                "detect them on the same images"
            )
        return [partial(landmarks_of_image, landmarks=landmarks, number=n) for n in range(count)]
    if sources.boxes is not None:
        return [lambda _photo, n=n: faces_from_boxes(sources.boxes, n) for n in range(count)]
    return [open_detector(sources)] * count


def open_detector(sources: FaceSources) -> Detector:
    """What finds faces at any roll by looking at the picture alone, loaded once.

    Raises:
        ImportError, FileNotFoundError: See `open_detectors`.
    """
    upright = open_clip_detector(sources)
    # The cascade has its own, thorough way to look at a single photo.
    return detect_with_cascade if upright is detect_quickly else at_any_roll(upright)


def open_clip_detector(sources: FaceSources) -> Detector:
    """What looks at single frames of a clip: faster, and upright faces only.

    Raises:
        ImportError, FileNotFoundError: See `open_detectors`.
    """
    if sources.landmarker is not None:
        return partial(detect_with_landmarker, model=sources.landmarker)
    if sources.detector != "auto":
        return _OPENERS[sources.detector](sources.insightface_folders)
    folders = sources.insightface_folders
    with suppress(FileNotFoundError):
        return open_yunet(folders)
    if sources.host_landmarker is not None:
        return partial(detect_with_landmarker, model=sources.host_landmarker())
    for opener in (open_insightface, open_scrfd):
        with suppress(ImportError, FileNotFoundError):
            return opener(folders)
    return detect_quickly


def advise(sources: FaceSources) -> str:
    """What would find faces better than what is there, in a sentence, or ""."""
    with suppress(ImportError, FileNotFoundError):
        if open_clip_detector(sources) is not detect_quickly:
            return ""
    return f"Faces are found by boxes only, and their five points estimated: {BETTER}"


# Faces of a turned photo, the turn in degrees, and the matrix from the photo's pixels to it.
_Look = tuple[list[DetectedFace], float, np.ndarray]


def at_any_roll(detect: Detector) -> Detector:
    """A detector that turns the photo where it finds nothing upright, or is not sure of it.

    YuNet sees heads at any roll, and misjudges the roll of all that are not upright (by 8 degrees
    at 15, by 170 upside down), where its score is lower: the turn of the best score is taken, and
    each face looked at closely.
    """

    def find(photo: Tensor) -> list[DetectedFace]:
        small, scale = photo, 1.0
        if max(photo.shape[:2]) > SEARCHED_SIDE_PX:
            small, scale = shrink(photo, SEARCHED_SIDE_PX)
        best = detect(small), 0.0, np.eye(2, 3)
        if not best[0] or (_is_yunet(best[0]) and _sureness(best) < _SURE):
            best = _turned(detect, small, best)
        faces, turn, matrix = best
        found = [to_photo(f, matrix, -turn) for f in faces]
        if found and _is_yunet(found):
            found = [look_closely(detect, small, f) for f in found]
        return left_to_right([to_photo(f, np.eye(2, 3) * scale) for f in found])

    return find


def _turned(detect: Detector, photo: Tensor, best: _Look) -> _Look:
    """Faces in a photo that is turned so that they stand upright; `best` is what is seen as is."""
    small, scale = photo, min(1.0, _TURNED_SIDE_PX / math.hypot(*photo.shape[:2]))
    if scale < 1:
        small, scale = shrink(photo, math.floor(scale * max(photo.shape[:2])))

    def look(turn: float) -> _Look:
        turned, matrix = turn_photo(small, turn, _BLACK)
        return detect(turned), turn, matrix * [[scale, scale, 1.0]]

    for turn in _TURNS_DEG:
        best = max(best, look(turn), key=_sureness)
        if best[0] and not _is_yunet(best[0]):
            turned, matrix = turn_photo(photo, turn, _BLACK)
            found = detect(turned)  # its points are more exact in the larger copy
            return (found, turn, matrix) if found else best
    return best


def _sureness(found: _Look) -> float:
    return max((face.score for face in found[0]), default=0.0)


def _is_yunet(faces: list[DetectedFace]) -> bool:
    return faces[0].detector == YUNET
