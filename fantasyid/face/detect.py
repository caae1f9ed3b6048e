"""Where the faces are: four sources, one kind of answer.

The released pipeline uses RetinaFace of facexlib. Here the host's MediaPipe landmarks, boxes of
any detector, insightface and, as the last resort, the cascade that scikit-image brings along all
give a list of `DetectedFace`, numbered from left to right. Nothing here downloads anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from .faces import DetectedFace, as_bytes, choose_face, draw_faces, left_to_right

__all__ = [
    "DetectedFace",
    "choose_face",
    "detect_with_cascade",
    "detect_with_insightface",
    "draw_faces",
    "faces_from_boxes",
    "faces_from_landmarks",
    "find_insightface_pack",
    "left_to_right",
]

ALTERNATIVES = (
    "Other ways: install insightface and its antelopev2 models, connect the landmarks of the "
    "host's MediaPipe Face Landmarker, connect a bounding box, or type the five points by hand."
)

# Long sides at which the cascade looks, each one as it is and mirrored: a face is where three
# quarters of the looks agree. The cascade compares grey levels by order alone and so sees faces
# in the noise of dark cloth too: a face has contrast as well (deviation of grey in [0, 1]).
_CASCADE_SIDES = (640, 540, 450, 380)
_CASCADE_AGREEMENT = 0.75
_CASCADE_WINDOW = 24
_LEAST_CONTRAST = 0.05
_PACKS = ("antelopev2", "buffalo_l")

# Public FaceMesh topology; image-left first when the face is upright.
_IRISES = ((468,), (473,))
_EYE_CORNERS = ((33, 133), (362, 263))
_NOSE_AND_MOUTH = ((1,), (61,), (291,))
_MESH_POINTS, _MESH_POINTS_WITH_IRISES = 468, 478


def _face(box: ArrayLike, points: ArrayLike | None, score: float, detector: str) -> DetectedFace:
    """A checked face from any array type."""
    x0, y0, x1, y1 = (float(v) for v in np.asarray(box, np.float64).reshape(4))
    if not math.isfinite(x0 + y0 + x1 + y1) or x1 <= x0 or y1 <= y0:
        raise ValueError(f"{detector}: the face box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) has no area")
    pairs = None
    if points is not None:
        table = np.asarray(points, np.float64).reshape(5, 2)
        if not np.isfinite(table).all():
            raise ValueError(f"{detector}: a facial point is not a finite number")
        pairs = tuple((float(x), float(y)) for x, y in table)
    return DetectedFace((x0, y0, x1, y1), pairs, float(score), detector)


def detect_with_cascade(photo: Tensor) -> list[DetectedFace]:
    """Frontal faces by the LBP cascade in scikit-image: boxes without points, for want of better.

    Args:
        photo: `(H, W, 3)` RGB in [0, 1]. Faces down to a twelfth of the short side are found.

    Returns:
        Faces from left to right; the score is the share of the looks that agree.

    Raises:
        ImportError: scikit-image is not installed.
    """
    try:
        from skimage.data import lbp_frontal_face_cascade_filename
        from skimage.feature import Cascade
    except ImportError as error:
        raise ImportError(
            "the cascade face detector needs scikit-image (pip install scikit-image). "
            + ALTERNATIVES
        ) from error
    cascade = Cascade(lbp_frontal_face_cascade_filename())
    looks = [(side, mirrored) for side in _CASCADE_SIDES for mirrored in (False, True)]
    found: list[list[NDArray]] = []  # one list of agreeing boxes per place
    for side, mirrored in looks:
        seen: set[int] = set()  # a look has one vote per place
        for box in _cascade_boxes(cascade, photo, side, mirrored):
            place = next((i for i, b in enumerate(found) if _overlap(np.mean(b, 0), box) > 0.4), -1)
            if place < 0:
                place = len(found)
                found.append([])
            if place not in seen:
                found[place].append(box)
                seen.add(place)
    faces = [
        _face(np.mean(boxes, 0), None, len(boxes) / len(looks), "scikit-image cascade")
        for boxes in found
        if len(boxes) >= _CASCADE_AGREEMENT * len(looks)
    ]
    return left_to_right([face for face in faces if _contrast(photo, face) > _LEAST_CONTRAST])


def _contrast(photo: Tensor, face: DetectedFace) -> float:
    """Deviation of grey inside the box."""
    x0, y0, x1, y1 = (max(0, round(v)) for v in face.box)
    return float(photo[y0:y1, x0:x1].float().mean(-1).std())


def _cascade_boxes(cascade: Any, photo: Tensor, side: int, mirrored: bool) -> list[NDArray]:
    """One look of the cascade: boxes `(x0, y0, x1, y1)` in pixels of the photo."""
    height, width = photo.shape[:2]
    scale = side / max(height, width)
    new_size = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = interpolate(
        photo.detach().float().permute(2, 0, 1)[None], new_size, mode="bilinear", antialias=True
    )[0].permute(1, 2, 0)
    pixels = as_bytes(small.flip(1) if mirrored else small)
    least, most = max(_CASCADE_WINDOW, min(new_size) // 12), min(new_size)
    if most < least:
        return []
    hits = cascade.detect_multi_scale(
        np.ascontiguousarray(pixels), 1.15, 1, (least, least), (most, most), min_neighbor_number=4
    )
    boxes = []
    for hit in hits:
        x0 = new_size[1] - hit["c"] - hit["width"] if mirrored else hit["c"]
        box = [x0, hit["r"], x0 + hit["width"], hit["r"] + hit["height"]]
        boxes.append(np.array(box, np.float64) / scale)
    return boxes


def _overlap(a: NDArray, b: NDArray) -> float:
    """Intersection over union of two boxes."""
    sides = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    common = sides.prod()
    return float(common / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common))


def find_insightface_pack(models_dir: Path) -> Path:
    """The folder with insightface's ONNX files: antelopev2, else buffalo_l, else any other.

    Args:
        models_dir: Looked through itself, its `models` folder, and one level deeper, because
            antelopev2.zip unpacks to `antelopev2/antelopev2`.

    Raises:
        FileNotFoundError: There is none; the message says where it was looked for.
    """
    places: list[Path] = []
    for root in (models_dir / "models", models_dir):
        others = sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
        for pack in (*(root / name for name in _PACKS), *others):
            places += [pack, pack / pack.name]
    places.append(models_dir)
    looked: list[str] = []
    for place in places:
        if any(place.glob("*.onnx")):
            return place.resolve()
        looked.append(str(place))
    raise FileNotFoundError(
        "no insightface model pack (*.onnx) in " + ", ".join(dict.fromkeys(looked)) + ". "
        f"{_where_to_get_a_pack(models_dir)} {ALTERNATIVES}"
    )


def _where_to_get_a_pack(models_dir: Path) -> str:
    """What a person does who has no detector file."""
    root = models_dir if models_dir.name == "models" else models_dir / "models"
    return (
        "Get antelopev2.zip from the releases page of deepinsight/insightface (non-commercial "
        f"research only) and unpack it to {root / 'antelopev2'}."
    )


def detect_with_insightface(photo: Tensor, models_dir: Path) -> list[DetectedFace]:
    """Faces with five points by insightface's SCRFD detector, on the CPU.

    Args:
        photo: `(H, W, 3)` RGB in [0, 1].
        models_dir: See `find_insightface_pack`.

    Returns:
        Faces from left to right.

    Raises:
        ImportError: insightface or its onnxruntime is not installed.
        FileNotFoundError: There is no model pack, or none with a detector; nothing is downloaded.
    """
    try:
        from insightface.app import FaceAnalysis
    except ImportError as error:
        raise ImportError(
            f"the insightface detector cannot be used ({error}); it needs insightface and "
            f"onnxruntime. {ALTERNATIVES}"
        ) from error
    pack = find_insightface_pack(models_dir)
    # An absolute path as the name: the folder exists, so insightface has nothing to download.
    try:
        app = FaceAnalysis(
            name=str(pack), allowed_modules=["detection"], providers=["CPUExecutionProvider"]
        )
    except AssertionError as error:  # what insightface raises for a pack without a detector
        raise FileNotFoundError(
            f"none of the *.onnx files in {pack} is a face detector (antelopev2 has "
            f"scrfd_10g_bnkps.onnx). {_where_to_get_a_pack(models_dir)} {ALTERNATIVES}"
        ) from error
    app.prepare(ctx_id=-1, det_size=(640, 640))
    pixels = np.ascontiguousarray(as_bytes(photo)[..., ::-1])  # BGR
    margin, found = 0, app.get(pixels)
    if not found:
        # SCRFD overlooks a face that fills the picture; with a margin it is small enough.
        margin = max(pixels.shape[:2]) // 2
        found = app.get(np.pad(pixels, ((margin, margin), (margin, margin), (0, 0))))
    detector = f"insightface {pack.name}"
    return left_to_right(
        [
            _face(
                np.asarray(face.bbox) - margin,
                None if face.kps is None else np.asarray(face.kps) - margin,
                face.det_score,
                detector,
            )
            for face in found
        ]
    )


def faces_from_landmarks(frame: Sequence[Mapping[str, Any]]) -> list[DetectedFace]:
    """Faces from the host's MediaPipe landmarks.

    Args:
        frame: One frame of a FACE_LANDMARKS value: per face `landmarks_xy` `(478, 2)` pixels (or
            `(468, 2)`, without irises: the middle of the eye corners is taken), and where there,
            `bbox_xyxy` `(4,)` and `score`.

    Returns:
        Faces from left to right.

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
        box = face.get("bbox_xyxy")
        if box is None:
            box = np.concatenate([mesh.min(0), mesh.max(0)])
        faces.append(_face(box, points, face.get("score", 1.0), "MediaPipe landmarks"))
    return left_to_right(faces)


def faces_from_boxes(boxes: Any) -> list[DetectedFace]:
    """Faces from the host's BOUNDING_BOX, of the first frame.

    Args:
        boxes: `{x, y, width, height, label?, score?}` in pixels, a list of those, or a list per
            frame of lists of those.

    Returns:
        Faces from left to right, without points.

    Raises:
        ValueError: A box is something else or has no area.
    """
    if isinstance(boxes, Mapping):
        boxes = [boxes]
    elif boxes and isinstance(boxes, Sequence) and isinstance(boxes[0], (list, tuple)):
        boxes = boxes[0]
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
        faces.append(_face((x, y, x + width, y + height), None, score, words))
    return left_to_right(faces)
