"""The measuring stage: VIDEO or IMAGE in; numbers, pictures, sentences and files out."""

from __future__ import annotations

import contextlib
import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
from torch import Tensor

from ..evaluation.metrics import inception
from ..evaluation.metrics.measure import Tools, embed_reference, measure, recognizer_if_there
from ..evaluation.metrics.measurement import Measurement, as_csv, as_json, describe
from ..evaluation.metrics.plot import draw_plot, draw_worst
from ..face.align import CONTINUE, STOP, FaceChoice, align_faces
from ..face.recognizer import Embedding, Recognizer, find_recognizer
from ..face.sources import FaceSources, open_clip_detector
from ..identity import FaceCrops
from .collect import count_frames, read_frames
from .files import FOLDER, INSIGHTFACE, save_new, searched_folders
from .images import check_photos


@dataclass(frozen=True, slots=True)
class MeasureRequest:
    """What to measure a clip with."""

    recognizer: str  # one of `recognizer.CHOICES`
    sources: FaceSources  # which detector; points, landmarks and boxes are not used
    choose: str  # which face a shot begins with, one of `faces.RULES`
    reference: Any  # FANTASYID_FACE, IMAGE or None
    reference_set: Tensor | None  # IMAGE of real faces for FID, or None
    prefix: str  # of the files in the output folder; "" writes none


@dataclass(frozen=True, slots=True)
class Measured:
    """The outputs of the measuring stage."""

    rs: float  # mean cosine to the reference; NaN where nobody measured it, as for the next three
    ifs: float  # mean cosine to the frame before
    fm: float  # mean motion of the face, percent of its size per frame
    fid: float  # of the face crops against the reference set
    plot: Tensor  # `(1, H, W, 3)` curves
    worst: Tensor  # `(1, H, W, 3)` contact sheet
    message: str  # words for the node
    json: str  # all numbers


def measure_frames(clip: Any, request: MeasureRequest) -> tuple[Measurement, list[str]]:
    """Measure a VIDEO or IMAGE, a frame at a time.

    Returns:
        All values, and a sentence for each one that cannot be measured.

    Raises:
        ValueError: The clip cannot be read, or a reference photo has no face.
        ImportError, FileNotFoundError: The detector that was asked for is not there.
    """
    missing: list[str] = []
    tools = _tools(request, missing)
    frames, total = read_frames(clip), count_frames(clip)
    bar = comfy.utils.ProgressBar(total)

    def tick(number: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(min(number + 1, total), total)

    with contextlib.closing(frames):
        measured = measure(frames, tools, tick)
    if tools.features is not None and measured.fid is None:
        missing.append(
            f"No FID: {measured.fid_counts[0]} faces in the clip and {measured.fid_counts[1]} in "
            "the reference set; it needs at least 2 of each."
        )
    return measured, missing


def measure_clip(clip: Any, request: MeasureRequest) -> Measured:
    """As `measure_frames`, as the metrics node puts it out."""
    measured, missing = measure_frames(clip, request)
    if request.prefix.strip():
        missing.append(_write(measured, request.prefix.strip()))
    rs, ifs, fm = (_or_nan(measured.mean(name)) for name in ("rs", "ifs", "fm"))
    return Measured(
        rs,
        ifs,
        fm,
        _or_nan(measured.fid),
        draw_plot(measured)[None],
        draw_worst(measured)[None],
        describe(measured, missing),
        as_json(measured),
    )


def fingerprint(recognizer: str) -> str:
    """Changes when a recogniser or FID's network comes or goes, so that the cache notices."""
    there = [str(importlib.util.find_spec("onnxruntime") is not None)]
    with contextlib.suppress(FileNotFoundError, ValueError):
        there.append(_stat(find_recognizer(recognizer, recognizer_folders())))
    network, _ = inception.find_inception(_own_folders())
    return repr((there, None if network is None else _stat(network)))


def recognizer_folders() -> tuple[Path, ...]:
    """Where face recognisers may lie: `models/insightface` and `models/fantasyid`."""
    return (*searched_folders(INSIGHTFACE), *_own_folders())


def _tools(request: MeasureRequest, missing: list[str]) -> Tools:
    """What measures; why something cannot be measured is appended to `missing`."""
    device = comfy.model_management.get_torch_device()
    detect = open_clip_detector(request.sources)
    recognizer, why = recognizer_if_there(request.recognizer, recognizer_folders())
    if why:
        missing.append(f"No RS and IFS: {why}.")
    references = [] if recognizer is None else _references(request, recognizer, missing)
    features, real = None, []
    if request.reference_set is not None:
        path, why = inception.find_inception(_own_folders())
        if path is None:
            missing.append(why)
        else:
            features = inception.open_features(path, device)
            real = [features(face.images[0]) for face in _faces(request, request.reference_set)]
    return Tools(detect, request.choose, recognizer, references, features, real, device)


def _references(
    request: MeasureRequest, recognizer: Recognizer, missing: list[str]
) -> list[Embedding]:
    reference = request.reference
    if reference is None:
        missing.append("No RS: connect a reference.")
        return []
    if isinstance(reference, FaceCrops):
        if reference.empty_reason:
            missing.append(f"No RS: the reference has no face: {reference.empty_reason}.")
            return []
        return [embed_reference(reference, recognizer)]
    return [embed_reference(face, recognizer) for face in _faces(request, reference, STOP)]


def _faces(request: MeasureRequest, image: Tensor, policy: str = CONTINUE) -> list[FaceCrops]:
    """The faces of a batch of photos; photos without one are left out unless that is refused."""
    photos = list(check_photos(image))
    bar = comfy.utils.ProgressBar(len(photos))

    def tick() -> None:
        bar.update(1)
        comfy.model_management.throw_exception_if_processing_interrupted()

    found = align_faces(photos, request.sources, FaceChoice(request.choose), policy, tick)
    return [a.crop for a in found if not a.crop.empty_reason]


def _own_folders() -> list[Path]:
    return [Path(path) for path in folder_paths.get_folder_paths(FOLDER)]


def _write(measured: Measurement, prefix: str) -> str:
    """Write CSV and JSON into the output folder, and say where."""
    contents = {".json": as_json(measured), ".csv": as_csv(measured)}
    path = save_new(prefix, {ending: text.encode() for ending, text in contents.items()})
    return f"Written: {path} and {path.with_suffix('.csv').name}."


def _stat(path: Path) -> str:
    stat = path.stat()
    return repr((str(path), stat.st_size, stat.st_mtime_ns))


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
