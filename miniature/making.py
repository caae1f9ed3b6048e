"""The commands of `python -m miniature` that make and measure the mini model."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from .reading import MotionReader, Reader, all_labels, explained, read, train_reader
from .studio import FaceNetwork, portraits, train_deca, train_recognizer, write_onnx
from .world.dataset import CASTS, FRAMES, TRAIN, TUNE, draw_cast, write_curated

if TYPE_CHECKING:
    from .table import Judges

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "models" / "miniature"
STUDIO_PEOPLE, STUDIO_HELD = 4500, 250
DECA_STEPS, RECOGNIZER_STEPS, READER_STEPS = 3000, 1500, 1200
TEXT_STEPS = 800
VAE_MINUTES = (12.0, 7.0, 29.0)
CFG = 2.5
READERS = "readers.pt"


def host() -> None:
    """Put the host named by COMFYUI_PATH on the path, on its processor mode.

    Raises:
        SystemExit: There is none.
    """
    place = os.environ.get("COMFYUI_PATH")
    if not place or not Path(place, "comfy").is_dir():
        raise SystemExit("set COMFYUI_PATH to a ComfyUI folder: the VAE is of the host's class")
    sys.path.insert(0, place)
    arguments, sys.argv = sys.argv, sys.argv[:1]  # the host reads the command line at import
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    sys.argv = arguments


def world(options: argparse.Namespace) -> int:
    """Films, photos and manifest of the training."""
    write_curated(TRAIN, options.work / "curated")
    return 0


def readers(options: argparse.Namespace) -> int:
    """Everything that reads pictures or words: DECA-shaped encoder, recognizer, reader, T5."""
    host()
    from .language import train_text_encoder

    shown = portraits(0, STUDIO_PEOPLE - STUDIO_HELD)
    held = portraits(STUDIO_PEOPLE - STUDIO_HELD, STUDIO_HELD)
    options.work.mkdir(parents=True, exist_ok=True)
    parts = {
        "deca": train_deca(shown, held, DECA_STEPS),
        "recognizer": train_recognizer(shown, held, RECOGNIZER_STEPS),
        "reader": train_reader(all_labels(draw_cast(TRAIN, 0, 400)), READER_STEPS),
        "text": train_text_encoder(_tokenizer(), TEXT_STEPS),
    }
    write_onnx(parts["recognizer"], options.work / "recognizer.onnx")
    print("read from unseen people:", explained(parts["reader"], all_labels(draw_cast(TUNE))))
    torch.save({n: m.state_dict() for n, m in parts.items()}, options.work / READERS)
    return 0


def vae(options: argparse.Namespace) -> int:
    """The VAE, on the films of the training and its photos."""
    host()
    from torch.nn.functional import interpolate

    from .autoencoder import Training

    films, photos = [], []
    for person in draw_cast(TRAIN):
        films.append(person.clips)
        small = interpolate(person.pictures.permute(0, 3, 1, 2).float(), 96, mode="area")
        photos.append(small.round().byte().permute(0, 2, 3, 1))
    held = torch.cat([person.clips for person in draw_cast(TUNE, 0, 8)])
    options.work.mkdir(parents=True, exist_ok=True)
    Training(torch.cat(films), torch.cat(photos), held, options.work / "vae.pt", VAE_MINUTES).run()
    return 0


def _scaled_vae(work: Path) -> dict[str, Tensor]:
    from . import autoencoder, parts

    state = torch.load(work / "vae.pt", weights_only=True)["model"]
    model = autoencoder.build()
    model.load_state_dict(state)
    spread = work / "spread.pt"  # measured once: later the decoder alone is trained
    if not spread.exists():
        clips = torch.cat([person.clips for person in draw_cast(TRAIN, 0, 40)])
        with torch.no_grad(), autoencoder.cheap_to_train():
            latents = [model.encode(autoencoder.as_input(part)) for part in clips.split(4)]
        torch.save(torch.cat(latents).std((0, 2, 3, 4)), spread)
    return parts.scaled_vae(state, torch.load(spread, weights_only=True))


def prepare(options: argparse.Namespace) -> int:
    """The files that recipes/miniature.toml names."""
    host()
    from . import parts

    trained = torch.load(options.work / READERS, weights_only=True)
    models = options.work / "models"
    parts.write_for_training(models, _scaled_vae(options.work), trained["deca"], trained["text"])
    if not (models / "tokenizer").exists():
        shutil.copytree(_tokenizer_folder(), models / "tokenizer")
    return 0


def _tokenizer_folder() -> Path:
    """T5's, which the host ships."""
    return Path(os.environ["COMFYUI_PATH"], "comfy", "text_encoders", "t5_tokenizer")


def _tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(_tokenizer_folder())


def shares(options: argparse.Namespace) -> int:
    """What the latents of the training are made of; refuses where motion is too little."""
    host()
    from . import autoencoder

    model = autoencoder.build()
    model.load_state_dict(_scaled_vae(options.work))
    people = list(draw_cast(TRAIN, 0, 40))
    with torch.no_grad(), autoencoder.cheap_to_train():
        latents = torch.stack(
            [
                torch.cat([model.encode(autoencoder.as_input(c[None])) for c in p.clips])
                for p in people
            ]
        )  # fmt: skip  (P, films, C, F, H, W)
    whole = (latents - latents.mean((0, 1))).square().mean()
    kinds = [film.background for person in people for film in person.films]
    flat = latents.flatten(0, 1)
    grounds = torch.stack([
        flat[[n for n, k in enumerate(kinds) if k == kind]].mean((0, 2)) for kind in kinds
    ])  # fmt: skip
    found = {
        "background": (grounds - flat.mean((0, 2))).square().mean() / whole,
        "identity": latents.mean((1, 3)).var(0).mean() / whole,
        "motion": (latents - latents.mean(3, keepdim=True)).square().mean() / whole,
    }
    for name, share in found.items():
        print(f"{name:10} {100 * float(share):5.1f} % of the variance of the latents")
    return 0 if float(found["motion"]) >= 0.10 else 1


def ship(options: argparse.Namespace) -> int:
    """The shipped files, from an export beside the run."""
    host()
    from .shipping import ship as put

    adapter = options.work / "adapter.safetensors"
    put(options.work / "models", adapter, _scaled_vae(options.work),
        options.work / "recognizer.onnx", SHIPPED)  # fmt: skip
    total = sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file())
    print(f"{SHIPPED}: {total / 1e6:.1f} MB")
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """The table of docs/miniature.md."""
    host()
    from fantasyid.training.config_file import load_config
    from fantasyid.training.encoders import Encoders

    from .evaluation import encode
    from .table import HEAD, table

    config = load_config(options.config)
    judges, strips = _judges(options.work), []
    encoders = Encoders(config.weights, config.cache)
    given = encode(CASTS[options.cast], encoders)
    told = ", ".join(
        f"{name} {share:.2f}"
        for name, share in explained(judges.reader, all_labels(given.people)).items()
    )
    print(f"{len(given.people)} people; the reader explains of their real films: {told}\n\n{HEAD}")
    cfg = CFG if options.cfg is None else options.cfg
    lines = table(shipped_network(config), given, _shipped_vae(), judges, cfg, encoders.scale)
    for words, videos in lines:
        print(words, flush=True)
        strips.append(videos)
    if options.sheet:
        save_sheet(options.sheet, given, strips)
    return 0


def ablations(options: argparse.Namespace) -> int:
    """Table 3, trained on the shipped base."""
    host()
    from .ablations import HEAD, rows, words

    print(HEAD, flush=True)
    base, judges = SHIPPED / "fantasyid.safetensors", _judges(options.work)
    for name, seed, scores in rows(options, base, _shipped_vae(), judges, CFG):
        print(words(name, seed, scores), flush=True)
    return 0


def _shipped_vae() -> Any:
    from . import autoencoder

    model = autoencoder.build()
    shipped = load_file(SHIPPED / "vae.safetensors")
    model.load_state_dict({name: tensor.float() for name, tensor in shipped.items()})
    return model.eval()


def _judges(work: Path) -> Judges:
    """The networks that read videos back, and what tells motions, fitted on real films."""
    from .table import Judges

    trained = torch.load(work / READERS, weights_only=True)
    reader, recognizer = Reader(), FaceNetwork()
    for model, name in ((reader, "reader"), (recognizer, "recognizer")):
        model.load_state_dict(trained[name])
        model.eval()
    known = list(draw_cast(TRAIN, 0, 150))
    readings = torch.cat([read(reader, person.clips) for person in known])
    kinds = [film.motion for person in known for film in person.films]
    return Judges(reader, MotionReader.fit(readings, kinds), recognizer)


def shipped_network(config: Any) -> Any:
    """The network of training around the shipped files."""
    import dataclasses

    from fantasyid.training.network import build_network

    file = SHIPPED / "fantasyid.safetensors"
    weights = dataclasses.replace(config.weights, transformer=file, adapter=file)
    return build_network(dataclasses.replace(config, weights=weights)).float().eval()


def save_sheet(path: Path, given: Any, strips: list[Tensor], people: int = 10) -> None:
    """Reference photo, then first, middle and last frame of each kind of video, a person a row."""
    rows = []
    for n in range(people):
        photo = Image.fromarray(given.people[n].pictures[0].numpy()).resize((96, 96))
        tiles = [torch.from_numpy(np.array(photo))]
        tiles += [videos[n, f] for videos in strips for f in (0, FRAMES // 2, FRAMES - 1)]
        rows.append(torch.cat(tiles, 1))
    Image.fromarray(torch.cat(rows).numpy()).save(path)
