"""Frames of files and of pictures in memory, one at a time, as the measuring takes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...views.frames import SMALL_SIDE_PX, ClipFrame

_LUMA = (0.299, 0.587, 0.114)


def frames_of_pictures(
    pictures: Iterable[Tensor], rate: float | None = None
) -> Iterator[ClipFrame]:
    """Frames of pictures `(H, W, 3)` RGB in [0, 1].

    Args:
        pictures: In order.
        rate: Frames per second, or None where nobody knows.
    """
    for number, picture in enumerate(pictures):
        yield _frame(number, picture.float(), None if not rate else number / rate)


def frames_of_file(path: Path) -> Iterator[ClipFrame]:
    """Frames of a video file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It has no pictures, or cannot be decoded.
    """
    import av
    from av.error import FFmpegError

    if not path.is_file():
        raise FileNotFoundError(f"there is no video {path}")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"{path} has no pictures")
            for number, frame in enumerate(container.decode(video=0)):
                picture = torch.from_numpy(frame.to_ndarray(format="rgb24")).float() / 255
                yield _frame(number, picture, None if frame.time is None else float(frame.time))
    except FFmpegError as error:
        raise ValueError(f"{path} cannot be decoded: {error}") from error


def _frame(number: int, picture: Tensor, seconds: float | None) -> ClipFrame:
    height, width = picture.shape[:2]
    scale = min(1.0, SMALL_SIDE_PX / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    planes = picture.permute(2, 0, 1)[None]
    small = interpolate(planes, size, mode="bilinear", antialias=True)[0].permute(1, 2, 0)
    grey = (small @ small.new_tensor(_LUMA) * 255).numpy()
    return ClipFrame(number, seconds, grey, scale, lambda: picture, lambda: small)
