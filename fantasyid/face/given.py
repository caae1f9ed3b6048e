"""Faces that need no search: five points by hand, and the host's landmarks and boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from .faces import DetectedFace, as_bytes, left_to_right, make_face
from .pose import pose_from_landmarks

# Public FaceMesh topology; image-left first when the face is upright.
_IRISES = ((468,), (473,))
_EYE_CORNERS = ((33, 133), (362, 263))
_NOSE_AND_MOUTH = ((1,), (61,), (291,))
_LEAST_CONFIDENCE = 0.5
_MESH_POINTS, _MESH_POINTS_WITH_IRISES = 468, 478


def faces_from_landmarks(frame: Sequence[Mapping[str, Any]]) -> list[DetectedFace]:
    """Faces from the host's MediaPipe landmarks.

    Args:
        frame: One frame of a FACE_LANDMARKS value: per face `landmarks_xy` `(478, 2)` pixels (or
            `(468, 2)`, without irises: the middle of the eye corners is taken), and where there,
            `bbox_xyxy` `(4,)` and `score`.

    Raises:
        ValueError: A face has another number of landmarks or a number that is not finite.
    """
    faces = []
    for face in frame:
        mesh = np.asarray(face["landmarks_xy"], np.float64)
        if mesh.ndim != 2 or mesh.shape[1] < 2 or len(mesh) < _MESH_POINTS:
            raise ValueError(
                f"the face landmarks are {mesh.shape}, expected ({_MESH_POINTS_WITH_IRISES}, 2) "
                f"or ({_MESH_POINTS}, 2) of MediaPipe's face mesh"
            )
        mesh = mesh[:, :2]
        eyes = _IRISES if len(mesh) >= _MESH_POINTS_WITH_IRISES else _EYE_CORNERS
        points = [mesh[list(group)].mean(0) for group in (*eyes, *_NOSE_AND_MOUTH)]
        box = face.get("bbox_xyxy", np.concatenate([mesh.min(0), mesh.max(0)]))
        pose, score = pose_from_landmarks(mesh).degrees, face.get("score", 1.0)
        faces.append(make_face(box, points, score, "MediaPipe landmarks", pose[2], pose))
    return left_to_right(faces)


def landmarks_of_image(
    photo: Tensor, landmarks: Mapping[str, Any], number: int
) -> list[DetectedFace]:
    """Faces of image `number`, `(H, W, 3)`, from a FACE_LANDMARKS value.

    Raises:
        ValueError: The landmarks are of an image of another size; see also `faces_from_landmarks`.
    """
    size, (height, width) = landmarks.get("image_size"), photo.shape[:2]
    if size is not None and tuple(size) != (height, width):
        raise ValueError(
            f"the face landmarks are of a {size[1]}x{size[0]} image, this one is {width}x{height}: "
            "detect them on the same image"
        )
    frames = landmarks["frames"]
    return faces_from_landmarks(frames[number] if number < len(frames) else [])


def detect_with_landmarker(photo: Tensor, model: Any) -> list[DetectedFace]:
    """Faces by the model of the host's Load Face Detection Model (MediaPipe).

    The short range is looked at first; where it has nothing, the full range.

    Args:
        photo: `(H, W, 3)` RGB in [0, 1].
        model: Has `detect_batch(images, num_faces, score_thresh, variant)`.

    Raises:
        ValueError: The model is something else.
    """
    if not hasattr(model, "detect_batch"):
        raise ValueError(
            f"the face detection model is a {type(model).__name__}, expected what Load Face "
            "Detection Model (MediaPipe) gives"
        )
    for variant in ("short", "full"):
        (frame,) = model.detect_batch(
            [as_bytes(photo)], num_faces=0, score_thresh=_LEAST_CONFIDENCE, variant=variant
        )
        if frame:
            return faces_from_landmarks(frame)
    return []


def faces_from_boxes(boxes: Any, frame: int = 0) -> list[DetectedFace]:
    """Faces from the host's BOUNDING_BOX.

    Args:
        boxes: `{x, y, width, height, label?, score?}` in pixels, a list of those, or a list per
            frame of lists of those.
        frame: Which frame, where there is a list per frame; one list is for all frames.

    Raises:
        ValueError: A box is something else or has no area.
    """
    if isinstance(boxes, Mapping):
        boxes = [boxes]
    elif boxes and isinstance(boxes, Sequence) and isinstance(boxes[0], (list, tuple)):
        if len(boxes) > 1 and frame >= len(boxes):
            raise ValueError(
                f"the bounding boxes are of {len(boxes)} images, but there is an image {frame}"
            )
        boxes = boxes[frame if len(boxes) > 1 else 0]
    faces = []
    for box in boxes or ():
        try:
            x, y, width, height = (float(box[k]) for k in ("x", "y", "width", "height"))
            score = float(box.get("score", 1.0))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ValueError(
                f"expected a bounding box with numbers x, y, width and height, got {box!r}"
            ) from None
        label = box.get("label")
        words = f"bounding box ({label})" if label else "bounding box"
        faces.append(make_face((x, y, x + width, y + height), None, score, words))
    return left_to_right(faces)
