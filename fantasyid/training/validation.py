"""Videos of fixed people and prompts while a training runs, and what our metrics say of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..cogvideox.schedule import (
    DpmHistory,
    alphas_cumprod,
    dpm_step,
    previous_timesteps,
    trailing_timesteps,
)
from ..evaluation.metrics.measure import Tools, measure
from ..face.align import SKIP, FaceChoice, align_faces
from ..face.crop import FACE_TEMPLATE_PX
from ..face.recognizer import open_recognizer
from ..face.sources import FaceSources, open_clip_detector
from ..views.frames import frames_of_pictures
from .config import Config
from .encoders import Encoders
from .manifest import DataError, write_video
from .network import TrainedNetwork
from .order import generator
from .progress import METRICS

PAGE = "validation.html"
MEASURED = ("rs", "ifs", "fm")


@dataclass(frozen=True, slots=True)
class Person:
    """A reference, encoded once.

    Attributes:
        name: Of the photo.
        crop: `(512, 512, 3)` uint8.
        features: `(1, 577, C)`; `vertices` `(1, V, 3)`; `face_latent` `(1, C, H, W)`.
    """

    name: str
    crop: Tensor
    features: Tensor
    vertices: Tensor
    face_latent: Tensor


def encode_people(
    photos: Sequence[Path], config: Config, encoders: Encoders, crop: Callable[[Tensor], Tensor]
) -> list[Person]:
    """Everything that sampling needs of the references.

    Args:
        photos: One person each.
        crop: Photo `(H, W, 3)` uint8 to the aligned crop `(512, 512, 3)` uint8.
    """
    width, height = config.curate.sizes[0]
    people = []
    for path in photos:
        try:
            photo = torch.from_numpy(np.array(Image.open(path).convert("RGB")))
        except OSError as error:
            raise DataError(f"validate.references: {path} cannot be read: {error}") from error
        face = crop(photo)
        mean = encoders.moments(encoders.face_pixels(face, width, height)).chunk(2)[0]
        people.append(
            Person(
                path.stem,
                face,
                encoders.features(face[None]),
                encoders.vertices(face[None]),
                encoders.scale * mean[None, :, 0],
            )
        )
    return people


@torch.no_grad()
def sample(
    network: TrainedNetwork,
    pairs: Sequence[tuple[Tensor, ...]] | None,
    text: Tensor,
    null: Tensor,
    image: Tensor,
    steps: int,
    cfg: float,
    seed: int,
    paddings: int = 1,
) -> Tensor:
    """Latents of videos by the released rule (docs/released-model.md, section 7).

    Args:
        pairs: Of a person each, in both branches as released; None is the bare base.
        text: `(B, L, C)`; `null` that of the empty prompt.
        image: `(B, F, C, H, W)` image-to-video channels.
        seed: Of one noise for all of them.
        paddings: See `TrainedNetwork.velocity`.

    Returns:
        `(B, F, C, H, W)`, scaled as the transformer has them.
    """
    alphas, noise = alphas_cumprod(), generator("validation", seed)
    device = image.device

    def drawn() -> Tensor:
        return torch.randn(1, *image.shape[1:], generator=noise).expand(image.shape).to(device)

    state = drawn()
    history: DpmHistory | None = None
    for now, then in zip(trailing_timesteps(steps), previous_timesteps(steps), strict=True):
        alpha = float(alphas[now])
        after = 1.0 if then < 0 else float(alphas[then])
        when = torch.full((len(image),), now, device=device)

        def velocity(words: Tensor, state: Tensor = state, when: Tensor = when) -> Tensor:
            return network.velocity(state, when, words, image, pairs, paddings=paddings).float()

        guided = velocity(text)
        if cfg != 1.0:
            free = velocity(null)
            guided = free + cfg * (guided - free)
        denoised = math.sqrt(alpha) * state - math.sqrt(1.0 - alpha) * guided
        state = dpm_step(state, denoised, drawn(), alpha, after, history)
        history = DpmHistory(denoised, alpha)
    return state


class Validation:
    """Samples every person with every prompt, measures, and keeps a page of all of it.

    Args:
        measure: `(frames (F, H, W, 3) uint8, person's crop) -> {"rs": ..., "ifs": ..., "fm": ...}`;
            a value that could not be measured is None.
    """

    def __init__(
        self,
        config: Config,
        encoders: Encoders,
        people: Sequence[Person],
        measure: Callable[[Tensor, Tensor], dict[str, float | None]],
    ) -> None:
        self.config, self.encoders, self.people, self.measure = config, encoders, people, measure
        self.text = {prompt: encoders.text(prompt)[None] for prompt in config.validate.prompts}
        self.null = encoders.text("")[None]

    @torch.no_grad()
    def __call__(self, network: TrainedNetwork, step: int) -> dict[str, float | None]:
        """Make the videos of a step; returns the means."""
        network.eval()
        settings, curate = self.config.validate, self.config.curate
        folder = self.config.train.out / "validation" / f"step-{step:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        device = next(network.parameters()).device
        frames = (curate.frames - 1) // 4 + 1
        rows = []
        for person in self.people:
            first = person.face_latent.to(device)
            image = torch.zeros(1, frames, *first.shape[1:], device=device)
            image[:, 0] = first
            pairs = network.identity(person.features.to(device), person.vertices.to(device))
            for number, prompt in enumerate(settings.prompts):
                latents = sample(
                    network, pairs, self.text[prompt].to(device), self.null.to(device), image,
                    settings.steps, settings.cfg, settings.seed,
                )  # fmt: skip
                video = self.encoders.decode(latents)
                name = f"{person.name}_{number}.mp4"
                write_video(folder / name, video, curate.fps)
                values = self.measure(video, person.crop)
                rows.append({"video": name, "person": person.name, "prompt": prompt, **values})
        means = {name: _mean([row[name] for row in rows]) for name in MEASURED}
        (folder / "values.json").write_text(json.dumps({"mean": means, "videos": rows}, indent=1))
        with (self.config.train.out / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "validation": means}) + "\n")
        write_page(self.config.train.out)
        return means


def _mean(values: list) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


TEMPLATE = """<!doctype html><meta charset="utf-8"><title>{{ name }}</title>
<style>
body { font: 15px/1.5 system-ui; margin: 2em auto; max-width: 70em; padding: 0 1em }
video { width: 15em } figure { display: inline-block; margin: .3em; max-width: 15em }
figcaption { font-size: .85em } svg { border: 1px solid #ccc; background: #fafafa }
</style>
<h1>{{ name }}</h1>
{% if points %}<h2>Loss</h2>
<svg viewBox="0 0 700 220" width="700" height="220">
<polyline fill="none" stroke="#246" stroke-width="1.5" points="{{ points }}"/>
<text x="5" y="15">{{ "%.4g"|format(high) }}</text>
<text x="5" y="215">{{ "%.4g"|format(low) }}</text>
<text x="600" y="215">step {{ last }}</text>
</svg>{% endif %}
{% for step in steps %}<h2>Step {{ step.number }}</h2>
<p>{% for name, value in step.mean.items() %}{{ name|upper }}
{{ "%.3f"|format(value) if value is not none else "not measured" }}{{ ", " if not loop.last }}
{% endfor %}</p>
{% for row in step.videos %}<figure>
<video src="{{ step.folder }}/{{ row.video }}" controls loop muted></video>
<figcaption>{{ row.person }}: {{ row.prompt }}</figcaption>
</figure>{% endfor %}{% endfor %}
"""


def write_page(out: Path) -> None:
    """A page of the run, which opens from the disk without a server."""
    import jinja2

    rows = [json.loads(line) for line in (out / METRICS).read_text("utf-8").splitlines()]
    losses = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    steps = []
    for folder in sorted((out / "validation").glob("step-*"), reverse=True):
        content = json.loads((folder / "values.json").read_text("utf-8"))
        number = int(folder.name.removeprefix("step-"))
        steps.append({"number": number, "folder": f"validation/{folder.name}", **content})
    context = {"name": out.name, "steps": steps, "points": ""}
    if len(losses) > 1:
        low, high = min(v for _, v in losses), max(v for _, v in losses)
        first, last = losses[0][0], losses[-1][0]
        context |= {"low": low, "high": high, "last": last, "points": " ".join(
            f"{60 + 630 * (s - first) / max(1, last - first):.1f},"
            f"{205 - 190 * (v - low) / max(high - low, 1e-12):.1f}" for s, v in losses
        )}  # fmt: skip
    page = jinja2.Environment(autoescape=True).from_string(TEMPLATE).render(context)
    (out / PAGE).write_text(page, "utf-8")


def make_validation(config: Config, encoders: Encoders) -> Validation:
    """The validation of a configuration, its people and prompts encoded.

    Raises:
        DataError: A reference cannot be read or shows no face.
    """
    path = config.validate.recognizer
    recognizer = None if path is None else open_recognizer(path)
    sources = FaceSources(config.validate.detector)
    detect = open_clip_detector(sources)

    def crop(photo: Tensor) -> Tensor:
        (found,) = align_faces([photo.float() / 255.0], sources, FaceChoice("largest"), SKIP)
        if found.crop.empty_reason:
            raise DataError(f"validate.references: {found.crop.empty_reason}")
        return (found.crop.images[0] * 255.0).round().to(torch.uint8)

    def values(video: Tensor, reference: Tensor) -> dict[str, float | None]:
        known = (
            ()
            if recognizer is None
            else (recognizer.embed(reference.float() / 255.0, FACE_TEMPLATE_PX),)
        )
        tools = Tools(detect, recognizer=recognizer, references=known)
        measured = measure(frames_of_pictures(video.float() / 255.0), tools)
        return {name: measured.mean(name) for name in MEASURED}

    people = encode_people(config.validate.references, config, encoders, crop)
    return Validation(config, encoders, people, values)
