"""RS, IFS, FM and FID of a video file, and its contact sheet."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from torch import Tensor

from ...face.align import SKIP, FaceChoice, align_faces
from ...face.recognizer import Embedding, Recognizer
from ...face.sources import FaceSources, open_clip_detector
from ...identity import FaceCrops
from ...views.frames import ClipFrame, Frames, frames_of_video
from ...views.photos import FolderReport, list_files, read_photo, read_photos
from ...weights.fingerprint import sha256_of_file
from ..metrics import inception
from ..metrics.frechet import frechet_distance
from ..metrics.measure import Tools, embed_reference, likeness, measure, recognizer_if_there
from ..metrics.measurement import YAW_BINS, Measurement, as_json
from .hashes import remembered_sha256, sha256_of_code, sha256_of_value
from .journal import Journal

COLUMNS = ("rs", "ifs", "fm", "fid")
BY_YAW = tuple(f"rs_{name}" for name in YAW_BINS)
_SHEET_FRAMES, _THUMB_PX, _GAP = 8, 160, 4
_GROUND, _BOX = (24, 24, 26), (60, 220, 90)


@dataclass(frozen=True)
class MeterSettings:
    """What to measure with."""

    models: Path | None  # the host's folder `models`, where recogniser and Inception lie, or None
    recognizer: str  # one of `recognizer.CHOICES`
    detector: str  # one of `sources.DETECTORS`
    choose: str  # which face of a reference and of a shot, one of `faces.RULES`
    real: Path | None  # folder of photos of real faces for FID, or None
    device: str  # where flow and Inception run


@dataclass(frozen=True)
class MeasuredVideo:
    """The numbers of one video."""

    # Of each of `COLUMNS` and `BY_YAW`, None where nobody measured it; `faces` found in `frames`;
    # `detectors`; and `note`, why RS is not there.
    values: dict[str, Any]
    json: str  # all numbers of all frames
    sheet: bytes  # JPEG of frames in a row, the face marked
    features: Tensor | None  # (N, C) of the face crops, for the pooled FID


class Meter:
    """Measures videos; its networks are loaded when the first one comes.

    Attributes:
        id: Changes with everything that decides about the values.
        used: What it measures with: words and hashes.
        missing: Why some column stays empty, a sentence each.
    """

    def __init__(self, settings: MeterSettings, journal: Journal) -> None:
        self._settings = settings
        self.missing: list[str] = []
        self._people: dict[Path, tuple[list[Embedding], str]] = {}
        self._recognizer, self._inception = self._find_recognizer(), self._find_inception()
        self.used: dict[str, Any] = {
            "detector": settings.detector,
            "choose": settings.choose,
            "recogniser": _hash(self._recognizer and self._recognizer.path, journal),
            "inception": _hash(self._inception, journal),
            "real": {} if self._inception is None else _hashes(settings.real),
            "device": settings.device,
            "code": sha256_of_code("evaluation/metrics", "face", "views"),
        }
        self.id = sha256_of_value(self.used)[:16]

    def measure(self, video: Path, reference: Path) -> MeasuredVideo:
        """Measure a video file against a photo of the person.

        Raises:
            ValueError: The video cannot be decoded.
        """
        person, note = self._reference(reference)
        thumbs: list[_Thumb] = []
        frames = _with_thumbs(frames_of_video(str(video)), thumbs)
        measured = measure(frames, replace(self._tools, references=person))
        values: dict[str, Any] = {name: measured.mean(name) for name in ("rs", "ifs", "fm")}
        values |= {
            **{f"rs_{name}": mean for name, mean in measured.rs_by_yaw().items()},
            "fid": measured.fid,
            "faces": measured.count("box"),
            "frames": len(measured.frames),
            "detectors": list(measured.detectors),
            "note": note,
        }
        sheet = _sheet(measured, thumbs)
        return MeasuredVideo(values, as_json(measured), sheet, measured.features)

    def pooled_fid(self, files: Iterable[Path]) -> float | None:
        """FID of the face crops of many videos together.

        Args:
            files: Features of each, as the runner keeps them; those that are absent do not count.
        """
        pooled = [load_file(path)["features"] for path in files if path.is_file()]
        if not pooled or len(self._tools.real_features) < 2:
            return None
        real = torch.stack([*self._tools.real_features]).double().numpy()
        together = torch.cat(pooled).double().numpy()
        return frechet_distance(together, real) if len(together) > 1 else None

    @property
    def words(self) -> str:
        """The recogniser and its licence; "" without one."""
        return "" if self._recognizer is None else self._recognizer.words

    @cached_property
    def _tools(self) -> Tools:
        settings = self._settings
        features, real = None, []
        if self._inception is not None and settings.real is not None:
            features = inception.open_features(self._inception, settings.device)
            for photo in read_photos(settings.real, FolderReport()):
                crop = None if photo is None else self.align(_tensor(photo.pixels))
                if crop is not None and not crop.empty_reason:
                    real.append(features(crop.images[0]))
        detect = open_clip_detector(self._sources)
        return Tools(
            detect,
            settings.choose,
            self._recognizer,
            [],
            features,
            real,
            torch.device(settings.device),
        )

    @property
    def _sources(self) -> FaceSources:
        models = self._settings.models
        folders = () if models is None else (models / "insightface",)
        return FaceSources(self._settings.detector, folders)

    def align(self, photo: Tensor) -> FaceCrops:
        """The chosen face of a picture `(H, W, 3)`; empty with the reason where there is none."""
        choice = FaceChoice(self._settings.choose)
        return align_faces([photo], self._sources, choice, SKIP)[0].crop

    def person(self, photo: Path) -> list[Embedding]:
        """The embedding of a photo of the person; [] where there is none."""
        return self._reference(photo)[0]

    def likeness(self, face: FaceCrops, person: Sequence[Embedding]) -> float | None:
        """Cosine of an aligned face to a person's; None where nothing can be compared."""
        if self._recognizer is None or not person:
            return None
        return likeness(embed_reference(face, self._recognizer), person)

    def _reference(self, path: Path) -> tuple[list[Embedding], str]:
        """The embedding of a photo of the person, or none and why."""
        recognizer = self._recognizer
        if recognizer is None:
            return [], ""
        if path not in self._people:
            face = self.align(_tensor(read_photo(path).pixels))
            if face.empty_reason:
                self._people[path] = [], f"no RS: {face.empty_reason}"
            else:
                self._people[path] = [embed_reference(face, recognizer)], ""
        return self._people[path]

    def _find_recognizer(self) -> Recognizer | None:
        models = self._settings.models
        folders = None if models is None else (models / "insightface", models / "fantasyid")
        recognizer, why = recognizer_if_there(self._settings.recognizer, folders)
        if why:
            self.missing.append(f"No RS and IFS: {why}.")
        return recognizer

    def _find_inception(self) -> Path | None:
        models, real = self._settings.models, self._settings.real
        if real is None:
            self.missing.append("No FID: name a folder of photos of real faces with --real.")
            return None
        folders = () if models is None else (models / "fantasyid",)
        path, why = inception.find_inception(folders)
        self.missing += [why] if why else []
        return path


def _hash(path: Path | None, journal: Journal) -> str | None:
    return None if path is None else remembered_sha256(path, journal)


def _hashes(folder: Path | None) -> dict[str, str]:
    """Name and hash of every file of a folder."""
    return {} if folder is None else {p.name: sha256_of_file(p) for p in list_files(folder)}


def _tensor(pixels: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).float() / 255


@dataclass(frozen=True, slots=True)
class _Thumb:
    """A frame made small, and how many of its pixels one pixel of the frame is."""

    image: Image.Image
    scale: float


def _with_thumbs(frames: Frames, thumbs: list[_Thumb]) -> Iterator[ClipFrame]:
    """The same frames; a small picture of each is kept on the way."""
    for frame in frames:
        height, width = frame.gray.shape
        pixels = (frame.small_color() * 255).round().clamp(0, 255).to(torch.uint8).numpy()
        size = (_THUMB_PX, max(1, round(_THUMB_PX * height / width)))
        small = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
        thumbs.append(_Thumb(small, frame.scale * _THUMB_PX / width))
        yield frame


def _sheet(measured: Measurement, thumbs: list[_Thumb]) -> bytes:
    """Frames of the whole video in a row, as a JPEG."""
    count = min(len(thumbs), _SHEET_FRAMES)
    numbers = sorted({round(i * (len(thumbs) - 1) / max(count - 1, 1)) for i in range(count)})
    height = thumbs[0].image.height
    size = (len(numbers) * (_THUMB_PX + _GAP) + _GAP, height + 2 * _GAP)
    canvas = Image.new("RGB", size, _GROUND)
    for place, number in enumerate(numbers):
        picture, box = thumbs[number].image.copy(), measured.frames[number].box
        pen = ImageDraw.Draw(picture)
        if box is not None:
            pen.rectangle([v * thumbs[number].scale for v in box], outline=_BOX, width=2)
        pen.text((3, 1), str(number), fill=(255, 255, 255), stroke_width=1, stroke_fill=_GROUND)
        canvas.paste(picture, (_GAP + place * (_THUMB_PX + _GAP), _GAP))
    file = io.BytesIO()
    canvas.save(file, "JPEG", quality=80, subsampling=0)  # thin colored lines
    return file.getvalue()
