"""One way for all tests to write a video file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest


def write_video(path: Path, pictures: Iterable[np.ndarray], rate: int = 8, **options: str) -> Path:
    """Encode pictures `(H, W, 3)`, uint8 or in [0, 1], as H.264."""
    av = pytest.importorskip("av", reason="PyAV is absent")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=rate, options=options)
        stream.pix_fmt = "yuv420p"
        for picture in map(np.asarray, pictures):
            pixels = picture if picture.dtype == np.uint8 else (picture * 255).round().astype("u1")
            stream.height, stream.width = pixels.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
