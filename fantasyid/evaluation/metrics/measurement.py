"""What was measured, as numbers, as sentences, and as files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from torch import Tensor

from .flow import SETTINGS
from .motion import FACE_PX

# A face as like as this that moves less than this is a picture laid into the video. Both limits
# are this project's, not the paper's: two photos of one person are rarely this alike, and
# breathing alone moves a face more.
COPIED_RS, COPIED_FM = 0.7, 0.3
# Below this many pictures to each side FID is too high, the more so the fewer there are.
FID_NEEDS = 2048


# Degrees of |yaw| of each kind of view.
YAW_BINS = {"frontal": (0.0, 15.0), "half": (15.0, 45.0), "profile": (45.0, 180.0)}


@dataclass(frozen=True, slots=True)
class FrameValues:
    """The values of one frame; None where there is nothing to measure."""

    number: int  # from 0
    seconds: float | None  # its time in the clip
    # The face, `(x0, y0, x1, y1)` pixels of the frame.
    box: tuple[float, float, float, float] | None
    score: float | None  # how sure the detector is
    cut: bool  # whether another scene begins here
    rs: float | None  # cosine to the reference
    ifs: float | None  # cosine to the frame before
    fm: float | None  # motion since the frame before, percent of the face's size
    fm_still: float | None  # the same without the camera's motion
    fm_px: float | None  # `fm` in pixels
    yaw_deg: float | None  # where the head looks, positive: to the right of the picture


@dataclass(frozen=True)
class Measurement:
    """A measured clip."""

    frames: tuple[FrameValues, ...]  # in order
    detectors: tuple[str, ...]  # what found the faces, in words
    recognizer: str  # what told them apart, with its licence; "" for nothing
    fid: float | None  # Frechet distance of Inception features of the face crops, or None
    fid_counts: tuple[int, int]  # how many crops of the clip and of the reference set it is of
    # Number and crop `(512, 512, 3)` uint8 of the frames least like the reference, worst first; of
    # those that move most where there is no recogniser.
    worst: tuple[tuple[int, Tensor], ...]
    features: Tensor | None = None  # (N, C) Inception features of the face crops, where taken
    lost: int = 0  # parts of the clip that were damaged: the frames are those that remain

    def mean(self, name: str) -> float | None:
        """The mean of a value of `FrameValues` over the frames that have it."""
        return mean_known(getattr(frame, name) for frame in self.frames)

    def count(self, name: str) -> int:
        """How many frames have a value."""
        return sum(getattr(frame, name) is not None for frame in self.frames)

    def rs_by_yaw(self) -> dict[str, float | None]:
        """The mean RS of frames by where the head looks: likeness is easy from the front."""
        return {
            name: mean_known(
                frame.rs
                for frame in self.frames
                if frame.yaw_deg is not None and low <= abs(frame.yaw_deg) < high
            )
            for name, (low, high) in YAW_BINS.items()
        }

    @property
    def copied(self) -> bool:
        """Whether the face looks pasted: very like the reference, and hardly moving.

        A face that stands still in the picture counts, and one that moves with the camera.
        """
        rs = self.mean("rs")
        motions = [m for m in (self.mean("fm"), self.mean("fm_still")) if m is not None]
        return rs is not None and bool(motions) and rs >= COPIED_RS and min(motions) <= COPIED_FM


def mean_known(values: Iterable[float | None]) -> float | None:
    """The mean of what is known, or None where nothing is."""
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def describe(measured: Measurement, missing: Sequence[str] = ()) -> str:
    """What was measured, in sentences.

    Args:
        missing: Why some values are not there, a sentence each.
    """
    lines = _counts(measured)
    rs, ifs, fm, still = (measured.mean(name) for name in ("rs", "ifs", "fm", "fm_still"))
    if rs is not None:
        lines.append(f"RS {rs:.4f} (cosine to the reference, {measured.count('rs')} frames).")
        by_yaw = {name: mean for name, mean in measured.rs_by_yaw().items() if mean is not None}
        if set(by_yaw) - {"frontal"}:
            lines.append(
                "RS by view: " + ", ".join(f"{n} {m:.4f}" for n, m in by_yaw.items()) + "."
            )
    if ifs is not None:
        pairs = measured.count("ifs")
        lines.append(f"IFS {ifs:.4f} (cosine to the frame before, {pairs} pairs).")
    if measured.recognizer:
        lines.append(f"Recogniser: {measured.recognizer}.")
    if fm is not None:
        pixels = measured.mean("fm_px")
        lines.append(
            f"FM {fm:.3f} % of the face's size per frame ({pixels:.2f} pixels, "
            f"{measured.count('fm')} pairs); without the camera's motion "
            + ("unknown: the surroundings have no texture." if still is None else f"{still:.3f} %.")
        )
    if measured.fid is not None:
        lines.append(_fid_words(measured))
    cuts = sum(frame.cut for frame in measured.frames)
    if cuts:
        lines.append(f"{cuts} cuts: no motion is measured across them.")
    if measured.copied:
        lines.append(
            f"COPY-PASTE: RS {rs:.2f} is high (from {COPIED_RS}) and the face hardly moves (FM up "
            f"to {COPIED_FM} %): the reference was pasted rather than brought to life."
        )
    return "\n".join([*lines, *missing])


def _counts(measured: Measurement) -> list[str]:
    """What the values are of."""
    total, found = len(measured.frames), measured.count("box")
    by = f" ({', '.join(measured.detectors)})" if measured.detectors else ""
    rest = "" if found == total else "; the others are left out"
    lines = [f"Faces found in {found} of {total} frames{by}{rest}."]
    if measured.lost:
        lines.insert(
            0,
            f"DAMAGED CLIP: {measured.lost} of its parts cannot be decoded; all values are of the "
            f"{total} frames that can.",
        )
    return lines


def _fid_words(measured: Measurement) -> str:
    here, there = measured.fid_counts
    words = f"FID of face crops {measured.fid:.2f} ({here} against {there})"
    if min(here, there) < FID_NEEDS:
        words += f"; below {FID_NEEDS} each it is too high: compare equal numbers only"
    return words + "."


def as_json(measured: Measurement) -> str:
    """All numbers with their units; what is not known is null."""
    names = ("rs", "ifs", "fm", "fm_still", "fm_px")
    content: dict[str, Any] = {
        "frames": len(measured.frames),
        "damaged_parts": measured.lost,
        "frames_with_face": measured.count("box"),
        "mean": {name: measured.mean(name) for name in names},
        "rs_by_yaw": measured.rs_by_yaw(),
        "counts": {name: measured.count(name) for name in names},
        "fid": measured.fid,
        "fid_crops": list(measured.fid_counts),
        "copy_paste": measured.copied,
        "units": {
            "rs": "cosine to the reference",
            "ifs": "cosine to the frame before",
            "fm": "mean flow in the face, percent of the face's size per frame",
            "fm_still": "fm without the camera's motion",
            "fm_px": "fm in pixels per frame",
        },
        "flow": f"{SETTINGS}; large faces reduced to {FACE_PX} pixels before",
        "detectors": list(measured.detectors),
        "recogniser": measured.recognizer or None,
        "per_frame": [asdict(frame) for frame in measured.frames],
    }
    return json.dumps(content, indent=1, allow_nan=False)


def as_csv(measured: Measurement) -> str:
    """One row per frame; a cell is empty where there is nothing to measure."""
    names = [f.name for f in fields(FrameValues) if f.name != "box"]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*names, "x0", "y0", "x1", "y1"])
    for frame in measured.frames:
        cells = [getattr(frame, name) for name in names]
        cells[names.index("cut")] = int(frame.cut)
        writer.writerow(["" if c is None else c for c in (*cells, *(frame.box or [None] * 4))])
    return text.getvalue()
