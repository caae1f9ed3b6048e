"""Views of one person from the host's VIDEO or IMAGE, or from a folder of photos that is typed.

One frame or photo is in memory at a time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import comfy.model_management
import comfy.utils
import folder_paths
import torch
from comfy_api.latest import InputImpl
from torch import Tensor

from ..face.align import CONTINUE
from ..face.draw import draw_sheet
from ..face.recognizer import open_pack_recognizer
from ..face.sources import FaceSources, open_clip_detector, open_detector
from ..identity import FACE_CROP_SIZE, FaceCrops
from ..views.clip import collect_clip
from ..views.collect import (
    Collection,
    SamePerson,
    ViewRules,
    collect_photos,
    describe_collection,
)
from ..views.frames import Frames, frames_of_pictures, frames_of_video
from ..views.photos import FolderReport, list_files, read_photos
from ..weights.describe import in_print
from .images import check_photos

T = TypeVar("T")

_SHORTER_THAN_SAID = 0.9


# The outputs of the collecting stage: the most frontal view, or an empty face with the reason; the
# crops `(N, 512, 512, 3)` by yaw; the contact sheet `(1, H, W, 3)`; and words for the node.
CollectedViews = tuple[FaceCrops, Tensor, Tensor, str]


def collect_views(
    clip: Any, folder: str, sources: FaceSources, rules: ViewRules, policy: str
) -> CollectedViews:
    """The views of one person that differ most, from a clip or a folder, whichever is given.

    Args:
        clip: VIDEO, IMAGE or None.
        folder: As typed; "" for none.
        sources: Which detector; points, landmarks and boxes are not used.
        rules: What a good view is, and how many are wanted.
        policy: "continue without identity" gives an empty face where there is no view; any other
            raises.

    Raises:
        ValueError: Neither or both are given, there is no view, or nothing of it can be read.
        FileNotFoundError: The folder is not there.
    """
    if folder.strip():
        if clip is not None:
            raise ValueError(
                f'both a clip and the folder "{folder.strip()}" are given: disconnect the clip or '
                "empty the folder"
            )
        report = FolderReport()
        path = find_folder(folder)
        photos = _watched(read_photos(path, report), len(list_files(path)))
        seen = (photo for photo in photos if photo is not None)
        found = collect_photos(seen, open_detector(sources), rules, _recognizer(sources))
        remark = f"\n{report.words}" if report.words else ""
    elif clip is not None:
        detect, same_person = open_clip_detector(sources), _recognizer(sources)
        with contextlib.closing(read_frames(clip)) as frames:
            total = count_frames(clip)
            found = collect_clip(_watched(frames, total), detect, rules, same_person)
        remark = ""
        if found.frames < _SHORTER_THAN_SAID * total:
            remark = f"\nThe clip promises about {total} frames: the file is damaged or cut off."
    else:
        raise ValueError("nothing to look at: connect a clip, or give a folder of photos")
    return _as_outputs(found, describe_collection(found, rules) + remark, policy)


def _watched(items: Iterable[T], total: int) -> Iterator[T]:
    """Frames or photos with a progress bar and the host's stop button."""
    bar = comfy.utils.ProgressBar(total)
    for number, item in enumerate(items, 1):
        comfy.model_management.throw_exception_if_processing_interrupted()
        yield item
        bar.update_absolute(min(number, total), total)


def _as_outputs(found: Collection, message: str, policy: str) -> CollectedViews:
    """The outputs, with the emptiness that the policy allows."""
    views = found.views
    if found.photo is None:
        if policy != CONTINUE:
            raise ValueError(message)
        black = torch.zeros(1, FACE_CROP_SIZE, FACE_CROP_SIZE, 3)
        sheet = draw_sheet([black[0]], ["no view found"])
        empty = FaceCrops.empty(black, message)
        return empty, black, sheet[None], f"NO IDENTITY: {message}"
    words, frontal = [f"{v.when}\n{v.angles}" for v in views], views[found.frontal]
    sheet = draw_sheet([v.crop for v in views], words, marked=found.frontal)
    face = FaceCrops(
        frontal.crop[None].float() / 255,
        found.photo[None].float() / 255,
        "views of photos" if found.photos else "views of a clip",
        box=frontal.box,
        points=torch.tensor(frontal.points),
    )
    crops = torch.stack([v.crop for v in views]).float() / 255
    return face, crops, sheet[None], message


def _recognizer(sources: FaceSources) -> SamePerson | None:
    """Who tells people apart, or None where nobody can."""
    try:
        return open_pack_recognizer(sources.insightface_folders)
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
    rate = None
    if isinstance(clip, InputImpl.VideoFromComponents):  # in memory already
        parts = clip.get_components()
        clip, rate = parts.images, float(parts.frame_rate)
    if isinstance(clip, Tensor):
        if clip.ndim != 4 or 0 in clip.shape:
            raise ValueError(f"the clip is {tuple(clip.shape)}, expected (frames, H, W, 3)")
        return frames_of_pictures((check_photos(image[None])[0] for image in clip), rate)
    if not hasattr(clip, "get_stream_source"):
        raise ValueError(f"the clip is a {type(clip).__name__}, expected VIDEO or IMAGE")
    return frames_of_video(clip.get_stream_source(), *clip.get_active_trim_window())


def find_folder(text: str) -> Path:
    """The folder that is meant: a whole path, or one below the host's input folder.

    Args:
        text: As typed or pasted; quotes around it are left out.

    Raises:
        FileNotFoundError: It is not there; names the place where it was looked for.
    """
    typed = text.strip().strip("\"'")
    root = Path(folder_paths.get_input_directory())
    path = root / Path(typed).expanduser()  # a whole path stays what it is
    if os.path.isdir(path):  # False for a name that is too long, where pathlib raises
        return path
    what = "is a file, not a folder" if os.path.exists(path) else "is not there"
    raise FileNotFoundError(
        f'The folder of photos "{in_print(typed)}" {what}. Looked at: {in_print(path, 200)}. Give '
        f"a folder below {root}, or a whole path."
    )


def validate_folder(text: str | None) -> bool | str:
    """The sentence of `find_folder`'s error; True when it is there, empty, or from a link."""
    try:
        return not (text and text.strip()) or bool(find_folder(text))
    except FileNotFoundError as error:
        return str(error)


def folder_fingerprint(text: str | None) -> str:
    """Changes with the photos in a folder, so that the host's cache notices."""
    if not text or not text.strip():
        return ""
    try:
        stats = [(p.name, p.stat()) for p in list_files(find_folder(text))]
    except (OSError, ValueError) as error:  # said when the node runs
        return str(error)
    return repr([(name, s.st_size, s.st_mtime_ns) for name, s in stats])
