"""Views of one person from photos that have nothing to do with each other.

Unlike in a clip there is no face to follow: every photo is searched, and who is on it is told by
a recognizer or, where there is none, taken to be one person.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..face.faces import DetectedFace, choose_face
from ..face.points import points_from_box
from ..face.pose import Pose
from ..face.quality import sharpness
from .clip import cut_view
from .collection import ClipFacts, Collection, ViewRules
from .photos import Photo
from .select import View, ViewPool, select_views
from .track import start_track

# Detectors look at a copy of at most this long side.
SEARCHED_SIDE_PX = 1280
# So many people are told apart; of more, those on the fewest photos are forgotten.
_MOST_PEOPLE = 8


@dataclass
class PhotoPerson:
    """Somebody who is on photos.

    Attributes:
        pool: Views of known pose.
        unmeasured: Views of unknown pose, the sharpest first.
        photos: How many photos show them.
        best: The most frontal view; without poses, the sharpest.
        photo: `(H, W, 3)` uint8, the whole photo of `best`.
    """

    pool: ViewPool = field(default_factory=ViewPool)
    unmeasured: list[View] = field(default_factory=list)
    photos: int = 0
    best: View | None = None
    photo: Tensor | None = None


class PhotoCollector:
    """Collects views while photos go by: `add` each one, then `finish`.

    Args:
        detect: Finds faces in `(h, w, 3)` RGB in [0, 1].
        rules: What a good view is. `most_covered` does not count: the light differs anyway.
        same_person: Whether two crops `(512, 512, 3)` show one person; None where nothing can
            tell: then all photos are taken to show one person.
    """

    def __init__(
        self,
        detect: Callable[[Tensor], list[DetectedFace]],
        rules: ViewRules,
        same_person: Callable[[Tensor, Tensor], bool] | None = None,
    ) -> None:
        self.facts = ClipFacts(photos=True, unchecked=same_person is None)
        self._detect, self._rules, self._same_person = detect, rules, same_person
        self._people: list[PhotoPerson] = []

    def add(self, photo: Photo) -> None:
        """Look at the next photo."""
        number = self.facts.frames
        self.facts.frames += 1
        small, scale = _reduced(photo)
        faces = self._detect(small)
        if not faces:
            return
        self.facts.with_face += 1
        if len(faces) > 1:
            self.facts.several_faces += 1
        face = choose_face(faces, small.shape[1], small.shape[0], self._rules.choose)
        points = np.asarray(face.points or points_from_box(face.box, face.roll_deg))
        points = (points + 0.5) / scale - 0.5
        pixels = torch.from_numpy(photo.pixels)
        crop = cut_view(pixels, points)
        fit = start_track(points)
        if not self._is_good(crop, fit.box):
            return
        person = self._who(crop)
        person.photos += 1
        pose = Pose(*face.pose_deg) if face.pose_deg else fit.fit.pose
        kept = (crop * 255).round().to(torch.uint8)
        pairs = tuple((float(x), float(y)) for x, y in points)
        sharp, measured = sharpness(crop), face.points is not None
        view = View(number, None, pose, kept, fit.box, pairs, sharp, photo.name, measured)
        self._keep(person, view, pixels)

    def finish(self) -> Collection | None:
        """The views of the person on most photos, or None where nobody was seen well."""
        seen = [p for p in self._people if p.best is not None]
        if not seen:
            return None
        person = max(seen, key=lambda p: p.photos)
        assert person.best is not None
        assert person.photo is not None
        others = [v for v in person.pool.views if v.frame != person.best.frame]
        views = [person.best, *others]
        if person.best.measured:
            chosen = [views[i] for i in select_views([v.pose for v in views], self._rules.count)]
        else:
            chosen = [person.best]
        more = [v for v in person.unmeasured if v.frame != person.best.frame]
        chosen += more[: self._rules.count - len(chosen)]
        ordered = sorted(chosen, key=lambda v: (v.pose.yaw, v.pose.pitch, v.frame))
        return Collection(
            tuple(ordered), ordered.index(person.best), person.photo, self.facts, person.photos
        )

    def _is_good(self, crop: Tensor, box: tuple[float, float, float, float]) -> bool:
        if box[2] - box[0] < self._rules.least_face_px:
            self.facts.too_small += 1
            return False
        if sharpness(crop) < self._rules.least_sharpness:
            self.facts.too_blurred += 1
            return False
        return True

    def _who(self, crop: Tensor) -> PhotoPerson:
        """Somebody who was on a photo before, or a new person."""
        for person in sorted(self._people, key=lambda p: -p.photos):
            known = person.best
            if self._same_person is None or (
                known is not None and self._same_person(crop, known.crop.float() / 255)
            ):
                return person
        self.facts.people += 1
        if len(self._people) == _MOST_PEOPLE:
            self._people.remove(min(self._people, key=lambda p: p.photos))
        self._people.append(PhotoPerson())
        return self._people[-1]

    def _keep(self, person: PhotoPerson, view: View, pixels: Tensor) -> None:
        """Hold a view if it shows something new, and its whole photo if it is the best."""
        best = person.best
        if view.measured:
            person.pool.offer(view, view.sharpness)
            better = best is None or view.pose.turned < best.pose.turned
        else:
            if any(torch.equal(view.crop, held.crop) for held in person.unmeasured):
                return
            held = sorted([*person.unmeasured, view], key=lambda v: -v.sharpness)
            person.unmeasured = held[: self._rules.count]
            better = best is None or view.sharpness > best.sharpness
        if better:
            person.best, person.photo = view, pixels


def _reduced(photo: Photo) -> tuple[Tensor, float]:
    """A copy `(h, w, 3)` in [0, 1] for the detector, and its pixels per pixel of the photo."""
    height, width = photo.pixels.shape[:2]
    scale = min(1.0, SEARCHED_SIDE_PX / max(height, width))
    pixels = photo.pixels
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
    return torch.from_numpy(pixels).float() / 255, scale
