"""OpenS2V-Eval's human domain: its items as jobs, and scores in the files that it reads.

One video per item, `<id>.mp4`, and a JSON file per score, keyed by id. A score whose model is not
at hand is absent, never zero; `faces_found.json` stands beside them, since that benchmark skips
frames without a face where a reader may expect a zero.

Source: the benchmark's published item list and scoring scripts (arXiv 2505.20292).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from ...views.frames import frames_of_video
from ...views.photos import read_photo
from ...weights.fingerprint import sha256_of_file
from ..metrics.flow import dense_flow
from .journal import Journal, write_text
from .measuring import Meter
from .plan import Job, JobSettings, Reference, make_plan
from .workflow import Graph

FRAMES, PAD = 32, 0.25
GRAY = 128 / 255  # of the padding
# Its grey pictures weigh red as blue and blue as red.
LUMA = (0.114, 0.587, 0.299)
ABSENT = (
    "OpenS2V-Eval: facesim.cur_score (CurricularFace), motionscore.motion_lk (drawn with random "
    "colors), gmescore, aesthetic_score and naturalscore are absent: their models are not here. "
    "facesim.arc_score is of this project's detector and recognizer, not of insightface's."
)


@dataclass(frozen=True, slots=True)
class Item:
    """One of the benchmark's items."""

    id: str
    photo: Path
    prompt: str


def read_items(path: Path, folder: Path) -> list[Item]:
    """The items of `Human-Domain_Eval.json`.

    Args:
        path: That file.
        folder: In which its `img_paths` lie.

    Raises:
        FileNotFoundError: It is not there, or photos of it are not; they are named.
        ValueError: It is another file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--prompts: there is no file of items {path}")
    try:
        content = json.loads(path.read_text("utf-8"))
        items = [
            Item(name, folder / entry["img_paths"][0], " ".join(entry["prompt"].split()))
            for name, entry in content.items()
        ]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(
            f"--prompts: {path} is no list of OpenS2V-Eval items: expected "
            '{"id": {"img_paths": [...], "prompt": "..."}}, as in Human-Domain_Eval.json'
        ) from error
    bad = [item.id for item in items if Path(item.id).name != item.id or not item.id.strip(".")]
    if bad or not items:
        raise ValueError(f"--prompts: {path} holds no usable item ids: {bad[:3] or 'none at all'}")
    absent = [str(item.photo) for item in items if not item.photo.is_file()]
    if absent:
        raise FileNotFoundError(
            f"--references: {len(absent)} of {len(items)} photos are not in {folder}: "
            + ", ".join(absent[:5])
        )
    return items


def plan_items(graph: Graph, items: Sequence[Item], settings: JobSettings) -> list[Job]:
    """One job per item; the first seed and variant alone."""
    one = replace(settings, seeds=settings.seeds[:1], variants=settings.variants[:1])
    numbers = {prompt: n for n, prompt in enumerate(dict.fromkeys(i.prompt for i in items), 1)}
    jobs = []
    for item in items:
        read_photo(item.photo)
        person = Reference(item.photo.name, item.photo, sha256_of_file(item.photo))
        (job,) = make_plan(graph, [person], [item.prompt], one)
        jobs.append(replace(job, prompt_number=numbers[item.prompt]))
    return jobs


def write_scores(
    items: Sequence[Item], videos: Sequence[Path], meter: Meter, journal: Journal, out: Path
) -> Path:
    """Put videos and scores where the benchmark looks for them; what is scored already is kept.

    Args:
        videos: Of each item; a file that is not there has no scores.
        out: Folder of the results.

    Returns:
        The folder `opens2v` in it.
    """
    folder = out / "opens2v"
    (folder / "scores").mkdir(parents=True, exist_ok=True)
    similar, moving, found = {}, {}, {}
    for item, video in zip(items, videos, strict=True):
        if not video.is_file():
            continue
        target = folder / f"{item.id}.mp4"
        if not target.is_file() or target.stat().st_size != video.stat().st_size:
            shutil.copyfile(video, target)
        key = f"{video.stem} {meter.id}"
        values = journal.last("opens2v", key)
        if values is None:
            values = {"faces": face_similarity(video, item.photo, meter), "flow": motion_fb(video)}
            journal.add("opens2v", key, **values)
        score, faces, frames = values["faces"]
        found[item.id] = {"faces_found": faces, "frames": frames}
        moving[item.id] = {"motion_fb": values["flow"]}
        if score is not None:
            similar[item.id] = {"arc_score": score}
    scores = {"facesim": similar, "motionscore": moving, "faces_found": found}
    for name, content in scores.items():
        if content:
            write_text(folder / "scores" / f"{name}.json", json.dumps(content, indent=2))
    return folder


def face_similarity(video: Path, photo: Path, meter: Meter) -> tuple[float | None, int, int]:
    """Mean cosine, not below 0, of the largest face of 32 evenly spaced frames to the photo's.

    Returns:
        The score, None without a recognizer or where nothing can be compared; in how many frames
        a face was found; how many were looked at.
    """
    person = meter.person(photo)
    count = sum(1 for _ in frames_of_video(str(video)))
    places = np.linspace(0, count - 1, FRAMES).astype(int).tolist()
    known: dict[int, float | None] = {}
    faces = 0
    for frame in frames_of_video(str(video)):
        if frame.number not in places:
            continue
        picture = frame.color()
        face = meter.align(picture)
        if face.empty_reason:
            face = meter.align(_padded(picture))
        if not face.empty_reason:
            faces += places.count(frame.number)
            known[frame.number] = meter.likeness(face, person)
    cosines = [max(0.0, v) for n in places if (v := known.get(n)) is not None]
    return (float(np.mean(cosines)) if cosines else None), faces, len(places)


def _padded(picture: Tensor) -> Tensor:
    """A picture `(H, W, 3)` with a quarter of gray on each side."""
    height, width = (int(side * PAD) for side in picture.shape[:2])
    return pad(picture, (0, 0, width, width, height, height), value=GRAY)


def motion_fb(video: Path) -> float:
    """The benchmark's motion by Farneback's flow: the length of the mean of all its components.

    A head that goes left and comes back counts as still there; FM of the protocol does not do so.
    """
    flows = [float(dense_flow(before[None], now[None]).mean()) for before, now in _pairs(video)]
    return abs(float(np.mean(flows))) if flows else 0.0


def _pairs(video: Path) -> Iterator[tuple[Tensor, Tensor]]:
    before = None
    for frame in frames_of_video(str(video)):
        now = (frame.color() * 255 @ torch.tensor(LUMA)).round()
        if before is not None:
            yield before, now
        before = now
