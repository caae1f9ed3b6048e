"""The default of the quickstart: the bundled mini model, two drawn people and two prompts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fantasyid.evaluation.answers import Graph, Result
from fantasyid.evaluation.protocol.workflow import set_input, set_prompt
from fantasyid.face.crop import FACE_TEMPLATE_PX
from fantasyid.face.recognizer import open_recognizer

from .console import Problem, say
from .results import draw_rows, free_stem, read_video, saved_file

ROOT = Path(__file__).resolve().parent.parent
WORKFLOW = "workflows/api/try_it_now.json"
WEIGHTS = ROOT / "models" / "miniature"
PEOPLE = ("Ada", "Chidi")
PROMPTS = ("a person turns left, blue background", "a person nods, red background")
EXPECT = "mini model, drawn people; for real photos see --models"
OWN_PHOTO = (
    "The mini model has only ever seen drawn people: of a photo it keeps colors and rough shape, "
    "no likeness. For that see --models."
)
# Where a drawn face looks from in the first frame of a film, whose heads fill the picture.
FACE_PX = ((38.5, 41.0), (57.5, 41.0), (48.0, 53.3), (39.8, 62.7), (56.2, 62.7))
FRAMES_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Take:
    """One video of the quickstart: who, and what happens."""

    person: str
    prompt: str


def takes(prompt: str | None, photo: bool) -> list[Take]:
    """All people with all prompts; a photo of the user's stands in for the people."""
    people = ("your photo",) if photo else PEOPLE
    return [Take(who, words) for words in ([prompt] if prompt else PROMPTS) for who in people]


def graph_of(take: Take, photo: str | None, seed: int | None) -> Graph:
    """The bundled graph for one video.

    Args:
        photo: File in the server's input folder whose face takes the drawn person's place.
        seed: Of the noise; None keeps the graph's.
    """
    graph: Graph = json.loads((ROOT / WORKFLOW).read_text(encoding="utf-8"))
    if photo is None:
        set_input(graph, "FantasyIDMiniLoader", "person", take.person)
    else:
        graph["photo"] = {"class_type": "LoadImage", "inputs": {"image": photo}}
        graph["align"] = {
            "class_type": "FantasyIDAlignFace",
            "inputs": {
                "image": ["photo", 0], "detector": "auto", "choose": "largest", "index": 0,
                "no_face": "stop",
            },
        }  # fmt: skip
        for node in graph.values():
            if "face" in node["inputs"]:
                node["inputs"]["face"] = ["align", 0]
    if seed is not None:
        set_input(graph, "FantasyIDSampler", "seed", seed)
    set_prompt(graph, take.prompt)
    return graph


def collect(
    made: list[tuple[Take, Result]], base: Path, folder: Path, photo: Path | None
) -> dict[str, Any]:
    """Copy the videos, measure them and picture them on one sheet.

    Args:
        photo: The user's, or None for drawn people.

    Returns:
        videos, frames, size, contact_sheet, and likeness: person -> own and others' cosine.

    Raises:
        Problem: A run saved no video.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = free_stem(folder, "mini")
    rows, videos, films = [], [], []
    for number, (take, result) in enumerate(made):
        source = saved_file(result, base, (".mp4",))
        if source is None:
            raise Problem("The workflow ended without saving a video.", code=1)
        target = folder / f"{stem}_{number + 1}.mp4"
        target.write_bytes(source.read_bytes())
        videos.append(str(target))
        frames, _ = read_video(target)
        films.append(frames)
        last = len(frames) - 1
        shown = [frames[round(i * last / (FRAMES_SHOWN - 1))] for i in range(FRAMES_SHOWN)]
        rows.append((f"{take.person}: {take.prompt}", [photo_of(take.person, photo), *shown]))
    sheet = folder / f"{stem}_contact_sheet.png"
    draw_rows(rows, EXPECT).save(sheet)
    return {
        "videos": videos, "frames": len(films[0]), "size": list(films[0][0].size),
        "contact_sheet": str(sheet), "likeness": None if photo else likeness(made, films),
    }  # fmt: skip


def photo_of(person: str, photo: Path | None) -> Image.Image:
    """The reference of a video."""
    return Image.open(photo or WEIGHTS / "people" / f"{person}.png").convert("RGB")


def likeness(
    made: list[tuple[Take, Result]], films: list[list[Image.Image]]
) -> dict[str, dict[str, float]]:
    """Cosine of each person's videos to their own photo and to the others', by the recognizer."""
    recognizer = open_recognizer(WEIGHTS / "recognizer.onnx")
    people = sorted({take.person for take, _ in made})

    def embedded(picture: Image.Image, points: Any) -> np.ndarray:
        pixels = torch.from_numpy(np.array(picture)).float() / 255
        return np.asarray(recognizer.embed(pixels, points))

    photos = {
        name: embedded(photo_of(name, None).resize((512, 512)), FACE_TEMPLATE_PX) for name in people
    }
    found: dict[str, dict[str, list[float]]] = {name: {"own": [], "other": []} for name in people}
    for (take, _), frames in zip(made, films, strict=True):
        film = embedded(frames[0], FACE_PX)
        for name in people:
            kind = "own" if name == take.person else "other"
            found[take.person][kind].append(float(film @ photos[name]))
    return {
        name: {
            kind: round(sum(values) / len(values), 2) for kind, values in kinds.items() if values
        }
        for name, kinds in found.items()
    }


def show(found: dict[str, Any]) -> None:
    """Print where the results are and how alike they are."""
    width, height = found["size"]
    for video in found["videos"]:
        say(f"  {video}  ({found['frames']} frames of {width} x {height})")
    say(f"  {found['contact_sheet']}  (photo and frames, a video a row)")
    for name, values in (found["likeness"] or {}).items():
        others = values.get("other", -1.0)
        verdict = "" if values["own"] > others else ": not recognized"
        other = f", to the other person's {others:.2f}" if "other" in values else ""
        say(f"  Likeness of {name}: to the own photo {values['own']:.2f}{other}{verdict}")
