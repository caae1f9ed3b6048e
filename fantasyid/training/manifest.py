"""What curation hands on: a Parquet row per clip, and the pictures of its views in shards.

Rows are sorted by clip id and written whole, so that the same clips give the same bytes.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

MANIFEST = "manifest.parquet"


class DataError(ValueError):
    """A clip, a shard or a manifest that cannot be used, in a sentence that names it."""


@dataclass(frozen=True, slots=True)
class ClipRow:
    """A clip that training may use.

    Attributes:
        clip: Content hash of the file and of the stretch of it.
        path: The video file.
        start_s: Where the stretch begins.
        width: Of the bucket, in pixels; `height` likewise.
        caption: The prompt.
        person: Clips of one person share it; otherwise it is the clip's own id.
        shard: Of the pictures of the views, relative to the manifest.
        yaw_deg: Per view, most frontal first; `pitch_deg` and `roll_deg` likewise.
        face_boxes: Per training frame `(left, top, right, bottom)` in the bucket's pixels.
    """

    clip: str
    path: str
    start_s: float
    width: int
    height: int
    caption: str
    person: str
    shard: str
    yaw_deg: tuple[float, ...]
    pitch_deg: tuple[float, ...]
    roll_deg: tuple[float, ...]
    face_boxes: tuple[tuple[float, float, float, float], ...]


def write_manifest(rows: Sequence[ClipRow], folder: Path) -> Path:
    """Write the manifest of a folder; the same rows give the same bytes."""
    import pyarrow
    import pyarrow.parquet

    ordered = sorted(rows, key=lambda row: row.clip)
    numbers, words = pyarrow.list_(pyarrow.float32()), pyarrow.string()
    boxes = pyarrow.list_(numbers)
    kinds = {
        "clip": words, "path": words, "start_s": pyarrow.float64(), "width": pyarrow.int32(),
        "height": pyarrow.int32(), "caption": words, "person": words, "shard": words,
        "yaw_deg": numbers, "pitch_deg": numbers, "roll_deg": numbers, "face_boxes": boxes,
    }  # fmt: skip
    table = pyarrow.table(
        {name: pyarrow.array([getattr(r, name) for r in ordered], k) for name, k in kinds.items()}
    )
    target = folder / MANIFEST
    partial = target.with_suffix(".partial")
    pyarrow.parquet.write_table(table, partial, compression="zstd")
    os.replace(partial, target)
    return target


def read_manifest(folder: Path) -> list[ClipRow]:
    """The rows of a curated folder, in the order of their ids.

    Raises:
        DataError: There is no manifest, or it is damaged, or holds no clip.
    """
    import pyarrow
    import pyarrow.parquet

    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(
            f"there is no {MANIFEST} in {folder}: run `python -m fantasyid.training curate` first"
        )
    try:
        columns = pyarrow.parquet.read_table(path).to_pydict()
        names = ClipRow.__dataclass_fields__
        rows = [
            ClipRow(*map(_tuple, values))
            for values in zip(*(columns[name] for name in names), strict=True)
        ]
    except (pyarrow.ArrowInvalid, KeyError, OSError) as error:
        raise DataError(f"{path} is damaged ({error}): delete it and curate again") from error
    if not rows:
        raise DataError(f"{path} holds no clip: see the curation report for why each was left out")
    return rows


def _tuple(value: Any) -> Any:
    return tuple(_tuple(v) for v in value) if isinstance(value, list) else value


def picture_bytes(picture: Tensor) -> Tensor:
    """An `(H, W, 3)` uint8 picture as lossless bytes, `(n,)` uint8."""
    buffer = io.BytesIO()
    Image.fromarray(picture.numpy()).save(buffer, "PNG", compress_level=4)
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def read_views(row: ClipRow, folder: Path) -> Tensor:
    """The aligned crops of a clip, `(views, 512, 512, 3)` uint8, most frontal first.

    Raises:
        DataError: The shard is absent, cut short, or lacks the clip.
    """
    path = folder / row.shard
    try:
        with safe_open(str(path), "pt") as shard:
            count = len(row.yaw_deg)
            data = [
                shard.get_tensor(f"{row.clip}/{view}").numpy().tobytes() for view in range(count)
            ]
        pictures = [np.asarray(Image.open(io.BytesIO(d)).convert("RGB")) for d in data]
    except Exception as error:
        raise DataError(
            f"the views of clip {row.clip} in {path} cannot be read: {error}"
        ) from error
    return torch.from_numpy(np.stack(pictures))


def decode_frames(
    path: Path, start_s: float, fps: int, count: int, size: tuple[int, int] | None
) -> Iterator[Tensor]:
    """Frames of a stretch of a video at another rate, `(H, W, 3)` uint8 one by one.

    A frame of the result shows the source's frame that stands at its moment.

    Args:
        path: The video file.
        start_s: Where to begin.
        fps: Frames per second of the result.
        count: How many frames.
        size: `(width, height)`: resized to cover it and cut in the middle; None keeps the size.

    Raises:
        DataError: The file cannot be decoded, or ends too early.
    """
    import av
    import av.error

    made = 0
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            if start_s > 0:
                container.seek(int(start_s * av.time_base))
            last = None
            for frame in container.decode(stream):
                if frame.time is None:
                    continue
                # All moments before this frame's belong to the frame before it.
                while (
                    last is not None and made < count and start_s + made / fps < frame.time - 1e-6
                ):
                    yield _sized(last, size)
                    made += 1
                if made >= count:
                    return
                last = frame
            if last is not None and last.time is not None and made < count:
                length_s = 1.0 / float(stream.average_rate or fps)
                while made < count and start_s + made / fps < last.time + length_s - 1e-6:
                    yield _sized(last, size)
                    made += 1
    except (av.error.FFmpegError, IndexError) as error:
        raise DataError(f"{path} cannot be decoded as a video: {error}") from error
    if made < count:
        raise DataError(f"{path} ends after {made} of {count} frames from {start_s:g} s on")


def write_video(
    path: Path, frames: Tensor, fps: int, pixels: str = "yuv420p", **options: str
) -> None:
    """`(F, H, W, 3)` uint8 as H.264; with yuv420p browsers play it.

    Args:
        pixels: PyAV's name of how colors are stored.
        options: Of the encoder, such as `crf`.
    """
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixels
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.numpy(), "rgb24")))
        container.mux(stream.encode())


def upright(frame: Any) -> Image.Image:
    """A decoded frame as a picture; a telephone's is turned as its file says."""
    turns = round(frame.rotation / 90) % 4
    turned = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
    picture = frame.to_image()
    return picture.transpose(turned[turns - 1]) if turns else picture


def _sized(frame: Any, size: tuple[int, int] | None) -> Tensor:
    picture = upright(frame)
    if size is not None and picture.size != size:
        scale = max(size[0] / picture.width, size[1] / picture.height)
        covering = (
            max(size[0], round(picture.width * scale)),
            max(size[1], round(picture.height * scale)),
        )
        left, top = ((a - b) // 2 for a, b in zip(covering, size, strict=True))
        picture = picture.resize(covering, Image.Resampling.LANCZOS)
        picture = picture.crop((left, top, left + size[0], top + size[1]))
    return torch.from_numpy(np.array(picture))
