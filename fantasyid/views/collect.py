"""Views of one person, as different as can be: one collector, fed by a clip or by photos.

Photos have nothing to do with each other: each one is searched, and who is on it is told by a
recognizer or, where there is none, taken to be one person. A clip is followed (`clip.py`).

Source: paper section 3.2 (multi-view face collection).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..face.cut import cut_view
from ..face.faces import Box, Detector, choose_face
from ..face.points import points_from_box
from ..face.pose import Pose
from ..face.quality import BLURRED, color_histogram, covered, sharpness
from .photos import Photo
from .select import VIEW_COUNT, View, ViewPool, select_views
from .track import start_track

# Detectors look at a copy of a photo of at most this long side.
SEARCHED_SIDE_PX = 1280
_HISTORY = 0.1
# So many people are told apart on photos, and in a clip, where each holds many views; of more,
# those who were seen least are forgotten.
MOST_PEOPLE_ON_PHOTOS, MOST_PEOPLE_IN_CLIP = 8, 2

# Whether two crops `(512, 512, 3)` RGB in [0, 1] show one person.
SamePerson = Callable[[Tensor, Tensor], bool]


@dataclass(frozen=True)
class ViewRules:
    """What a good view is.

    Attributes:
        count: How many views are wanted.
        choose: Which face a shot begins with, one of `faces.RULES`.
        least_face_px: Side of the face in pixels of the frame.
        least_sharpness: See `quality.sharpness`.
        most_covered: See `quality.covered`; does not count for photos: their light differs anyway.
    """

    count: int = VIEW_COUNT
    choose: str = "largest"
    least_face_px: float = 96.0
    least_sharpness: float = BLURRED
    most_covered: float = 0.55


@dataclass
class Facts:
    """What was seen, in numbers of frames (or of photos) where nothing else is said.

    Attributes:
        photos: They are photos of their own, no frames of a clip.
        unchecked: Nothing compared the people.
    """

    photos: bool
    unchecked: bool
    frames: int = 0
    with_face: int = 0
    cuts: int = 0
    people: int = 0
    several_faces: int = 0
    too_small: int = 0
    too_blurred: int = 0
    too_covered: int = 0


@dataclass(frozen=True)
class Collection:
    """The views of one person.

    Attributes:
        facts: What was seen.
        views: The chosen ones, by yaw; () where nobody was seen well.
        frontal: Which of them looks into the camera best.
        photo: `(H, W, 3)` uint8, the whole frame of that view, or None without views.
        kept_frames: Frames with the person whose views these are.
    """

    facts: Facts
    views: tuple[View, ...] = ()
    frontal: int = 0
    photo: Tensor | None = None
    kept_frames: int = 0


@dataclass
class Person:
    """Somebody who was seen.

    Attributes:
        pool: Views of known pose.
        unmeasured: Views of unknown pose, the sharpest first.
        seen: Frames or photos with them.
        usual: Their running `quality.color_histogram`.
        best: The most frontal view; without poses, the sharpest.
        photo: `(H, W, 3)` uint8, the whole frame of `best`.
    """

    pool: ViewPool = field(default_factory=ViewPool)
    unmeasured: list[View] = field(default_factory=list)
    seen: int = 0
    usual: Tensor | None = None
    best: View | None = None
    photo: Tensor | None = None


class Collector:
    """What is known of the people that were seen, and which views of them are worth keeping.

    Args:
        rules: What a good view is.
        same_person: Who tells people apart, or None where nothing can.
        photos: Photos are looked at, and no clip.
    """

    def __init__(self, rules: ViewRules, same_person: SamePerson | None, photos: bool) -> None:
        self.rules = rules
        self.facts = Facts(photos, same_person is None)
        self.people: list[Person] = []
        self._same_person = same_person

    def recognize(self, crop: Callable[[], Tensor]) -> Person | None:
        """Who of the people that were seen is on a crop `(512, 512, 3)`, if any."""
        if self._same_person is not None and self.people:
            face = crop()
            for person in sorted(self.people, key=lambda p: -p.seen):
                if person.best and self._same_person(face, person.best.crop.float() / 255):
                    return person
        return None

    def meet(self) -> Person:
        """Somebody new."""
        self.facts.people += 1
        most = MOST_PEOPLE_ON_PHOTOS if self.facts.photos else MOST_PEOPLE_IN_CLIP
        if len(self.people) == most:
            self.people.remove(min(reversed(self.people), key=lambda p: p.seen))
        # Among equals `finish` takes the person of the first photos, but of the last shot.
        self.people.insert(len(self.people) if self.facts.photos else 0, Person())
        return self.people[-1 if self.facts.photos else 0]

    def is_large(self, box: Box) -> bool:
        """Whether a face has enough pixels; counts those that do not."""
        large = box[2] - box[0] >= self.rules.least_face_px
        self.facts.too_small += not large
        return large

    def is_clear(self, crop: Tensor, person: Person | None = None) -> bool:
        """Whether a crop `(512, 512, 3)` is sharp and shows the usual colors of a person, if given.

        Counts those that are not.
        """
        if sharpness(crop) < self.rules.least_sharpness:
            self.facts.too_blurred += 1
            return False
        if person is None:
            return True
        if person.usual is not None and covered(crop, person.usual) > self.rules.most_covered:
            self.facts.too_covered += 1
            return False
        histogram = color_histogram(crop)
        before = histogram if person.usual is None else person.usual
        person.usual = before + _HISTORY * (histogram - before)
        return True

    def keep(self, person: Person, view: View, photo: Tensor, pool: ViewPool, mark: float) -> None:
        """Hold a view if it shows something new, and its whole photo if it is the best.

        Args:
            person: Who is on it.
            view: In the collection's terms.
            photo: `(H, W, 3)` RGB, uint8 or in [0, 1].
            pool: Where a view of known pose goes.
            mark: Its sharpness in the unit of that pool.
        """
        best = person.best
        if view.measured:
            pool.offer(view, mark)
            better = best is None or view.pose.turned < best.pose.turned
        else:
            if any(torch.equal(view.crop, other.crop) for other in person.unmeasured):
                return
            ranked = sorted([*person.unmeasured, view], key=lambda v: -v.sharpness)
            person.unmeasured = ranked[: self.rules.count]
            better = best is None or view.sharpness > best.sharpness
        if better:
            person.best, person.photo = view, _to_uint8(photo)

    def finish(self) -> Collection:
        """The views of the person who was seen most."""
        person = max((p for p in self.people if p.best), key=lambda p: p.seen, default=None)
        if person is None or person.best is None:
            return Collection(self.facts)
        best = person.best
        chosen = [best]
        if best.measured:
            # The most frontal view is always there, also when a sharper one took its cell.
            views = [best, *(v for v in person.pool.views if v.frame != best.frame)]
            chosen = [views[i] for i in select_views([v.pose for v in views], self.rules.count)]
        more = [v for v in person.unmeasured if v.frame != best.frame]
        chosen += more[: self.rules.count - len(chosen)]
        chosen.sort(key=lambda v: (v.pose.yaw, v.pose.pitch, v.frame))
        return Collection(self.facts, tuple(chosen), chosen.index(best), person.photo, person.seen)


def collect_photos(
    photos: Iterable[Photo],
    detect: Detector,
    rules: ViewRules,
    same_person: SamePerson | None = None,
) -> Collection:
    """Views of the person who is on most photos.

    Args:
        photos: One in memory at a time.
        detect: Finds faces in `(h, w, 3)` RGB in [0, 1].
        rules: What a good view is.
        same_person: None where nothing can tell: then all photos are taken to show one person.
    """
    collector = Collector(rules, same_person, photos=True)
    facts = collector.facts
    for photo in photos:
        number, facts.frames = facts.frames, facts.frames + 1
        small, scale = _reduced(photo)
        faces = detect(small)
        facts.with_face += bool(faces)
        facts.several_faces += len(faces) > 1
        if not faces:
            continue
        face = choose_face(faces, small.shape[1], small.shape[0], rules.choose)
        points = np.asarray(face.points or points_from_box(face.box, face.roll_deg))
        points = (points + 0.5) / scale - 0.5
        placed = start_track(points)
        if not collector.is_large(placed.box):
            continue
        pixels = torch.from_numpy(photo.pixels)
        crop = cut_view(pixels, points)
        if not collector.is_clear(crop):
            continue
        if facts.unchecked and collector.people:
            person = collector.people[0]
        else:
            person = collector.recognize(lambda crop=crop: crop) or collector.meet()
        person.seen += 1
        pose = Pose(*face.pose_deg) if face.pose_deg else placed.fit.pose
        view = make_view(number, None, pose, crop, placed.box, points, photo.name, face.points)
        collector.keep(person, view, pixels, person.pool, view.sharpness)
    return collector.finish()


def make_view(
    number: int,
    seconds: float | None,
    pose: Pose,
    crop: Tensor,
    box: Box,
    points: NDArray[np.float64],
    name: str = "",
    measured: object = True,
) -> View:
    """A view of a crop `(512, 512, 3)` in [0, 1] and five points `(5, 2)`; see `View`."""
    pairs = tuple((float(x), float(y)) for x, y in points)
    return View(
        number, seconds, pose, _to_uint8(crop), box, pairs, sharpness(crop), name, bool(measured)
    )


def _reduced(photo: Photo) -> tuple[Tensor, float]:
    """A copy `(h, w, 3)` in [0, 1] for the detector, and its pixels per pixel of the photo."""
    height, width = photo.pixels.shape[:2]
    scale = min(1.0, SEARCHED_SIDE_PX / max(height, width))
    pixels = photo.pixels
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
    return torch.from_numpy(pixels).float() / 255, scale


def _to_uint8(picture: Tensor) -> Tensor:
    return picture if picture.dtype == torch.uint8 else (picture * 255).round().to(torch.uint8)
