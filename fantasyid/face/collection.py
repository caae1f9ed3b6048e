"""What was collected from a clip, and what to say of it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .quality import BLURRED
from .views import VIEW_COUNT, View, least_difference


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
    """What was seen in a clip, in numbers of frames where nothing else is said."""

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
    """What became of a clip, in sentences."""
    words = f"{facts.frames} frames, {facts.cuts} cuts, a face in {facts.with_face}."
    dropped = (
        (facts.too_small, f"too small (under {rules.least_face_px:.0f} px)"),
        (facts.too_blurred, "too blurred"),
        (facts.too_covered, "covered"),
    )
    reasons = ", ".join(f"{count} {why}" for count, why in dropped if count)
    if found is None:
        return (
            f"No view found: {words}"
            + (f" Left out: {reasons}." if reasons else "")
            + " Use a clip in which one face is large and looks into the camera at least once."
        )
    if facts.people > 1:
        words += (
            f" {facts.people} people or shots: kept the one seen longest, in "
            f"{found.kept_frames} frames."
        )
    if facts.several_faces:
        words += f" Several faces at once in {facts.several_faces} looks: one was followed."
    words += f" Left out: {reasons}." if reasons else ""
    poses = [v.pose for v in found.views]
    if len(found.views) < rules.count:
        words += f" Only {len(found.views)} different views of {rules.count} wanted."
    if len(poses) > 1:
        least = least_difference(poses, range(len(poses)))
        words += f" The two most similar views differ by {least:.0f} degrees."
    lines = [
        f"{v.when}: {v.pose.words}, sharpness {v.sharpness:.3f}"
        + (" (most frontal)" if i == found.frontal else "")
        for i, v in enumerate(found.views)
    ]
    return "\n".join([words, *lines])
