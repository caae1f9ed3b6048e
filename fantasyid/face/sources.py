"""Who says where the faces are: five points by hand, host values, a model, or a detector."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from .cascade import detect_quickly, detect_with_cascade, turn_photo
from .detect import detect_with_landmarker, faces_from_boxes, faces_from_landmarks
from .faces import DetectedFace, left_to_right, make_face
from .insight import open_insightface
from .points import box_from_points, parse_points
from .scrfd import open_scrfd

DETECTORS = ("auto", "insightface", "cascade", "scrfd")

Detector = Callable[[Tensor], list[DetectedFace]]

# Detectors with points see faces that are tilted by some 40 degrees; the rest is tried in turn.
_TURNS_DEG = (90.0, -90.0, 180.0, 45.0, -45.0, 135.0, -135.0)


@dataclass(frozen=True, slots=True)
class FaceSources:
    """Who may say where the face is; the first one that is given wins, in this order.

    Attributes:
        points: Five points as text, "x,y x,y x,y x,y x,y" in pixels of the photo; "" for none.
        landmarks: The host's FACE_LANDMARKS value, or None.
        boxes: The host's BOUNDING_BOX value, or None.
        detector: One of `DETECTORS`, when nothing else is given.
        insightface_folders: Where insightface packs may lie.
        landmarker: The host's FACE_DETECTION_MODEL value, or None; goes before `detector`.
    """

    points: str
    landmarks: Mapping[str, Any] | None
    boxes: Any
    detector: str
    insightface_folders: tuple[Path, ...]
    landmarker: Any = None

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


def open_finder(sources: FaceSources, count: int) -> Callable[[Tensor, int], list[DetectedFace]]:
    """What finds the faces of photo number n of a batch, left to right.

    Args:
        sources: Who says where they are.
        count: How many photos there are.

    Raises:
        ImportError, FileNotFoundError: The detector that was asked for is not installed, or has
            no model files; with "auto", only when no detector is there at all.
        ValueError: The landmarks are of another number of images.
    """
    points = parse_points(sources.points)
    if points is not None:
        by_hand = _from_points(points.tolist())
        return lambda _photo, _number: [by_hand]
    landmarks = sources.landmarks
    if landmarks is not None:
        frames = landmarks["frames"]
        if count > 1 and len(frames) != count:
            raise ValueError(
                f"the face landmarks are of {len(frames)} images, the image input holds {count}: "
                "detect them on the same images"
            )
        return lambda photo, number: _from_landmarks(photo, landmarks, number)
    if sources.boxes is not None:
        return lambda _photo, number: faces_from_boxes(sources.boxes, number)
    detect = open_detector(sources)
    return lambda photo, _number: detect(photo)


def open_detector(sources: FaceSources) -> Detector:
    """What finds faces at any roll by looking at the picture alone, loaded once.

    Raises:
        ImportError, FileNotFoundError: See `open_finder`.
    """
    if sources.landmarker is not None:
        return at_any_roll(lambda photo: detect_with_landmarker(photo, sources.landmarker))
    network = _open_network(sources)
    return detect_with_cascade if network is None else at_any_roll(network)


def _open_network(sources: FaceSources) -> Detector | None:
    """insightface, or SCRFD without it; None where the cascade is meant or neither is there."""
    if sources.detector == "cascade":
        return None
    if sources.detector != "scrfd":
        try:
            return open_insightface(insightface_folder(sources.insightface_folders))
        except (ImportError, FileNotFoundError):
            if sources.detector == "insightface":
                raise
    try:
        return open_scrfd(sources.insightface_folders)
    except (ImportError, FileNotFoundError):
        if sources.detector == "scrfd":
            raise
    return None


def open_clip_detector(sources: FaceSources) -> Detector:
    """What looks at single frames of a clip: faster, and upright faces only.

    Raises:
        ImportError, FileNotFoundError: See `open_finder`.
    """
    if sources.landmarker is not None:
        return lambda photo: detect_with_landmarker(photo, sources.landmarker)
    return _open_network(sources) or detect_quickly


def at_any_roll(detect: Detector) -> Detector:
    """A detector that turns the photo where it finds nothing upright."""

    def find(photo: Tensor) -> list[DetectedFace]:
        faces = detect(photo)
        for turn in () if faces else _TURNS_DEG:
            turned, matrix = turn_photo(photo, turn)
            faces = detect(turned)
            if faces:
                return left_to_right([_turn_back(f, matrix, turn) for f in faces])
        return faces

    return find


def _turn_back(face: DetectedFace, matrix: Any, turn_deg: float) -> DetectedFace:
    """A face found in a turned photo, in pixels of the photo; its box keeps its size."""

    def back(x: float, y: float) -> tuple[float, float]:
        u, v = x - matrix[0, 2], y - matrix[1, 2]
        return matrix[0, 0] * u + matrix[1, 0] * v, matrix[0, 1] * u + matrix[1, 1] * v

    x0, y0, x1, y1 = face.box
    x, y = back((x0 + x1) / 2, (y0 + y1) / 2)
    half_width, half_height = (x1 - x0) / 2, (y1 - y0) / 2
    box = (x - half_width, y - half_height, x + half_width, y + half_height)
    points = None if face.points is None else [back(*point) for point in face.points]
    roll = (face.roll_deg - turn_deg + 180) % 360 - 180
    pose = None if face.pose_deg is None else (*face.pose_deg[:2], roll)
    return make_face(box, points, face.score, face.detector, roll, pose)


def _from_landmarks(photo: Tensor, landmarks: Mapping[str, Any], number: int) -> list[DetectedFace]:
    size, (height, width) = landmarks.get("image_size"), photo.shape[:2]
    if size is not None and tuple(size) != (height, width):
        raise ValueError(
            f"the face landmarks are of a {size[1]}x{size[0]} image, this one is {width}x{height}: "
            "detect them on the same image"
        )
    frames = landmarks["frames"]
    return faces_from_landmarks(frames[number] if number < len(frames) else [])


def insightface_folder(folders: Sequence[Path]) -> Path:
    """The first of the folders that has models in it, for `open_insightface`."""
    for folder in folders:
        if (folder / "models").is_dir():
            return folder / "models"
    return folders[0] / "models" if folders else Path("insightface")


def _from_points(points: Sequence[Sequence[float]]) -> DetectedFace:
    return make_face(box_from_points(points), points, 1.0, "points by hand")
