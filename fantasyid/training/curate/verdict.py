"""Thresholds, applied to scores that are there: which clips are kept, and why others are not."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...face.faces import Box, box_overlap
from ...face.pose import Pose
from ...views.select import VIEW_COUNT, select_views
from ..config import Curate

# Reading that is less sure, or of fewer letters, is no text.
LEAST_TEXT_SCORE, LEAST_LETTERS = 0.7, 3
# A face that overlaps the one of the look before by less is somebody else's.
LEAST_OVERLAP = 0.1


class Reason(enum.Enum):
    """Why a clip is left out, in the order of the funnel; the value is what the report says."""

    UNREADABLE = "cannot be decoded"
    DUPLICATE = "the same file is there twice"
    TOO_SHORT = "the shot is too short"
    LOW_RATE = "too few frames per second"
    SMALL_PICTURE = "smaller than every size bucket"
    NO_FACE = "no face in enough of its frames"
    MANY_PEOPLE = "more than one person"
    SMALL_FACE = "the face is too small"
    BLURRED = "the face is blurred"
    PROFILE = "never looks toward the camera"
    UNSURE_FACE = "the face is not sure enough"
    TEXT = "text is burnt in"
    FEW_VIEWS = "too few different views of the head"
    NO_CAPTION = "no caption"


@dataclass(frozen=True, slots=True)
class Measured:
    """What the stages' findings come to under some rules.

    Attributes:
        scores: Numbers that `judge` compares.
        boxes: Per training frame the person's face, `(left, top, right, bottom)`.
        chosen: Numbers of the views that are taken, most frontal first.
    """

    scores: dict[str, float]
    boxes: tuple[Box, ...] = ()
    chosen: tuple[int, ...] = ()


def follow(looks: Sequence[Sequence[Mapping[str, Any]]], least: float) -> list[dict[int, Any]]:
    """Who is where: per person the looks with their face, the one seen most often first.

    Args:
        looks: Of the stage `faces`.
        least: Score from which a face counts.
    """
    people: list[dict[int, Any]] = []
    for number, faces in enumerate(looks):
        for face in sorted(faces, key=lambda f: -f["score"]):
            if face["score"] < least:
                continue
            free = [p for p in people if number not in p]
            near = [box_overlap(p[max(p)]["box"], face["box"]) for p in free]
            if near and max(near) > LEAST_OVERLAP:
                free[int(np.argmax(near))][number] = face
            else:
                people.append({number: face})
    return sorted(people, key=lambda p: -len(p))


def measure(
    faces: Mapping[str, Any], text: Mapping[str, Any], views: Mapping[str, Any], rules: Curate
) -> Measured:
    """Scores of a stretch from what the stages found; `text` and `views` may be empty."""
    looks = faces["looks"]
    people = follow(looks, min(rules.min_other_score, rules.min_face_score))
    main = people[0] if people else {}
    sure = [look for look, face in main.items() if face["score"] >= rules.min_face_score]
    covered = [
        sum(
            line["share"]
            for line in look
            if line["score"] >= LEAST_TEXT_SCORE
            and sum(c.isalnum() for c in line["text"]) >= LEAST_LETTERS
        )
        for look in text.get("looks", ())
    ]
    found = views.get("views", ())
    sharp = [i for i, v in enumerate(found) if v["sharpness"] >= rules.min_sharpness]
    poses = [Pose(found[i]["yaw"], found[i]["pitch"], found[i]["roll"]) for i in sharp]
    chosen: list[int] = []
    for i in select_views(poses, VIEW_COUNT):
        if all(poses[i].distance(poses[j]) >= rules.min_view_deg for j in chosen):
            chosen.append(i)
    widths = [face["box"][2] - face["box"][0] for face in main.values()]
    scores = {
        "face_share": len(main) / len(looks),
        "sure_share": len(sure) / len(looks),
        "face_score": float(np.median([f["score"] for f in main.values()])) if main else 0.0,
        "people": len(people),
        "face_px": float(np.median(widths)) if widths else 0.0,
        "text_share": max(covered, default=0.0),
        "sharpness": max((v["sharpness"] for v in found), default=0.0),
        "frontal_deg": min((max(abs(p.yaw), abs(p.pitch)) for p in poses), default=0.0),
        "views": len(chosen),
    }
    boxes: list[Box] = []
    if main:
        at = sorted(main)
        corners = np.array([main[look]["box"] for look in at])
        frames = np.arange(rules.frames)
        moments = [faces["frames"][look] for look in at]
        sides = [np.interp(frames, moments, side).round(2).tolist() for side in corners.T]
        boxes = list(zip(*sides, strict=True))
    return Measured(
        {k: round(v, 5) for k, v in scores.items()}, tuple(boxes), tuple(sharp[i] for i in chosen)
    )


def judge(scores: Mapping[str, float], rules: Curate) -> tuple[Reason, str] | None:
    """The first rule that a clip breaks, in the order of the funnel, with its number; or None."""
    checks = (
        (Reason.NO_FACE, scores["face_share"] < rules.min_face_share, "face_share"),
        (Reason.MANY_PEOPLE, scores["people"] > rules.max_people, "people"),
        (Reason.SMALL_FACE, scores["face_px"] < rules.min_face_px, "face_px"),
        (Reason.BLURRED, scores["sharpness"] < rules.min_sharpness, "sharpness"),
        (Reason.PROFILE, scores["frontal_deg"] > rules.max_frontal_deg, "frontal_deg"),
        (Reason.UNSURE_FACE, scores["sure_share"] < rules.min_face_share, "face_score"),
        (Reason.TEXT, scores["text_share"] > rules.max_text_share, "text_share"),
        (Reason.FEW_VIEWS, scores["views"] < rules.min_views, "views"),
    )
    broken = next(((reason, name) for reason, is_broken, name in checks if is_broken), None)
    return broken and (broken[0], f"{broken[1].replace('_', ' ')} {scores[broken[1]]:g}")
