"""One way for all tests to write a video file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def write_video(path: Path, pictures: Iterable[Any], rate: int = 8, **options: str) -> Path:
    """Encode pictures `(H, W, 3)`, uint8 or in [0, 1], as H.264."""
    av = pytest.importorskip("av", reason="PyAV is absent")
    frames = [np.asarray(picture) for picture in pictures]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=rate, options=options)
        stream.pix_fmt = "yuv420p"
        stream.height, stream.width = frames[0].shape[:2]
        for pixels in frames:
            if pixels.dtype != np.uint8:
                pixels = (pixels * 255).round().astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
