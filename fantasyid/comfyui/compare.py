"""The person beside the video, with the likeness of each frame."""

from __future__ import annotations

import contextlib
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ..evaluation.metrics.measurement import FrameValues
from ..face.draw import draw_beside
from ..identity import FaceCrops
from .collect import read_frames
from .images import check_photos
from .metrics import MeasureRequest, measure_frames

SHOWN = 6  # frames on the node


def compare(clip: Any, request: MeasureRequest, height: int) -> tuple[Tensor, float, str, Tensor]:
    """Draw the reference beside every frame, with the frame's likeness under it.

    Args:
        clip: VIDEO or IMAGE.
        request: Its reference is shown as it is: the aligned face, or the first photo.
        height: Of the pictures, in pixels; even.

    Returns:
        Frames `(F, H, W, 3)` in [0, 1], the mean likeness (NaN where nobody measured it), words
        with the best and the worst frame, and some frames for the node.

    Raises:
        ValueError: See `measure_frames`; or nothing is connected to compare with.
    """
    reference = _shown(request.reference)
    measured, missing = measure_frames(clip, request)
    frames = read_frames(clip)
    with contextlib.closing(frames):
        pictures = []
        for frame, values in zip(frames, measured.frames, strict=True):
            comfy.model_management.throw_exception_if_processing_interrupted()
            pictures.append(draw_beside(reference, frame.color(), _words(values), height))
    drawn, mean = torch.stack(pictures), measured.mean("rs")
    known = [f for f in measured.frames if f.rs is not None]
    if known:
        low, high = (pick(known, key=lambda f: f.rs or 0.0) for pick in (min, max))
        words = (
            f"Likeness {mean:.3f} on average over {len(known)} of {len(pictures)} frames "
            f"({measured.recognizer}): best frame {high.number} with {high.rs:.3f}, worst frame "
            f"{low.number} with {low.rs:.3f}."
        )
    else:
        words = " ".join([f"{len(pictures)} frames beside the reference, no likeness.", *missing])
    picked = torch.linspace(0, len(drawn) - 1, min(SHOWN, len(drawn))).round().long()
    return drawn, float("nan") if mean is None else mean, words, drawn[picked]


def _words(values: FrameValues) -> str:
    if values.box is None:
        return f"frame {values.number}: no face"
    likeness = "" if values.rs is None else f": likeness {values.rs:.3f}"
    return f"frame {values.number}{likeness}"


def _shown(reference: Any) -> Tensor:
    """The picture `(h, w, 3)` of a FANTASYID_FACE or IMAGE."""
    if isinstance(reference, FaceCrops):
        return (reference.photos if reference.empty_reason else reference.images)[0]
    return check_photos(reference)[0]
