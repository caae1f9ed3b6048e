"""Views of one person from a clip, frame by frame, in a bounded amount of memory.

A detector looks at every eighth frame, the face is followed in between; a cut ends a shot, and at
the end the person who was seen longest is kept.

Source: paper section 3.2 (multi-view face collection).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ..face.crop import cut_view
from ..face.faces import Box, DetectedFace, Detector, choose_face, face_nearest_box
from ..face.points import points_of
from ..face.pose import FaceFit, fit_face
from ..face.quality import covered
from .collect import Collection, Collector, Person, SamePerson, ViewRules, make_view
from .frames import ClipFrame, is_cut
from .select import ViewPool
from .track import follow, pyramid

_DETECT_EVERY = 8
_LEAST_OVERLAP = 0.3
_WIDEST_DEG = 85.0
# A track that the detector does not confirm is given up after this many looks. A detector for
# upright frontal faces says little about a turned head: such a look counts a quarter.
_MOST_MISSES, _TURNED_MISS, _FRONTAL_DEG = 3.0, 0.25, 12.0
# A face that comes back where it was lost is the same person for this many frames.
_RETURN_WITHIN = 48
# Of two faces, one that has so many more of a person's colors is that person, wherever it is.
_CLEARLY_LIKER = 0.2


def collect_clip(
    frames: Iterable[ClipFrame],
    detect: Detector,
    rules: ViewRules,
    same_person: SamePerson | None = None,
) -> Collection:
    """Views of the person who is seen longest.

    Args:
        frames: One in memory at a time.
        detect: Finds faces in `(h, w, 3)` RGB in [0, 1].
        rules: What a good view is.
        same_person: None where nothing can tell: then a face that was lost is another person
            unless it comes back in its place.
    """
    follower = _Follower(detect, Collector(rules, same_person, photos=False))
    for frame in frames:
        follower.add(frame)
    follower.lose()
    return follower.collector.finish()


class _Follower:
    """Follows one face at a time through the frames, and hands its views to the collector."""

    def __init__(self, detect: Detector, collector: Collector) -> None:
        self.collector = collector
        self._detect = detect
        self._track: FaceFit | None = None
        self._person: Person | None = None
        self._pending = ViewPool()  # views since the detector last confirmed the track
        self._before: list[NDArray[np.float32]] | None = None
        self._last_box: Box | None = None
        self._lost_for, self._misses = 0, 0.0

    def add(self, frame: ClipFrame) -> None:
        """Look at the next frame."""
        found = self.collector.found
        found.frames += 1
        now = pyramid(frame.gray)
        due = frame.number % _DETECT_EVERY == 0
        if self._before is not None and is_cut(self._before[-1], now[-1]):
            found.cuts += 1
            self.lose()
            due = True
        elif self._track is not None and self._before is not None:
            box = self._track.box
            self._track = follow(self._track, self._before, now)
            if self._track is None:
                self.lose(box)
        self._before = now
        if due:
            self._look(frame)
        if self._track is None:
            self._lost_for += 1
        elif self._person is not None:
            found.with_face += 1
            self._person.seen += 1
            self._consider(frame, self._track, self._person)

    def lose(self, box: Box | None = None) -> None:
        """The track ends, in a box where it may come back; what was seen until now counts."""
        self._track, self._lost_for, self._misses = None, 0, 0.0
        self._last_box = box
        if self._person is not None:
            self._person.pool.take_over(self._pending)

    def _look(self, frame: ClipFrame) -> None:
        """Let the detector begin a track, confirm it, or give it up."""
        faces = self._detect(frame.small_color())
        self.collector.found.several_faces += len(faces) > 1
        if self._track is not None and self._person is not None:
            self._confirm(frame, self._track, self._person, faces)
        elif faces:
            self._begin(frame, faces)

    def _confirm(
        self, frame: ClipFrame, track: FaceFit, person: Person, faces: list[DetectedFace]
    ) -> None:
        here = face_nearest_box(faces, track.box, _LEAST_OVERLAP)
        if here is not None:
            self._misses = 0.0
            seen = self._by_looks(frame, person, faces, here)
            if seen is not here:  # an unseen cut: what was followed since then is somebody else
                self._pending = ViewPool()
                self._track = fit_face(points_of(seen))
                return
            person.pool.take_over(self._pending)
            if seen.points is not None:
                self._track = fit_face(seen.points)
            return
        frontal = max(abs(angle) for angle in track.pose.degrees) < _FRONTAL_DEG
        self._misses += 1.0 if frontal else _TURNED_MISS
        if self._misses >= _MOST_MISSES:
            self._pending = ViewPool()
            self.lose()

    def _by_looks(
        self, frame: ClipFrame, person: Person, faces: list[DetectedFace], here: DetectedFace
    ) -> DetectedFace:
        """The face of a person, who may have changed places with somebody else."""
        if len(faces) < 2:
            return here
        photo = frame.color()
        crops = [cut_view(photo, points_of(face) / frame.scale) for face in faces]
        place, same = faces.index(here), self.collector.same_person
        if same is not None and person.best is not None:
            known = person.best.crop.float() / 255
            order = [place, *(i for i in range(len(faces)) if i != place)]
            return faces[next((i for i in order if same(crops[i], known)), place)]
        if person.usual is None:
            return here
        unlike = [covered(crop, person.usual) for crop in crops]
        likest = min(range(len(faces)), key=unlike.__getitem__)
        return faces[likest] if unlike[place] - unlike[likest] > _CLEARLY_LIKER else here

    def _begin(self, frame: ClipFrame, faces: list[DetectedFace]) -> None:
        """Follow somebody: who was lost here, whom the recognizer knows, or a new person."""
        height, width = frame.gray.shape
        back = None
        if self._last_box is not None and self._lost_for < _RETURN_WITHIN:
            back = face_nearest_box(faces, self._last_box, _LEAST_OVERLAP)
            if back is not None and self._person is not None:
                back = self._by_looks(frame, self._person, faces, back)
        face = back or choose_face(faces, width, height, self.collector.rules.choose)
        self._track = fit_face(points_of(face))
        if back is None or self._person is None:
            points = self._track.points / frame.scale
            known = self.collector.recognize(lambda: cut_view(frame.color(), points))
            self._person, self._pending = known or self.collector.meet(), ViewPool()

    def _consider(self, frame: ClipFrame, track: FaceFit, person: Person) -> None:
        """Keep the frame as a view if it is good and shows something new."""
        pose = track.pose
        if max(abs(pose.yaw), abs(pose.pitch)) > _WIDEST_DEG:
            return
        x0, y0, x1, y1 = (v / frame.scale for v in track.box)
        box = (x0, y0, x1, y1)
        if not self.collector.is_large(box):
            return
        quick = quick_sharpness(frame.gray, track.box)
        if not (person.pool.wants(pose, quick) and self._pending.wants(pose, quick)):
            return
        points = track.points / frame.scale
        photo = frame.color()
        crop = cut_view(photo, points)
        if self.collector.is_clear(crop, person):
            view = make_view(frame.number, frame.seconds, pose, crop, box, points)
            self.collector.keep(person, view, photo, self._pending, quick)


def quick_sharpness(gray: NDArray[np.float32], box: Box) -> float:
    """Sharpness of `(h, w)` inside a box, comparable between frames of one clip only."""
    x0, y0, x1, y1 = (max(round(v), 0) for v in box)
    face = gray[y0:y1, x0:x1]
    if min(face.shape) < 3:
        return 0.0
    edges = (
        face[:-2, 1:-1] + face[2:, 1:-1] + face[1:-1, :-2] + face[1:-1, 2:] - 4 * face[1:-1, 1:-1]
    )
    return float(edges.var() / (face.var() + 1.0))
