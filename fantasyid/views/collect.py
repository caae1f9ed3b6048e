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

from ..face.crop import cut_view
from ..face.faces import Box, Detector, choose_face
from ..face.points import points_of
from ..face.pose import Pose, fit_face
from ..face.quality import BLURRED, color_histogram, covered, sharpness
from .photos import Photo
from .select import VIEW_COUNT, View, ViewPool, least_difference, select_views

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
    """What a good view is."""

    count: int = VIEW_COUNT  # how many views are wanted
    choose: str = "largest"  # which face a shot begins with, one of `faces.RULES`
    least_face_px: float = 96.0  # side of the face in pixels of the frame
    least_sharpness: float = BLURRED  # see `quality.sharpness`
    # See `quality.covered`; does not count for photos: their light differs anyway.
    most_covered: float = 0.55


@dataclass
class Collection:
    """The views of one person, and what was seen, in frames (or photos) if nothing else is said."""

    photos: bool  # photos of their own, no frames of a clip
    unchecked: bool  # nothing compared the people
    frames: int = 0
    with_face: int = 0
    cuts: int = 0
    people: int = 0
    several_faces: int = 0
    too_small: int = 0
    too_blurred: int = 0
    too_covered: int = 0
    views: tuple[View, ...] = ()  # the chosen ones, by yaw; () where nobody was seen well
    frontal: int = 0  # which of them looks into the camera best
    photo: Tensor | None = None  # (H, W, 3) uint8, the whole frame of that view
    kept_frames: int = 0  # with the person whose views these are


@dataclass
class Person:
    """Somebody who was seen."""

    pool: ViewPool = field(default_factory=ViewPool)  # views of known pose
    unmeasured: list[View] = field(default_factory=list)  # of unknown pose, the sharpest first
    seen: int = 0  # frames or photos with them
    usual: Tensor | None = None  # their running `quality.color_histogram`
    best: View | None = None  # the most frontal view; without poses, the sharpest
    photo: Tensor | None = None  # (H, W, 3) uint8, the whole frame of `best`


class Collector:
    """Keeps apart who was seen, and holds the good views of each.

    Args:
        rules: What a good view is.
        same_person: None where nothing can tell people apart.
        photos: They come from photos, and not from a clip.
    """

    def __init__(self, rules: ViewRules, same_person: SamePerson | None, photos: bool) -> None:
        self.rules = rules
        self.found = Collection(photos, same_person is None)
        self.people: list[Person] = []
        self.same_person = same_person

    def recognize(self, crop: Callable[[], Tensor]) -> Person | None:
        """Who of the people that were seen is on a crop `(512, 512, 3)`, if any."""
        if self.same_person is not None and self.people:
            face = crop()
            for person in sorted(self.people, key=lambda p: -p.seen):
                if person.best and self.same_person(face, person.best.crop.float() / 255):
                    return person
        return None

    def meet(self) -> Person:
        """Somebody new."""
        self.found.people += 1
        most = MOST_PEOPLE_ON_PHOTOS if self.found.photos else MOST_PEOPLE_IN_CLIP
        if len(self.people) == most:
            self.people.remove(min(reversed(self.people), key=lambda p: p.seen))
        # Among equals `finish` takes the person of the first photos, but of the last shot.
        self.people.insert(len(self.people) if self.found.photos else 0, person := Person())
        return person

    def is_large(self, box: Box) -> bool:
        """Whether a face has enough pixels; counts those that do not."""
        large = box[2] - box[0] >= self.rules.least_face_px
        self.found.too_small += not large
        return large

    def is_clear(self, crop: Tensor, person: Person | None = None) -> bool:
        """Whether a crop `(512, 512, 3)` is sharp and shows the usual colors of a person, if given.

        Counts those that are not.
        """
        if sharpness(crop) < self.rules.least_sharpness:
            self.found.too_blurred += 1
            return False
        if person is None:
            return True
        if person.usual is not None and covered(crop, person.usual) > self.rules.most_covered:
            self.found.too_covered += 1
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
            person.best, person.photo = view, to_uint8(photo)

    def finish(self) -> Collection:
        """The views of the person who was seen most."""
        person = max((p for p in self.people if p.best), key=lambda p: p.seen, default=None)
        if person is None or person.best is None:
            return self.found
        best = person.best
        chosen = [best]
        if best.measured:
            # The most frontal view is always there, also when a sharper one took its cell.
            views = [best, *(v for v in person.pool.views if v.frame != best.frame)]
            chosen = [views[i] for i in select_views([v.pose for v in views], self.rules.count)]
        more = [v for v in person.unmeasured if v.frame != best.frame]
        chosen += more[: self.rules.count - len(chosen)]
        chosen.sort(key=lambda v: (v.pose.yaw, v.pose.pitch, v.frame))
        self.found.views, self.found.frontal = tuple(chosen), chosen.index(best)
        self.found.photo, self.found.kept_frames = person.photo, person.seen
        return self.found


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
    found = collector.found
    for number, photo in enumerate(photos):
        found.frames += 1
        small, scale = _reduced(photo.pixels)
        faces = detect(small)
        found.with_face += bool(faces)
        found.several_faces += len(faces) > 1
        if not faces:
            continue
        face = choose_face(faces, small.shape[1], small.shape[0], rules.choose)
        points = (points_of(face) + 0.5) / scale - 0.5
        fit, pixels = fit_face(points), torch.from_numpy(photo.pixels)
        if not collector.is_large(fit.box):
            continue
        crop = cut_view(pixels, points)
        if not collector.is_clear(crop):
            continue
        if found.unchecked and collector.people:
            person = collector.people[0]
        else:
            person = collector.recognize(lambda crop=crop: crop) or collector.meet()
        person.seen += 1
        pose = Pose(*face.pose_deg) if face.pose_deg else fit.pose
        view = make_view(number, None, pose, crop, fit.box, points, photo.name, bool(face.points))
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
    measured: bool = True,
) -> View:
    """A view of a crop `(512, 512, 3)` in [0, 1] and five points `(5, 2)`; see `View`."""
    pairs = tuple((float(x), float(y)) for x, y in points)
    return View(number, seconds, pose, to_uint8(crop), box, pairs, sharpness(crop), name, measured)


def _reduced(pixels: NDArray[np.uint8]) -> tuple[Tensor, float]:
    """A copy `(h, w, 3)` in [0, 1] for the detector, and its pixels per pixel of the photo."""
    height, width = pixels.shape[:2]
    scale = min(1.0, SEARCHED_SIDE_PX / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
    return torch.from_numpy(pixels).float() / 255, scale


def to_uint8(picture: Tensor) -> Tensor:
    """RGB in [0, 1] as bytes; bytes stay what they are."""
    return picture if picture.dtype == torch.uint8 else (picture * 255).round().to(torch.uint8)


def describe_collection(found: Collection, rules: ViewRules) -> str:
    """What was seen, what was left out, and the views, in sentences."""
    kept, several = found.kept_frames, found.several_faces
    if found.photos:
        words = f"{found.frames} photos, a face in {found.with_face}."
        better = "photos in which one face is large and seen from the front"
        remarks = {
            f" {found.people} people: kept the one on most photos, {kept}.": found.people > 1,
            f" Several faces on {several} photos: the rule took one.": several,
            " Nothing checked that all show one person: look at the sheet.": (
                found.unchecked and kept > 1
            ),
        }
    else:
        words = f"{found.frames} frames, {found.cuts} cuts, a face in {found.with_face}."
        better = "a clip in which one face is large and looks into the camera at least once"
        shots = f"{found.people} people or shots: kept the one seen longest, in {kept} frames."
        remarks = {
            f" {shots}": found.people > 1,
            f" Several faces at once in {several} looks: one was followed.": several,
        }
    dropped = {
        f"too small (under {rules.least_face_px:.0f} px)": found.too_small,
        "too blurred": found.too_blurred,
        "covered": found.too_covered,
    }
    reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count)
    left_out = f" Left out: {reasons}." if reasons else ""
    if not found.views:
        return f"No view found: {words}{left_out} Use {better}."
    words += "".join(remark for remark, true in remarks.items() if true) + left_out
    if len(found.views) < rules.count:
        words += f" Only {len(found.views)} different views of {rules.count} wanted."
    poses = [v.pose for v in found.views]
    if len(poses) > 1 and all(v.measured for v in found.views):
        least = least_difference(poses, range(len(poses)))
        words += f" The two most similar views differ by {least:.0f} degrees."
    lines = [f"{v.when}: {v.angles}, sharpness {v.sharpness:.3f}" for v in found.views]
    best = found.views[found.frontal].measured
    lines[found.frontal] += " (most frontal)" if best else " (sharpest)"
    return "\n".join([words, *lines])
