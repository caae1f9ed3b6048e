"""Views of one person from the host's VIDEO or IMAGE, or from a folder of photos.

One frame or photo is in memory at a time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import numpy as np
import torch
from comfy_api.latest import InputImpl
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from ..face.align import CONTINUE
from ..face.recognizer import open_pack_recognizer
from ..face.sheet import draw_sheet
from ..face.sources import FaceSources, insightface_folder, open_clip_detector, open_detector
from ..identity import FACE_CROP_SIZE, FaceCrop
from ..views.album import PhotoCollector
from ..views.clip import SMALL_SIDE_PX, ClipFrame, ViewCollector
from ..views.collection import ClipFacts, Collection, ViewRules, describe_collection
from ..views.photos import MOST_PIXELS, FolderReport, list_files, read_photos
from .images import check_photos

_SHORTER_THAN_SAID = 0.9
_LUMA = (0.299, 0.587, 0.114)

Frames = Generator[ClipFrame, None, None]


@dataclass(frozen=True, slots=True)
class CollectedViews:
    """The outputs of the collecting stage.

    Attributes:
        face: The most frontal view, or an empty face with the reason.
        crops: `(N, 512, 512, 3)`, by yaw.
        sheet: `(1, H, W, 3)` contact sheet with the angles.
        message: Words for the node.
    """

    face: FaceCrop
    crops: Tensor
    sheet: Tensor
    message: str


def collect_views(clip: Any, sources: FaceSources, rules: ViewRules, policy: str) -> CollectedViews:
    """The views of one person that differ most.

    Args:
        clip: VIDEO or IMAGE.
        sources: Which detector; points, landmarks and boxes are not used.
        rules: What a good view is, and how many are wanted.
        policy: "continue without identity" gives an empty face where there is no view; any other
            raises.

    Raises:
        ValueError: There is no view, or the clip cannot be read.
    """
    collector = ViewCollector(open_clip_detector(sources), rules, _recognizer(sources))
    frames, total = read_frames(clip), count_frames(clip)
    bar = comfy.utils.ProgressBar(total)
    with contextlib.closing(frames):
        for frame in frames:
            comfy.model_management.throw_exception_if_processing_interrupted()
            collector.add(frame)
            bar.update_absolute(min(frame.number + 1, total), total)
    cut_off = ""
    if collector.facts.frames < _SHORTER_THAN_SAID * total:
        cut_off = f"\nThe clip promises about {total} frames: the file is damaged or cut off."
    return _conclude(collector.finish(), collector.facts, rules, policy, cut_off)


def collect_photos(
    folder: Path, sources: FaceSources, rules: ViewRules, policy: str
) -> CollectedViews:
    """The views of one person that differ most, from all photos of a folder.

    Args:
        folder: See `photos.read_photos`.
        sources, rules, policy: As in `collect_views`.

    Raises:
        ValueError: There is no view, or no file of the folder can be used.
        FileNotFoundError: The folder is not there.
    """
    bar = comfy.utils.ProgressBar(len(list_files(folder)))
    collector = PhotoCollector(open_detector(sources), rules, _recognizer(sources))
    report = FolderReport()
    for photo in read_photos(folder, report):
        comfy.model_management.throw_exception_if_processing_interrupted()
        if photo is not None:
            collector.add(photo)
        bar.update(1)
    said = f"\n{report.words}" if report.words else ""
    return _conclude(collector.finish(), collector.facts, rules, policy, said)


def _conclude(
    found: Collection | None, facts: ClipFacts, rules: ViewRules, policy: str, more: str
) -> CollectedViews:
    """The outputs, with the emptiness that the policy allows."""
    message = describe_collection(found, facts, rules) + more
    if found is not None:
        return _as_outputs(found, message)
    if policy != CONTINUE:
        raise ValueError(message)
    black = torch.zeros(1, FACE_CROP_SIZE, FACE_CROP_SIZE, 3)
    sheet = draw_sheet([black[0]], ["no view found"])
    return CollectedViews(
        FaceCrop.empty(black, message), black, sheet[None], f"NO IDENTITY: {message}"
    )


def _as_outputs(found: Collection, message: str) -> CollectedViews:
    views = found.views
    words = [f"{v.when}\n{v.angles}" for v in views]
    sheet = draw_sheet([v.crop for v in views], words, marked=found.frontal)
    frontal = views[found.frontal]
    face = FaceCrop(
        frontal.crop[None].float() / 255,
        found.photo[None].float() / 255,
        "views of photos" if found.facts.photos else "views of a clip",
        box=frontal.box,
        points=torch.tensor(frontal.points),
    )
    crops = torch.stack([v.crop for v in views]).float() / 255
    return CollectedViews(face, crops, sheet[None], message)


def _recognizer(sources: FaceSources) -> Any:
    """Who tells people apart, or None where nobody can."""
    try:
        return open_pack_recognizer(insightface_folder(sources.insightface_folders))
    except (ImportError, FileNotFoundError):
        return None


def count_frames(clip: Any) -> int:
    """How many frames a clip has, or about how many; at least 1."""
    from av.error import FFmpegError  # loaded by the host only when a video is opened

    if isinstance(clip, Tensor):
        return max(1, clip.shape[0])
    try:
        return max(1, int(clip.get_frame_count()))
    except (ValueError, ZeroDivisionError, TypeError, FFmpegError):
        return 1


def read_frames(clip: Any) -> Frames:
    """The frames of a VIDEO or IMAGE, one at a time.

    Raises:
        ValueError: It is something else, has no picture, or cannot be decoded.
    """
    if isinstance(clip, Tensor):
        return _of_images(clip, None)
    if isinstance(clip, InputImpl.VideoFromComponents):  # in memory already
        parts = clip.get_components()
        return _of_images(parts.images, float(parts.frame_rate))
    if not hasattr(clip, "get_stream_source"):
        raise ValueError(f"the clip is a {type(clip).__name__}, expected VIDEO or IMAGE")
    return _of_stream(clip)


def _of_images(images: Tensor, rate: float | None) -> Frames:
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"the clip is {tuple(images.shape)}, expected (frames, H, W, 3)")
    for number in range(images.shape[0]):
        photo = check_photos(images[number : number + 1])[0]
        height, width = photo.shape[:2]
        scale = min(1.0, SMALL_SIDE_PX / max(height, width))
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        small = interpolate(photo.permute(2, 0, 1)[None], size, mode="bilinear", antialias=True)
        small = small[0].permute(1, 2, 0)
        grey = (small @ small.new_tensor(_LUMA) * 255).numpy()
        seconds = None if not rate else number / rate
        yield ClipFrame(
            number, seconds, grey, scale, lambda photo=photo: photo, lambda small=small: small
        )


def _of_stream(video: Any) -> Frames:
    """Frames as the decoder gives them; only what is asked for becomes a tensor."""
    import av
    from av.error import FFmpegError

    start, duration = video.get_active_trim_window()
    source = video.get_stream_source()
    name = source if isinstance(source, str) else "the video"
    try:
        with av.open(source, mode="r") as container:
            stream = next(iter(container.streams.video), None)
            if stream is None:
                raise ValueError(f"{name} has no pictures")
            if stream.width * stream.height > MOST_PIXELS:
                raise ValueError(
                    f"{name} is {stream.width}x{stream.height}: frames above "
                    f"{MOST_PIXELS // 1_000_000} million pixels are not read"
                )
            stream.thread_type = "AUTO"
            if start:
                container.seek(int(start / stream.time_base), stream=stream)
            yield from _decode(container, stream, start, start + duration if duration else None)
    except FFmpegError as error:
        raise ValueError(f"{name} cannot be decoded: {error}") from error


def _decode(container: Any, stream: Any, start: float, end: float | None) -> Frames:
    from av.error import InvalidDataError

    number = 0
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except InvalidDataError:  # a damaged part, as the host leaves it out
            continue
        for frame in frames:
            seconds = 0.0 if frame.time is None else float(frame.time)
            if end is not None and seconds >= end:
                return
            if seconds >= start:
                yield _of_decoded(frame, number, seconds)
                number += 1


def _of_decoded(frame: Any, number: int, seconds: float) -> ClipFrame:
    scale = min(1.0, SMALL_SIDE_PX / max(frame.width, frame.height))
    size = {
        "width": max(16, round(frame.width * scale)),
        "height": max(16, round(frame.height * scale)),
    }

    def colours(**options: int) -> Tensor:
        picture = _upright(frame.to_ndarray(format="rgb24", **options), frame.rotation)
        return torch.from_numpy(picture).float() / 255

    grey = _upright(frame.reformat(format="gray", **size).to_ndarray(), frame.rotation)
    return ClipFrame(
        number, seconds, grey.astype(np.float32), scale, colours, lambda: colours(**size)
    )


def _upright(picture: NDArray, rotation: int) -> NDArray:
    """A telephone's frame, turned as its file says."""
    quarter = round(rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(picture, quarter) if quarter else picture)
