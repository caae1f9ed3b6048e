"""Views of one person from a clip, frame by frame, in a bounded amount of memory.

A detector looks at every eighth frame, the face is followed in between; a cut ends a person, and
at the end the person who was seen longest is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from ..face.crop import CROP_SIZE, FACE_TEMPLATE_PX, align_crop, similarity_lmeds
from ..face.faces import DetectedFace, choose_face, face_nearest_box
from ..face.points import points_from_box
from ..face.quality import (
    TEMPLATE_EYE_DISTANCE_PX,
    colour_histogram,
    covered,
    eye_distance,
    sharpness,
)
from .collection import ClipFacts, Collection, ViewRules
from .select import View, ViewPool, select_views
from .track import TrackedFace, follow, pyramid, start_track

SMALL_SIDE_PX = 640
_DETECT_EVERY = 8
_LEAST_OVERLAP = 0.3
# A cut moves this share of all pixels to other grey levels, and leaves little where it was.
_CUT_HISTOGRAM, _CUT_DIFFERENCE = 0.35, 0.10
_HISTORY = 0.1
_WIDEST_DEG = 85.0
# A track that the detector does not confirm is given up after this many looks. A detector for
# upright frontal faces says little about a turned head: such a look counts a quarter.
_MOST_MISSES, _TURNED_MISS, _FRONTAL_DEG = 3.0, 0.25, 12.0
# A face that comes back where it was lost is the same person for this many frames.
_PATIENCE = 48
# A bilinear warp by less than this would skip pixels.
_REDUCE_BELOW = 0.6


@dataclass(frozen=True)
class ClipFrame:
    """One frame of a clip.

    Attributes:
        number: From 0.
        seconds: Its time in the clip, or None where nobody knows.
        grey: `(h, w)` float32 in 0 to 255, at most `SMALL_SIDE_PX` on its long side.
        scale: Pixels of `grey` per pixel of the frame.
        colour: Gives `(H, W, 3)` RGB in [0, 1]; called for few frames only.
        small_colour: Gives `(h, w, 3)`, of the size of `grey`; for the detector.
    """

    number: int
    seconds: float | None
    grey: NDArray[np.float32]
    scale: float
    colour: Callable[[], Tensor]
    small_colour: Callable[[], Tensor]


@dataclass
class Person:
    """Somebody who is followed: their views, and what is known of their looks.

    Attributes:
        pool: Views that a later look of the detector confirmed.
        pending: Views since the last such look.
        frames: Frames in which they were seen.
        usual: Their running `quality.colour_histogram`.
        frontal: The view that looks into the camera best.
        photo: `(H, W, 3)` uint8, the whole frame of `frontal`.
    """

    pool: ViewPool = field(default_factory=ViewPool)
    pending: ViewPool = field(default_factory=ViewPool)
    frames: int = 0
    usual: Tensor | None = None
    frontal: View | None = None
    photo: Tensor | None = None


class ViewCollector:
    """Collects views while frames go by: `add` each one, then `finish`.

    Args:
        detect: Finds faces in `(h, w, 3)` RGB in [0, 1].
        rules: What a good view is.
        same_person: Whether two crops `(512, 512, 3)` show one person; None where nothing can
            tell: then a face that was lost is another person unless it comes back in its place.
    """

    def __init__(
        self,
        detect: Callable[[Tensor], list[DetectedFace]],
        rules: ViewRules,
        same_person: Callable[[Tensor, Tensor], bool] | None = None,
    ) -> None:
        self.facts = ClipFacts()
        self._detect, self._rules, self._same_person = detect, rules, same_person
        self._track: TrackedFace | None = None
        self._before: list[NDArray[np.float32]] | None = None
        self._person: Person | None = None
        self._best: Person | None = None
        self._last_box: tuple[float, float, float, float] | None = None
        self._lost_for, self._misses = 0, 0.0

    def add(self, frame: ClipFrame) -> None:
        """Look at the next frame."""
        self.facts.frames += 1
        now = pyramid(frame.grey)
        due = frame.number % _DETECT_EVERY == 0
        if self._before is not None and is_cut(self._before[-1], now[-1]):
            self.facts.cuts += 1
            self._lose(keep_place=False)
            due = True
        elif self._track is not None and self._before is not None:
            box = self._track.box
            self._track = follow(self._track, self._before, now)
            if self._track is None:
                self._lose(keep_place=True, box=box)
        self._before = now
        if due:
            self._look(frame)
        if self._track is None:
            self._lost_for += 1
        elif self._person is not None:
            self.facts.with_face += 1
            self._person.frames += 1
            self._consider(frame, self._track, self._person)

    def finish(self) -> Collection | None:
        """The views of the person who was seen longest, or None where nobody was seen well."""
        self._lose(keep_place=False)
        seen = [p for p in (self._person, self._best) if p is not None and p.frontal is not None]
        if not seen:
            return None
        person = max(seen, key=lambda p: p.frames)
        assert person.frontal is not None
        assert person.photo is not None
        # The most frontal view is always there, also when a sharper one took its cell.
        others = [v for v in person.pool.views if v.frame != person.frontal.frame]
        views = [person.frontal, *others]
        chosen = [views[i] for i in select_views([v.pose for v in views], self._rules.count)]
        ordered = sorted(chosen, key=lambda v: (v.pose.yaw, v.pose.pitch))
        frontal = ordered.index(person.frontal)
        return Collection(tuple(ordered), frontal, person.photo, self.facts, person.frames)

    def _lose(self, keep_place: bool, box: tuple[float, float, float, float] | None = None) -> None:
        """The track ends; what was seen until now counts."""
        self._track, self._lost_for, self._misses = None, 0, 0.0
        self._last_box = box if keep_place else None
        if self._person is not None:
            self._person.pool.take_over(self._person.pending)

    def _look(self, frame: ClipFrame) -> None:
        """Let the detector begin a track, confirm it, or give it up."""
        faces = self._detect(frame.small_colour())
        if len(faces) > 1:
            self.facts.several_faces += 1
        if self._track is not None and self._person is not None:
            self._confirm(self._track, self._person, faces)
        elif faces:
            self._begin(frame, faces)

    def _confirm(self, track: TrackedFace, person: Person, faces: list[DetectedFace]) -> None:
        seen = face_nearest_box(faces, track.box, _LEAST_OVERLAP)
        if seen is not None:
            self._misses = 0.0
            person.pool.take_over(person.pending)
            if seen.points is not None:
                self._track = start_track(seen.points)
            return
        pose = track.fit.pose
        frontal = max(abs(pose.yaw), abs(pose.pitch), abs(pose.roll)) < _FRONTAL_DEG
        self._misses += 1.0 if frontal else _TURNED_MISS
        if self._misses >= _MOST_MISSES:
            person.pending = ViewPool()
            self._lose(keep_place=False)

    def _begin(self, frame: ClipFrame, faces: list[DetectedFace]) -> None:
        height, width = frame.grey.shape
        back = None
        if self._last_box is not None and self._lost_for < _PATIENCE:
            back = face_nearest_box(faces, self._last_box, _LEAST_OVERLAP)
        face = back or choose_face(faces, width, height, self._rules.choose)
        self._track = start_track(face.points or points_from_box(face.box, face.roll_deg))
        if back is None or self._person is None:
            self._person = self._meet(frame, self._track)

    def _meet(self, frame: ClipFrame, track: TrackedFace) -> Person:
        """Somebody comes into the picture: a person who was there before, or a new one."""
        known = [p for p in (self._person, self._best) if p is not None]
        self._best = max(known, key=lambda p: p.frames, default=None)
        if self._same_person is not None:
            crop = cut_view(frame.colour(), track.points / frame.scale)
            for person in known:
                if person.frontal is not None and self._same_person(
                    crop, person.frontal.crop.float() / 255
                ):
                    return person
        self.facts.people += 1
        return Person()

    def _consider(self, frame: ClipFrame, track: TrackedFace, person: Person) -> None:
        """Keep the frame as a view if it is good and shows something new."""
        pose = track.fit.pose
        if max(abs(pose.yaw), abs(pose.pitch)) > _WIDEST_DEG:
            return
        x0, y0, x1, y1 = (v / frame.scale for v in track.box)
        if x1 - x0 < self._rules.least_face_px:
            self.facts.too_small += 1
            return
        quick = quick_sharpness(frame.grey, track.box)
        if not (person.pool.wants(pose, quick) and person.pending.wants(pose, quick)):
            return
        points = track.points / frame.scale
        photo = frame.colour()
        crop = cut_view(photo, points)
        if not self._is_good(crop, person):
            return
        pairs = tuple((float(x), float(y)) for x, y in points)
        kept, sharp = (crop * 255).round().to(torch.uint8), sharpness(crop)
        view = View(frame.number, frame.seconds, pose, kept, (x0, y0, x1, y1), pairs, sharp)
        person.pending.offer(view, quick)
        if person.frontal is None or pose.turned < person.frontal.pose.turned:
            person.frontal, person.photo = view, (photo * 255).round().to(torch.uint8)

    def _is_good(self, crop: Tensor, person: Person) -> bool:
        if sharpness(crop) < self._rules.least_sharpness:
            self.facts.too_blurred += 1
            return False
        if person.usual is not None and covered(crop, person.usual) > self._rules.most_covered:
            self.facts.too_covered += 1
            return False
        histogram = colour_histogram(crop)
        before = histogram if person.usual is None else person.usual
        person.usual = before + _HISTORY * (histogram - before)
        return True


def cut_view(photo: Tensor, points: NDArray[np.float64]) -> Tensor:
    """The crop `(512, 512, 3)` of a frame `(H, W, 3)`.

    As `align.cut_crop`, but only the surroundings of the face are touched, and only a face that is
    much larger than in the crop is reduced first.

    Args:
        photo: RGB in [0, 1], or uint8.
        points: `(5, 2)` pixels.
    """
    matrix = similarity_lmeds(points, FACE_TEMPLATE_PX)
    ends = np.array([[0, 0], [CROP_SIZE, 0], [0, CROP_SIZE], [CROP_SIZE, CROP_SIZE]])
    corners = (ends - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    height, width = photo.shape[:2]
    x0, y0 = (int(v) for v in np.clip(corners.min(0) - 2, 0, [width - 2, height - 2]))
    x1, y1 = (int(v) for v in np.clip(corners.max(0) + 3, [x0 + 2, y0 + 2], [width, height]))
    window, points = photo[y0:y1, x0:x1], points - [x0, y0]
    if window.dtype == torch.uint8:
        window = window.float() / 255
    factor = TEMPLATE_EYE_DISTANCE_PX / eye_distance(points.tolist())
    if factor < _REDUCE_BELOW:
        size = [max(2, round(side * factor)) for side in window.shape[:2]]
        planes = window.permute(2, 0, 1)[None]
        window = interpolate(planes, size, mode="bilinear", antialias=True)[0].permute(1, 2, 0)
        points = (points + 0.5) * [size[1] / (x1 - x0), size[0] / (y1 - y0)] - 0.5
    return align_crop(window, points)[0]


def is_cut(before: NDArray[np.float32], now: NDArray[np.float32]) -> bool:
    """Whether another scene begins between two small grey pictures `(h, w)` in 0 to 255."""
    if before.shape != now.shape:
        return True
    histograms = [np.histogram(p, 32, (0, 256))[0] / p.size for p in (before, now)]
    moved = float(np.abs(histograms[0] - histograms[1]).sum() / 2)
    return moved > _CUT_HISTOGRAM and float(np.abs(before - now).mean()) / 255 > _CUT_DIFFERENCE


def quick_sharpness(grey: NDArray[np.float32], box: tuple[float, float, float, float]) -> float:
    """Sharpness inside a box, comparable between frames of one clip only."""
    height, width = grey.shape
    x0, x1 = (min(max(round(v), 0), width) for v in (box[0], box[2]))
    y0, y1 = (min(max(round(v), 0), height) for v in (box[1], box[3]))
    face = grey[y0:y1, x0:x1]
    if min(face.shape) < 3:
        return 0.0
    edges = (
        face[:-2, 1:-1] + face[2:, 1:-1] + face[1:-1, :-2] + face[1:-1, 2:] - 4 * face[1:-1, 1:-1]
    )
    return float(edges.var() / (face.var() + 1.0))
