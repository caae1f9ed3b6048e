"""What became of a clip or of photos, in sentences."""

from __future__ import annotations

from .collect import Collection, ViewRules
from .select import least_difference


def describe_collection(found: Collection, rules: ViewRules) -> str:
    """What was seen, what was left out, and the views."""
    facts = found.facts
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
    reasons = ", ".join(f"{count} {reason}" for count, reason in dropped if count)
    left_out = f" Left out: {reasons}." if reasons else ""
    if not found.views:
        return f"No view found: {words}{left_out} Use {better}."
    words += _people(found) + left_out
    if len(found.views) < rules.count:
        words += f" Only {len(found.views)} different views of {rules.count} wanted."
    poses = [v.pose for v in found.views]
    if len(poses) > 1 and all(v.measured for v in found.views):
        least = least_difference(poses, range(len(poses)))
        words += f" The two most similar views differ by {least:.0f} degrees."
    best = " (most frontal)" if found.views[found.frontal].measured else " (sharpest)"
    lines = [
        f"{v.when}: {v.angles}, sharpness {v.sharpness:.3f}{best if i == found.frontal else ''}"
        for i, v in enumerate(found.views)
    ]
    return "\n".join([words, *lines])


def _people(found: Collection) -> str:
    """Whose views these are, in sentences."""
    facts, kept = found.facts, found.kept_frames
    if facts.photos:
        said = (
            (facts.people > 1, f"{facts.people} people: kept the one on most photos, {kept}."),
            (
                facts.several_faces,
                f"Several faces on {facts.several_faces} photos: the rule took one.",
            ),
            (
                facts.unchecked and kept > 1,
                "Nothing checked that all show one person: look at the sheet.",
            ),
        )
    else:
        said = (
            (
                facts.people > 1,
                f"{facts.people} people or shots: kept the one seen longest, in {kept} frames.",
            ),
            (
                facts.several_faces,
                f"Several faces at once in {facts.several_faces} looks: one was followed.",
            ),
        )
    return "".join(f" {sentence}" for true, sentence in said if true)
