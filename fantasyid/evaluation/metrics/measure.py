"""A clip measured while its frames go by: faces, RS, IFS, FM, and FID's features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...face.crop import FACE_TEMPLATE_PX, cut_view
from ...face.faces import DetectedFace, choose_face, face_nearest_box
from ...face.points import points_from_box
from ...face.pose import fit_face
from ...face.recognizer import NONE, Embedding, Recognizer, find_recognizer, open_recognizer
from ...identity import FaceCrops
from ...views.frames import ClipFrame, is_cut
from .frechet import frechet_distance
from .measurement import FrameValues, Measurement
from .motion import Box, FaceMotion, face_motion

WORST_FRAMES = 6
# From one frame to the next the same face overlaps by more than this.
_LEAST_OVERLAP = 0.3
_COARSE = 4


@dataclass(frozen=True)
class Tools:
    """What measures."""

    detect: Callable[[Tensor], list[DetectedFace]]  # finds faces in `(h, w, 3)` RGB in [0, 1]
    choose: str = "largest"  # which face a shot begins with, one of `faces.RULES`
    recognizer: Recognizer | None = None  # for RS and IFS, or None
    references: Sequence[Embedding] = ()  # embeddings of the person
    # FID's features of a crop `(512, 512, 3)`, or None.
    features: Callable[[Tensor], Tensor] | None = None
    real_features: Sequence[Tensor] = ()  # those of the reference set
    device: torch.device | str = "cpu"  # where the flow is calculated


@dataclass
class _Worst:
    """The frames with the lowest marks, and their crops."""

    kept: list[tuple[float, int, Tensor]] = field(default_factory=list)

    def offer(self, mark: float, number: int, crop: Callable[[], Tensor]) -> None:
        """Keep the frame if it is among the worst."""
        if len(self.kept) < WORST_FRAMES or mark < self.kept[-1][0]:
            picture = (crop() * 255).round().to(torch.uint8)
            self.kept = sorted([*self.kept, (mark, number, picture)], key=lambda k: k[:2])
            del self.kept[WORST_FRAMES:]


def measure(
    frames: Iterable[ClipFrame], tools: Tools, tick: Callable[[int], None] = lambda _number: None
) -> Measurement:
    """Measure a clip; only two frames are in memory at a time.

    Args:
        frames: Of the clip, in order.
        tick: Called with the number of each frame that is done; may raise to interrupt.

    Raises:
        ValueError: There is no frame.
    """
    clip = ClipMeasurer(tools)
    for frame in frames:
        clip.add(frame)
        tick(frame.number)
    return clip.finish()


class ClipMeasurer:
    """Measures while frames go by: `add` each one, then `finish`."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._frames: list[FrameValues] = []
        self._detectors: set[str] = set()
        self._features: list[Tensor] = []
        self._worst = _Worst()
        # Of the frame before; and the last face that was seen.
        self._before: NDArray[np.float32] | None = None
        self._face: DetectedFace | None = None
        self._embedding: Embedding | None = None
        self._followed: DetectedFace | None = None
        self._lost: Callable[[], int] = int

    def add(self, frame: ClipFrame) -> None:
        """Look at the next frame."""
        cut = self._before is not None and _is_cut(self._before, frame.gray)
        face = self._find(frame, cut)
        motion = None if cut else self._motion(frame, face)
        embedding = self._look_at(frame, face, motion)
        self._frames.append(
            FrameValues(
                number=frame.number,
                seconds=frame.seconds,
                box=face.box if face else None,
                score=face.score if face else None,
                cut=cut,
                rs=likeness(embedding, self._tools.references),
                ifs=likeness(embedding, [] if self._embedding is None else [self._embedding]),
                fm=motion.percent if motion else None,
                fm_still=motion.still_percent if motion else None,
                fm_px=motion.px if motion else None,
                yaw_deg=_yaw_deg(face),
            )
        )
        self._before, self._face, self._embedding = frame.gray, face, embedding
        self._lost = frame.lost

    def finish(self) -> Measurement:
        """The values of all frames.

        Raises:
            ValueError: There was no frame.
        """
        if not self._frames:
            raise ValueError("the clip has no frames to measure")
        return Measurement(
            tuple(self._frames),
            tuple(sorted(self._detectors)),
            "" if self._tools.recognizer is None else self._tools.recognizer.words,
            self._fid(),
            (len(self._features), len(self._tools.real_features)),
            tuple((number, crop) for _, number, crop in self._worst.kept),
            torch.stack([*self._features]).cpu() if self._features else None,
            self._lost(),
        )

    def _find(self, frame: ClipFrame, cut: bool) -> DetectedFace | None:
        """The face that is followed, in pixels of the frame."""
        faces = [_scaled(f, 1 / frame.scale) for f in self._tools.detect(frame.small_color())]
        if not faces:
            return None
        same, last = None, self._followed
        if last is not None and not cut:
            same = face_nearest_box(faces, last.box, _LEAST_OVERLAP)
        height, width = (round(side / frame.scale) for side in frame.gray.shape)
        self._followed = same or choose_face(faces, width, height, self._tools.choose)
        self._detectors.add(self._followed.detector)
        return self._followed

    def _motion(self, frame: ClipFrame, face: DetectedFace | None) -> FaceMotion | None:
        if face is None or self._face is None or self._before is None:
            return None
        x0, y0, x1, y1 = (v * frame.scale for v in self._face.box)
        box: Box = (x0, y0, x1, y1)
        moved = face_motion(self._before, frame.gray, box, self._tools.device)
        if moved is None:
            return None
        still = None if moved.still_px is None else moved.still_px / frame.scale
        return FaceMotion(moved.px / frame.scale, still, moved.face_px / frame.scale)

    def _look_at(
        self, frame: ClipFrame, face: DetectedFace | None, motion: FaceMotion | None
    ) -> Embedding | None:
        """The face's embedding; what else is cut out of the frame is kept."""
        if face is None:
            return None
        tools = self._tools
        points = np.asarray(face.points or points_from_box(face.box, face.roll_deg))

        def crop() -> Tensor:
            return cut_view(frame.color(), points)

        embedding = None
        if tools.recognizer is not None:
            embedding = tools.recognizer.embed(frame.color(), points)
        if tools.features is not None:
            self._features.append(tools.features(crop()))
        mark = likeness(embedding, tools.references)
        if mark is None:
            mark = 0.0 if motion is None else -motion.percent
        self._worst.offer(mark, frame.number, crop)
        return embedding

    def _fid(self) -> float | None:
        real = self._tools.real_features
        if len(self._features) < 2 or len(real) < 2:
            return None
        sets = (torch.stack([*features]).double().numpy() for features in (self._features, real))
        return frechet_distance(*sets)


def likeness(embedding: Embedding | None, others: Sequence[Embedding]) -> float | None:
    """RS or IFS of a frame: the mean cosine of a face to others.

    Embeddings are unit vectors: 1 for the same picture, about 0 for two strangers.

    Args:
        embedding: Of the face, None where there is none.
        others: The references; or the frame before, none where it has no face.

    Returns:
        None where there is nothing to compare: it is left out and counted, never a zero.
    """
    if embedding is None or not others:
        return None
    return float((np.stack(others) @ embedding).mean())


def recognizer_if_there(
    choice: str, folders: Sequence[Path] | None
) -> tuple[Recognizer | None, str]:
    """The face recognizer of a choice; where there is none, why.

    Args:
        choice: One of `recognizer.CHOICES`.
        folders: Where its file may lie; None where nobody named a folder `models`.

    Raises:
        ValueError: The file is something else.
    """
    if choice == NONE:
        return None, "no face recogniser was chosen"
    if folders is None:
        return None, "name ComfyUI's folder models with --models"
    try:
        return open_recognizer(find_recognizer(choice, folders)), ""
    except (ImportError, FileNotFoundError) as error:
        return None, str(error)


def embed_reference(face: FaceCrops, recognizer: Recognizer) -> Embedding:
    """The embedding of an aligned face.

    Raises:
        ValueError: The face is empty.
    """
    if face.empty_reason:
        raise ValueError(f"the reference has no face: {face.empty_reason}")
    if face.points is not None:
        return recognizer.embed(face.photos[0], face.points.numpy())
    return recognizer.embed(face.images[0], FACE_TEMPLATE_PX)


def _yaw_deg(face: DetectedFace | None) -> float | None:
    """Where a head looks; None where only a box is known."""
    if face is None:
        return None
    if face.pose_deg is not None:
        return face.pose_deg[0]
    return None if face.points is None else fit_face(face.points).pose.yaw


def _scaled(face: DetectedFace, factor: float) -> DetectedFace:
    x0, y0, x1, y1 = (v * factor for v in face.box)
    points = face.points and tuple((x * factor, y * factor) for x, y in face.points)
    return DetectedFace(
        (x0, y0, x1, y1), points, face.score, face.detector, face.roll_deg, face.pose_deg
    )


def _is_cut(before: NDArray[np.float32], now: NDArray[np.float32]) -> bool:
    return is_cut(before[::_COARSE, ::_COARSE], now[::_COARSE, ::_COARSE])
