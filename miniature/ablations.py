"""Table 3 of the paper, trained: `python -m miniature ablations`.

The shipped base stays as it is; what the paper's adapter consists of is trained anew on it, with
the same steps and the same samples for every row, once per seed. The photo's latent is left out of
this training: it hides the tokens, which are what the rows differ in. A run goes on where it
stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fantasyid.evaluation.metrics.frechet import frechet_distance
from fantasyid.evaluation.metrics.motion import face_motion
from fantasyid.training.config import Config
from fantasyid.training.config_file import load_config

from .evaluation import CONDITIONS, Given, embed, encode, make_videos, measure
from .reading import Reader, interval, points_of, read
from .studio import FaceNetwork
from .table import Judges
from .world.dataset import CASTS

# Row -> what of the configuration differs: fields of `Model`, fields of `Train`.
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "whole": ({}, {}),
    "Q-Former in place of the abstractor": ({"abstractor": "q_former"}, {}),
    "one face image": ({}, {"single_view": True}),
    "no vertices": ({"vertices": False}, {}),
    "one injector for all blocks": ({"layer_aware": False}, {}),
}
LUMA = torch.tensor([0.299, 0.587, 0.114])


@dataclass(frozen=True, slots=True)
class Scores:
    """One trained row: means over people, and their 95 % intervals where there is one.

    Attributes:
        rs: Cosine of the video's first face to the photo's; `ifs` of a frame's to the next's.
        fm: Percent of the face's size per frame.
        fid: Between the reader's features of these films and of real films of the same people.
        found: Share of videos whose person is found among all.
        tokens_rs: RS without the photo's latent, and `tokens_found`; `tokens_color` is the error of
            skin and hair to the person's over that to other people's.
    """

    rs: tuple[float, float, float]
    ifs: tuple[float, float, float]
    fm: tuple[float, float, float]
    fid: float
    found: float
    tokens_rs: tuple[float, float, float]
    tokens_found: float
    tokens_color: float


def variant(config: Config, name: str, seed: int, steps: int, base: Path) -> Config:
    """The configuration of a row."""
    model, train = VARIANTS[name]
    place = config.work / "ablations" / f"{name.replace(' ', '_')}-{seed}"
    return replace(
        config,
        weights=replace(config.weights, transformer=base, adapter=None),
        model=replace(config.model, base="frozen", **model),
        train=replace(
            config.train, out=place, seed=seed, steps=steps, checkpoint_every=100,
            keep_checkpoints=1,
            face_latent_dropout=1.0, identity_dropout=0.0, **train,
        ),
    )  # fmt: skip


def _spread(values: Tensor) -> tuple[float, float, float]:
    return (float(values.mean()), *interval(values))


@torch.no_grad()
def _features(reader: Reader, films: Tensor) -> np.ndarray:
    """The reader's last hidden layer of five frames of each film."""
    frames = films[:, ::4].flatten(0, 1).permute(0, 3, 1, 2).float() / 127.5 - 1
    return torch.cat([
        reader.out[:2](reader.features(part).flatten(1)) for part in frames.split(100)
    ]).numpy()  # fmt: skip


def steadiness(recognizer: FaceNetwork, films: Tensor, readings: Tensor) -> Tensor:
    """(B,) mean cosine of a frame's face to the next one's."""
    points = points_of(readings).flatten(0, 1)
    faces = embed(recognizer, list(films.flatten(0, 1)), list(points))
    faces = F.normalize(faces.view(*films.shape[:2], -1), dim=-1)
    return (faces[:, 1:] * faces[:, :-1]).sum(-1).mean(1)


def face_motions(films: Tensor, readings: Tensor) -> Tensor:
    """(B,) FM of the project's metrics, in the box around the read points."""
    gray = (films.float() @ LUMA).numpy()
    points = points_of(readings)
    low, high = points.amin(2) - 12.0, points.amax(2) + 12.0  # the points lie inside the face
    rows = []
    for film, corners in zip(gray, torch.cat([low, high], -1).tolist(), strict=True):
        found = [
            face_motion(film[n], film[n + 1], tuple(corners[n]), "cpu")
            for n in range(len(film) - 1)
        ]
        rows.append(sum(m.percent for m in found if m) / max(sum(m is not None for m in found), 1))
    return torch.tensor(rows)


def score(network: Any, given: Given, vae: Any, judges: Judges, cfg: float, scale: float) -> Scores:
    """Make the videos of one row and measure them."""
    whole, alone = (
        make_videos(network, given, vae, condition, cfg, scale)
        for condition in CONDITIONS
        if condition.name in ("whole", "tokens alone")
    )
    found, tokens = (
        measure(v, given, judges.reader, judges.motions, judges.recognizer) for v in (whole, alone)
    )
    readings = read(judges.reader, whole)
    real = torch.stack([person.clips[0] for person in given.people])
    return Scores(
        rs=_spread(found.likeness),
        ifs=_spread(steadiness(judges.recognizer, whole, readings)),
        fm=_spread(face_motions(whole, readings)),
        fid=frechet_distance(_features(judges.reader, whole), _features(judges.reader, real)),
        found=float(found.found.mean()),
        tokens_rs=_spread(tokens.likeness),
        tokens_found=float(tokens.found.mean()),
        tokens_color=float(tokens.color_own.mean() / tokens.color_other.mean()),
    )


HEAD = (
    "| row | seed | RS | IFS | FM | FID | found | tokens alone: RS | found | color own / other |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def words(name: str, seed: int, found: Scores) -> str:
    """A row in Markdown."""
    rs, ifs, fm, tokens = (
        f"{mean:.2f} ({low:.2f} to {high:.2f})"
        for mean, low, high in (found.rs, found.ifs, found.fm, found.tokens_rs)
    )
    return (
        f"| {name} | {seed} | {rs} | {ifs} | {fm} | {found.fid:.1f} | {100 * found.found:.0f} % | "
        f"{tokens} | {100 * found.tokens_found:.0f} % | {found.tokens_color:.2f} |"
    )


def rows(
    options: argparse.Namespace, base: Path, vae: Any, judges: Judges, cfg: float
) -> Iterator[tuple[str, int, Scores]]:
    """Train and measure every row that has not been measured yet."""
    from fantasyid.training.encoders import Encoders
    from fantasyid.training.run import make_trainer

    config = load_config(options.config)
    encoders = Encoders(config.weights, config.cache)
    scale, given = encoders.scale, encode(CASTS[options.cast], encoders)
    encoders.release()
    for seed in range(options.seeds):
        for name in VARIANTS:
            one = variant(config, name, seed, options.steps, base)
            kept = one.train.out / "scores.json"
            if not kept.exists():
                trainer = make_trainer(one, validate=False)
                trainer.run()
                trainer.average.swap()
                found = score(trainer.network, given, vae, judges, cfg, scale)
                kept.write_text(json.dumps(asdict(found)))
            yield name, seed, Scores(**json.loads(kept.read_text()))
