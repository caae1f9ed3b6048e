"""Measure video files: `python -m fantasyid.metrics CLIP... [--reference PHOTO] [--models DIR]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...command_line import a_path
from ...face.align import SKIP, FaceChoice, align_faces
from ...face.faces import RULES
from ...face.recognizer import AUTO, CHOICES
from ...face.sources import DETECTORS, FaceSources, open_clip_detector
from ...views.frames import frames_of_video
from ...views.photos import read_photo
from ..protocol.journal import write_text
from .measure import Tools, embed_reference, measure, recognizer_if_there
from .measurement import as_csv, as_json, describe
from .plot import draw_plot, draw_worst


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = argparse.ArgumentParser(
        prog="python -m fantasyid.metrics",
        description="RS (likeness), IFS (steadiness) and FM (motion of the face) of video files. "
        "FM needs no model file; RS and IFS need a face recogniser below --models.",
    )
    add = options.add_argument
    add("clips", type=a_path, nargs="+", metavar="CLIP", help="video files")
    add("--reference", type=a_path, metavar="PHOTO", help="a photo of the person, for RS")
    add("--models", type=a_path, metavar="DIR", help="ComfyUI's folder models")
    add("--recognizer", "--recogniser", choices=CHOICES, default=AUTO, help="for RS and IFS")
    add("--detector", choices=DETECTORS, default=DETECTORS[0], help="who finds the faces")
    add("--choose", choices=RULES, default="largest", help="which face a shot begins with")
    add("--out", type=a_path, metavar="DIR", help="write JSON, CSV, plot and worst frames there")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each clip; returns 0, or 2 when something named is not there."""
    given = parser().parse_args(arguments)
    missing: list[str] = []
    try:
        _check_out(given.clips, given.out)
        tools = _tools(given, missing)
        for clip in given.clips:
            measured = measure(frames_of_video(str(clip)), tools)
            sys.stdout.write(f"{clip}\n{describe(measured, missing)}\n")
            if given.out is not None:
                write_text(given.out / f"{clip.stem}.json", as_json(measured))
                write_text(given.out / f"{clip.stem}.csv", as_csv(measured))
                _save(draw_plot(measured), given.out / f"{clip.stem}_plot.png")
                _save(draw_worst(measured), given.out / f"{clip.stem}_worst.png")
    except (ValueError, OSError, ImportError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _check_out(clips: Sequence[Path], out: Path | None) -> None:
    """Refuse to write what one clip gives over what another one gave, now or before."""
    stems = [clip.stem for clip in clips]
    twice = next((stem for stem in stems if stems.count(stem) > 1), None)
    if out is not None and twice is not None:
        raise ValueError(f"two clips are called {twice}: give each run one of them, and its --out")
    if out is not None and out.is_file():
        raise ValueError(f"--out: {out} is a file, expected a folder")
    there = [out / f"{stem}.json" for stem in stems] if out is not None else []
    for path in there:
        if path.exists():
            raise FileExistsError(f"{path} is there already: choose another --out")


def _tools(given: argparse.Namespace, missing: list[str]) -> Tools:
    """What measures; why something cannot be measured is appended to `missing`."""
    roots = () if given.models is None else (given.models / "insightface",)
    sources = FaceSources(given.detector, roots)
    folders = None if given.models is None else (*roots, given.models / "fantasyid")
    recognizer, why = recognizer_if_there(given.recognizer, folders)
    if why:
        missing.append(f"No RS and IFS: {why}.")
    references = []
    if recognizer is not None and given.reference is not None:
        photo = torch.from_numpy(np.asarray(read_photo(given.reference).pixels)).float() / 255
        face = align_faces([photo], sources, FaceChoice(given.choose), SKIP)[0].crop
        if face.empty_reason:
            raise ValueError(f"{given.reference}: {face.empty_reason}")
        references.append(embed_reference(face, recognizer))
    elif recognizer is not None:
        missing.append("No RS: name a photo of the person with --reference.")
    return Tools(open_clip_detector(sources), given.choose, recognizer, references)


def _save(picture: Tensor, path: Path) -> None:
    Image.fromarray((picture * 255).round().to(torch.uint8).numpy()).save(path)


if __name__ == "__main__":
    sys.exit(main())
