"""What is found out about a clip: shots, faces, text, views. Each stage looks at pixels once.

A stage is a pure function of (content, `VERSIONS`, the settings in its key); no threshold that a
user may move is among them. Source: paper sections 3.2 (views) and 4.1 (faces, subtitles).
"""

from __future__ import annotations

import base64
import functools
import importlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ...face.faces import Detector
from ...face.sources import FaceSources, open_clip_detector
from ...views.clip import collect_clip
from ...views.collect import ViewRules
from ...views.frames import frames_of_video
from ...views.photos import MOST_PIXELS
from ..config import Curate
from ..manifest import DataError, picture_bytes, upright

# One more whenever a stage would find something else in the same file.
VERSIONS = {"shots": 1, "faces": 1, "text": 1, "views": 1}
# A detector looks at every fourth training frame, half a second apart at 8 frames per second;
# text stays longer and is dearer to read.
FACES_EVERY, TEXT_EVERY = 4, 12
# Pictures for the report, and those that shots are told from, in pixels of the long side.
THUMB_PX, SHOT_PX = 160, 256
# More views than training takes, so that a threshold has some to choose from.
CANDIDATES = 8
# A face below this many pixels says nothing about a pose.
LEAST_FACE_PX = 32.0
# Where the content of two frames differs by this much, a cut lies (PySceneDetect's own default).
CUT_THRESHOLD = 27.0


@dataclass(frozen=True, slots=True)
class Stretch:
    """A training clip to be: as many frames as training takes, out of one shot.

    Attributes:
        start_s: In the file.
        size: Of its bucket, `(width, height)`, or None where no bucket fits.
    """

    start_s: float
    size: tuple[int, int] | None


class MissingPackage(DataError):
    """Something that must be installed or fetched before any clip can be looked at."""


def need(module: str, package: str) -> Any:
    """A module that curation alone needs.

    Raises:
        MissingPackage: It is not installed; says how to get it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackage(
            f"curation needs {package} ({error}): pip install .[training], or pip install {package}"
        ) from error


def find_shots(path: Path) -> dict[str, Any]:
    """The shots of a file.

    Returns:
        `width` and `height` as people see them, `shots`: each with `start_s`, `end_s`, `fps` and a
        picture `thumb`; or `error`, why there is none.
    """
    detectors = need("scenedetect.detectors", "scenedetect")
    timecode = need("scenedetect", "scenedetect").FrameTimecode
    import av
    import av.error

    shots: list[dict[str, Any]] = []
    problem, size, last = "it holds no frame", (0, 0), 0.0
    cuts = detectors.ContentDetector(CUT_THRESHOLD, min_scene_len=0)
    try:
        with av.open(str(path)) as container:
            stream = next(iter(container.streams.video), None)
            if stream is None:
                return {"error": "it has no video stream"}
            if stream.width * stream.height > MOST_PIXELS:
                return {"error": f"frames of {stream.width}x{stream.height} are not read"}
            stream.thread_type = "AUTO"
            for number, frame in enumerate(container.decode(stream)):
                if frame.time is None or frame.time < last:
                    continue
                shape = _fitting(frame.width, frame.height, SHOT_PX)
                small = frame.reformat(*shape, format="bgr24").to_ndarray()
                cut = cuts.process_frame(timecode(number, 25.0), small)
                if not shots or cut:
                    picture = upright(frame)
                    size = size if shots else picture.size
                    if shots:
                        shots[-1]["end_s"] = frame.time
                    thumb = thumbnail(picture)
                    shots.append({"start_s": frame.time, "frames": 0, "thumb": thumb})
                last = frame.time
                shots[-1]["frames"] += 1
                shots[-1]["end_s"] = frame.time + 1 / float(stream.average_rate or 25)
    except av.error.FFmpegError as error:
        problem = str(error)
    if not shots:
        return {"error": problem}
    for shot in shots:
        shot["fps"] = round(shot.pop("frames") / max(shot["end_s"] - shot["start_s"], 1e-3), 3)
    return {"width": size[0], "height": size[1], "shots": shots}


def stretches(found: dict[str, Any], shot: dict[str, Any], rules: Curate) -> list[Stretch]:
    """The training clips that a shot holds, one behind the other."""
    size = choose_bucket(found["width"], found["height"], rules.sizes)
    # The last frame's moment must lie inside the shot.
    length = shot["end_s"] - shot["start_s"]
    if length < rules.min_shot_s - 1e-3:
        return []
    count = int((length + 1 / rules.fps - 1e-3) * rules.fps) // rules.frames
    return [Stretch(shot["start_s"] + i * rules.frames / rules.fps, size) for i in range(count)]


def choose_bucket(
    width: int, height: int, sizes: Sequence[tuple[int, int]]
) -> tuple[int, int] | None:
    """The bucket of the nearest aspect that is not larger than the source; of two, the larger."""
    fitting = [size for size in sizes if size[0] <= width and size[1] <= height]

    def rank(size: tuple[int, int]) -> tuple[float, int]:
        return abs(np.log(size[0] / size[1] * height / width)), -size[0] * size[1]

    return min(fitting, key=rank, default=None)


def look_for_faces(frames: Sequence[Tensor], detect: Detector) -> dict[str, Any]:
    """Every face of every fourth frame, however unsure.

    Args:
        frames: `(H, W, 3)` uint8.
        detect: Of the nodes.

    Returns:
        `looks`: per looked-at frame its faces with `box` and `score`; `frames`: their numbers.
    """
    numbers = _every(len(frames), FACES_EVERY)
    looks = [
        [
            {"box": [round(v, 2) for v in face.box], "score": round(face.score, 4)}
            for face in detect(frames[number].float() / 255)
        ]
        for number in numbers
    ]
    middle = Image.fromarray(frames[len(frames) // 2].numpy())
    return {"frames": numbers, "looks": looks, "thumb": thumbnail(middle)}


def look_for_text(frames: Sequence[Tensor]) -> dict[str, Any]:
    """Words in the picture.

    Returns:
        `looks`: per looked-at frame its lines with `text`, `score`, and `share` of the picture.
    """
    looks = []
    for number in _every(len(frames), TEXT_EVERY):
        found = _reader()(frames[number].numpy()[..., ::-1].copy())
        area = frames[number].shape[0] * frames[number].shape[1]
        lines = [] if found.boxes is None else zip(found.boxes, found.scores, found.txts)  # noqa: B905
        looks.append(
            [
                {"text": text, "score": round(float(score), 4), "share": _area(corners) / area}
                for corners, score, text in lines
            ]
        )
    return {"looks": looks}


def collect_views(
    path: Path, start_s: float, seconds: float, detect: Detector
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Views of the person who is seen longest, from the source's own frames.

    Returns:
        `views` with angles in degrees and sharpness, and their crops as PNG, keyed by number.
    """
    rules = ViewRules(CANDIDATES, "largest", LEAST_FACE_PX, least_sharpness=0.0)
    found = collect_clip(frames_of_video(str(path), start_s, seconds), detect, rules)
    views = [
        {
            "yaw": round(view.pose.yaw, 3),
            "pitch": round(view.pose.pitch, 3),
            "roll": round(view.pose.roll, 3),
            "sharpness": round(view.sharpness, 5),
        }
        for view in found.views
    ]
    return {"views": views}, {str(i): picture_bytes(v.crop) for i, v in enumerate(found.views)}


@functools.cache
def open_faces(name: str, folders: tuple[Path, ...]) -> Detector:
    """The nodes' detector, opened once per process.

    Raises:
        MissingPackage: It is not installed, or has no model files.
    """
    try:
        return open_clip_detector(FaceSources(name, folders))
    except (ImportError, FileNotFoundError) as error:
        raise MissingPackage(str(error)) from error


def thumbnail(picture: Image.Image) -> str:
    """A small JPEG of a picture, as text."""
    small, buffer = picture.copy(), io.BytesIO()
    small.thumbnail((THUMB_PX, THUMB_PX))
    small.save(buffer, "JPEG", quality=70)
    return base64.b64encode(buffer.getvalue()).decode()


@functools.cache
def _reader() -> Any:
    """The reader of text, opened once per process; one thread each, since processes are many."""
    params = {
        "Global.log_level": "error",
        "Global.use_cls": False,
        "Det.limit_side_len": 320,
        "EngineConfig.onnxruntime.intra_op_num_threads": 1,
        "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    }
    return need("rapidocr", "rapidocr").RapidOCR(params=params)


def _every(count: int, step: int) -> list[int]:
    """Every so manyth number below a count, the last one included."""
    return sorted({*range(0, count, step), count - 1})


def _area(corners: Any) -> float:
    """Of a polygon `(n, 2)`."""
    x, y = np.asarray(corners, np.float64).T
    return round(float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2), 2)


def _fitting(width: int, height: int, side: int) -> tuple[int, int]:
    scale = min(1.0, side / max(width, height))
    return max(2, round(width * scale)), max(2, round(height * scale))
