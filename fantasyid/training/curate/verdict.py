"""Thresholds, applied to scores that are there: which clips are kept, and why others are not."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

from ..config import Curate


class Reason(enum.Enum):
    """Why a clip is left out; the value is what the report says."""

    UNREADABLE = "cannot be decoded"
    TOO_SHORT = "no shot is long enough"
    NO_FACE = "no face in enough of its frames"
    UNSURE_FACE = "the faces are not sure enough"
    MANY_PEOPLE = "more than one person"
    SMALL_FACE = "the face is too small"
    BLURRED = "the face is blurred"
    FEW_VIEWS = "too few different views of the head"
    TEXT = "text is burnt in"
    NO_CAPTION = "no caption"


def judge(scores: Mapping[str, Any], rules: Curate) -> Reason | None:
    """The first rule that a clip breaks, in the order of the funnel; None keeps it.

    Args:
        scores: Of one stretch: `frames`, `with_face`, `face_score`, `people`, `face_px`,
            `sharpness`, `views`, `text_share`, `caption`; or `error` where nothing could be read.
    """
    if scores.get("error"):
        return Reason.UNREADABLE
    if scores["frames"] < rules.frames:
        return Reason.TOO_SHORT
    checks = (
        (Reason.NO_FACE, scores["with_face"] < rules.min_face_share * scores["looked"]),
        (Reason.MANY_PEOPLE, scores["people"] > rules.max_people),
        (Reason.UNSURE_FACE, scores["face_score"] < rules.min_face_score),
        (Reason.SMALL_FACE, scores["face_px"] < rules.min_face_px),
        (Reason.BLURRED, scores["sharpness"] < rules.min_sharpness),
        (Reason.TEXT, scores["text_share"] > rules.max_text_share),
        (Reason.FEW_VIEWS, scores["views"] < rules.min_views),
        (Reason.NO_CAPTION, not scores["caption"]),
    )
    return next((reason for reason, broken in checks if broken), None)
