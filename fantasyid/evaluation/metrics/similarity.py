"""Likeness of faces from their embeddings: to the reference, and from frame to frame.

An embedding is a unit vector, so a scalar product is a cosine: 1 for the same picture, about 0
for two strangers. A frame without a face has None: it is left out and counted, never a zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from ...face.recognizer import Embedding


def reference_similarity(
    frames: Sequence[Embedding | None], references: Sequence[Embedding]
) -> list[float | None]:
    """RS of each frame: cosine to the reference; the mean of the cosines to several.

    Args:
        frames: An embedding per frame, None where there is no face.
        references: One or more pictures of the person; with none all values are None.
    """
    if not references:
        return [None] * len(frames)
    known = np.stack(references)
    return [None if e is None else float((known @ e).mean()) for e in frames]


def interframe_similarity(frames: Sequence[Embedding | None]) -> list[float | None]:
    """IFS of each frame: cosine to the frame before.

    Returns:
        None for the first frame, and where this frame or the one before has no face.
    """
    values: list[float | None] = [None] * min(1, len(frames))
    for before, now in pairwise(frames):
        values.append(None if before is None or now is None else float(before @ now))
    return values


def mean_known(values: Iterable[float | None]) -> float | None:
    """The mean of what is known, or None where nothing is."""
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None
