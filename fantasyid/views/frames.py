"""The frames of a clip, one in memory at a time, from pictures or from a video file."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from .photos import MOST_PIXELS

SMALL_SIDE_PX = 640
_LUMA = (0.299, 0.587, 0.114)
# A cut moves this share of all pixels to other gray levels, and leaves little where it was.
_CUT_HISTOGRAM, _CUT_DIFFERENCE = 0.35, 0.10


@dataclass(frozen=True)
class ClipFrame:
    """One frame of a clip."""

    number: int  # from 0
    seconds: float | None  # its time in the clip, or None where nobody knows
    gray: NDArray[np.float32]  # (h, w) in 0 to 255, at most `SMALL_SIDE_PX` on its long side
    scale: float  # pixels of `gray` per pixel of the frame
    color: Callable[[], Tensor]  # gives (H, W, 3) RGB in [0, 1]; called for few frames only
    small_color: Callable[[], Tensor]  # gives (h, w, 3), of the size of `gray`; for the detector
    lost: Callable[[], int] = int  # gives how many parts of its clip were damaged up to now


Frames = Generator[ClipFrame, None, None]


def frame_of_picture(picture: Tensor, number: int, seconds: float | None = None) -> ClipFrame:
    """A frame of a picture `(H, W, 3)` RGB float in [0, 1]."""
    height, width = picture.shape[:2]
    scale = min(1.0, SMALL_SIDE_PX / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    planes = picture.permute(2, 0, 1)[None]
    small = interpolate(planes, size, mode="bilinear", antialias=True)[0].permute(1, 2, 0)
    gray = (small @ small.new_tensor(_LUMA) * 255).numpy()
    return ClipFrame(number, seconds, gray, scale, lambda: picture, lambda: small)


def frames_of_pictures(pictures: Iterable[Tensor], rate: float | None = None) -> Frames:
    """Frames of pictures `(H, W, 3)` RGB in [0, 1], at `rate` frames per second where known."""
    for number, picture in enumerate(pictures):
        yield frame_of_picture(picture.float(), number, number / rate if rate else None)


def frames_of_video(source: Any, start: float = 0.0, duration: float = 0.0) -> Frames:
    """Frames of a video as the decoder gives them; only what is asked for becomes a tensor.

    Args:
        source: A path, or an open binary file.
        start: Seconds that are left out at the beginning.
        duration: Seconds that are read; 0 for all.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It has no pictures, they are too large, or it cannot be decoded.
    """
    import av
    from av.error import FFmpegError

    name = source if isinstance(source, str) else "the video"
    try:
        with av.open(source, mode="r") as container:
            stream = next(iter(container.streams.video), None)
            if stream is None or stream.codec_context is None:  # or of a codec that nobody knows
                raise ValueError(f"{name} has no pictures that can be decoded")
            if stream.width * stream.height > MOST_PIXELS:
                raise ValueError(
                    f"{name} is {stream.width}x{stream.height}: frames above "
                    f"{MOST_PIXELS // 1_000_000} million pixels are not read"
                )
            stream.thread_type = "AUTO"
            if start:
                container.seek(int(start / stream.time_base), stream=stream)
            yield from _decode(container, stream, start, start + duration if duration else None)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no video {source}") from error
    except FFmpegError as error:
        raise ValueError(f"{name} cannot be decoded: {error.strerror or error}") from error


def _decode(container: Any, stream: Any, start: float, end: float | None) -> Frames:
    from av.error import InvalidDataError

    number = lost = 0

    def lost_so_far() -> int:
        return lost

    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except InvalidDataError:  # a damaged part, as the host leaves it out
            lost += 1
            continue
        for frame in frames:
            lost += frame.is_corrupt
            seconds = 0.0 if frame.time is None else float(frame.time)
            if end is not None and seconds >= end:
                return
            if seconds >= start:
                yield replace(_of_decoded(frame, number, seconds), lost=lost_so_far)
                number += 1


def _of_decoded(frame: Any, number: int, seconds: float) -> ClipFrame:
    scale = min(1.0, SMALL_SIDE_PX / max(frame.width, frame.height))
    width, height = (max(16, round(side * scale)) for side in (frame.width, frame.height))

    def upright(picture: NDArray) -> NDArray:
        """A telephone's frame, turned as its file says."""
        return np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90) % 4))

    def colors(**size: int) -> Tensor:
        return torch.from_numpy(upright(frame.to_ndarray(format="rgb24", **size))).float() / 255

    gray = upright(frame.to_ndarray(format="gray", width=width, height=height)).astype(np.float32)
    small_color = partial(colors, width=width, height=height)
    return ClipFrame(number, seconds, gray, scale, colors, small_color)


def is_cut(before: NDArray[np.float32], now: NDArray[np.float32]) -> bool:
    """Whether another scene begins between two small gray pictures `(h, w)` in 0 to 255."""
    if before.shape != now.shape:
        return True
    histograms = [np.histogram(p, 32, (0, 256))[0] / p.size for p in (before, now)]
    moved = float(np.abs(histograms[0] - histograms[1]).sum() / 2)
    return moved > _CUT_HISTOGRAM and float(np.abs(before - now).mean()) / 255 > _CUT_DIFFERENCE
