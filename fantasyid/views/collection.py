"""What was collected from a clip or from photos, and what to say of it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..face.quality import BLURRED
from .select import VIEW_COUNT, View, least_difference


@dataclass(frozen=True)
class ViewRules:
    """What a good view is.

    Attributes:
        count: How many views are wanted.
        choose: Which face a shot begins with, one of `faces.RULES`.
        least_face_px: Side of the face in pixels of the frame.
        least_sharpness: See `quality.sharpness`.
        most_covered: See `quality.covered`.
    """

    count: int = VIEW_COUNT
    choose: str = "largest"
    least_face_px: float = 96.0
    least_sharpness: float = BLURRED
    most_covered: float = 0.55


@dataclass
class ClipFacts:
    """What was seen, in numbers of frames (or of photos) where nothing else is said.

    Attributes:
        photos: They are photos of their own, no frames of a clip.
        unchecked: Nothing compared the people on the photos.
    """

    frames: int = 0
    with_face: int = 0
    cuts: int = 0
    people: int = 0
    several_faces: int = 0
    too_small: int = 0
    too_blurred: int = 0
    too_covered: int = 0
    photos: bool = False
    unchecked: bool = False


@dataclass(frozen=True)
class Collection:
    """The views of a clip.

    Attributes:
        views: The chosen ones, by yaw.
        frontal: Which of them looks into the camera best.
        photo: `(H, W, 3)` uint8, the whole frame of that view.
        facts: What was seen.
        kept_frames: Frames with the person whose views these are.
    """

    views: tuple[View, ...]
    frontal: int
    photo: Tensor
    facts: ClipFacts
    kept_frames: int


def describe_collection(found: Collection | None, facts: ClipFacts, rules: ViewRules) -> str:
    """What became of a clip or of photos, in sentences."""
    words = f"{facts.frames} frames, {facts.cuts} cuts, a face in {facts.with_face}."
    better = "a clip in which one face is large and looks into the camera at least once"
    if facts.photos:
        words = f"{facts.frames} photos, a face in {facts.with_face}."
        better = "photos in which one face is large and seen from the front"
    dropped = (
        (facts.too_small, f"too small (under {rules.least_face_px:.0f} px)"),
        (facts.too_blurred, "too blurred"),
        (facts.too_covered, "covered"),
    )
    reasons = ", ".join(f"{count} {why}" for count, why in dropped if count)
    left_out = f" Left out: {reasons}." if reasons else ""
    if found is None:
        return f"No view found: {words}{left_out} Use {better}."
    words += _people(found, facts) + left_out
    if len(found.views) < rules.count:
        words += f" Only {len(found.views)} different views of {rules.count} wanted."
    poses = [v.pose for v in found.views]
    if len(poses) > 1 and all(v.measured for v in found.views):
        least = least_difference(poses, range(len(poses)))
        words += f" The two most similar views differ by {least:.0f} degrees."
    best = "most frontal" if found.views[found.frontal].measured else "sharpest"
    lines = [
        f"{v.when}: {v.angles}, sharpness {v.sharpness:.3f}"
        + (f" ({best})" if i == found.frontal else "")
        for i, v in enumerate(found.views)
    ]
    return "\n".join([words, *lines])


def _people(found: Collection, facts: ClipFacts) -> str:
    """Whose views these are, in sentences."""
    words = ""
    if facts.photos:
        if facts.people > 1:
            words += f" {facts.people} people: kept the one on most photos, {found.kept_frames}."
        if facts.several_faces:
            words += f" Several faces on {facts.several_faces} photos: the rule took one."
        if facts.unchecked and found.kept_frames > 1:
            words += " Nothing checked that all show one person: look at the sheet."
        return words
    if facts.people > 1:
        words += (
            f" {facts.people} people or shots: kept the one seen longest, in "
            f"{found.kept_frames} frames."
        )
    if facts.several_faces:
        words += f" Several faces at once in {facts.several_faces} looks: one was followed."
    return words
