"""What each way to save time, and each dial, does to likeness and motion of the bundled mini model.

    COMFYUI_PATH=DIR python benchmarks/presets.py --work work/miniature --out results [--people 50]
        [--prompts 4] [--dials]

Needs what `python -m miniature readers` left in WORK, since it reads the frames. Every person
makes a video of each of its sentences with every setting. It goes on where it stopped: the videos
of a setting are kept in OUT. What it finds holds for this model; `docs/performance.md` has the
table.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from host import arguments, start_host
from safetensors.torch import load_file, save_file
from torch import Tensor

SEED, BLOCKS = 4, 4
CFG = 2.5


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to sample."""

    name: str
    steps: int = 50
    rule: str = "dpm"
    cfg: float = CFG
    cfg_end: float = 1.0  # share of the schedule behind which the prompt counts with 1
    threshold: float = 0.0  # of the host's EasyCache; 0 is without
    identity_scale: float = 0.0  # of the guider
    layers: str = ""  # a preset of the layer weights, or layers
    dials: Mapping[str, Any] = field(default_factory=dict)  # of `Steering`
    seed: int = 1000


SETTINGS = (
    Setting("exact"),
    Setting("exact, another seed", seed=2000),
    Setting("EasyCache 0.9", threshold=0.9),
    Setting("25 steps, EasyCache 0.9", 25, threshold=0.9),
    Setting("16 steps, cfg to 0.5", 16, cfg_end=0.5),
    Setting("12 steps", 12),
    Setting("25 steps", 25),
)
DIALS = (
    Setting("released", 20),
    *(Setting(f"strength {v}", 20, dials={"strength": v}) for v in (0.0, 0.5, 1.5, 2.0)),
    *(Setting(f"identity guidance {v}", 20, identity_scale=v) for v in (1.0, 2.0)),
    *(Setting(f"looks {v}", 20, dials={"looks": v}) for v in (0.0, 1.5)),
    *(Setting(f"shape {v}", 20, dials={"shape": v}) for v in (0.0, 1.5)),
    *(Setting(f"without block {n}", 20, layers=f"0-{BLOCKS - 1}, {n}:0") for n in range(BLOCKS)),
    *(Setting(f"layers: {name}", 20, layers=name) for name in ("balanced", "motion")),
    *(Setting(f"cfg {v}", 20, cfg=v) for v in (1.0, 4.0)),
    *(Setting(f"start {v}", 20, dials={"start_percent": v}) for v in (0.2, 0.5)),
    *(Setting(f"end {v}", 20, dials={"end_percent": v}) for v in (0.5, 0.8)),
)


class Studio:
    """The mini model and its people; makes one video at a time, as the nodes do."""

    def __init__(self) -> None:
        from fantasyid.comfyui.miniature import load_miniature

        self.mini = load_miniature()
        self.calls = 0
        block = self.mini.model.model.diffusion_model.blocks[0]
        block.register_forward_hook(self._count)
        self.identities: dict[int, tuple[Any, Any]] = {}

    def _count(self, _block: Any, _inputs: Any, output: Any) -> None:
        self.calls += len(output[0])  # both branches of CFG come as one batch

    def _identity(self, person: Any) -> tuple[Any, Any]:
        from fantasyid.comfyui.stages import compute_face_tokens, compute_vertices, fuse
        from fantasyid.face.crop import cut_crop
        from fantasyid.identity import FaceCrops

        if person.number not in self.identities:
            photo = cut_crop(person.pictures[0].float() / 255, person.points[0].tolist())[None]
            face, mini = FaceCrops(photo, photo, "drawn"), self.mini
            tokens = compute_face_tokens(mini.face_encoder, mini.adapter, face)
            head = compute_vertices(mini.head_model, face, "as released")
            self.identities[person.number] = face, fuse(mini.adapter, tokens, head)
        return self.identities[person.number]

    def sampling(self, person: Any, prompt: str, setting: Setting) -> tuple[Any, Tensor, Any]:
        """GUIDER, SIGMAS and LATENT of a video, as the nodes make them."""
        from comfy_extras.nodes_easycache import EasyCacheNode

        from fantasyid.comfyui.apply import apply_identity
        from fantasyid.comfyui.guidance import IdentityGuidance, PromptGuidance, make_guider
        from fantasyid.comfyui.latents import face_latent
        from fantasyid.comfyui.sampler import trailing_sigmas
        from fantasyid.injection.steering import CUSTOM, PRESETS, LayerWeights, Steering

        face, identity = self._identity(person)
        preset = setting.layers in PRESETS
        layers = LayerWeights(setting.layers) if preset else LayerWeights(CUSTOM, setting.layers)
        steering = Steering(layer_weights=layers if setting.layers else None, **setting.dials)
        model = apply_identity(self.mini.model, self.mini.adapter, identity, steering)
        if setting.threshold:
            model = EasyCacheNode.execute(model, setting.threshold, 0.15, 0.95, False).args[0]
        clip = self.mini.clip
        told, untold = (
            clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in (prompt, "")
        )
        positive, negative, latent = face_latent(told, untold, self.mini.vae, face, 96, 96, 17)
        guidance = PromptGuidance(end_percent=setting.cfg_end)
        more = IdentityGuidance(setting.identity_scale)
        guider = make_guider(model, positive, negative, setting.cfg, guidance, more)
        return guider, trailing_sigmas(model, setting.steps, 1.0), latent

    def frames(self, samples: Tensor) -> Tensor:
        """Frames (17, 96, 96, 3) uint8 of latents (1, 16, 5, 12, 12)."""
        frames = self.mini.vae.decode(samples)
        return (frames.reshape(-1, *frames.shape[-3:]).clamp(0, 1) * 255).round().byte()

    def video(self, person: Any, prompt: str, setting: Setting) -> Tensor:
        """Frames (17, 96, 96, 3) uint8."""
        from fantasyid.comfyui.sampler import ReleasedSampler, run

        guider, sigmas, latent = self.sampling(person, prompt, setting)
        seed = setting.seed + person.number
        made = run(guider, seed, ReleasedSampler(setting.rule), sigmas, latent)
        return self.frames(made["samples"])


def make(studio: Studio, people: Sequence[Any], setting: Setting, out: Path) -> dict[str, Tensor]:
    """All videos of a setting, (people, prompts, 17, 96, 96, 3), with calls and seconds."""
    path = (
        out
        / f"{setting.name.replace(' ', '_').translate({ord(c): None for c in ',:'})}.safetensors"
    )
    if not path.is_file():
        videos, calls, seconds = [], [], []
        for person in people:
            for film in person.films:
                studio.calls, began = 0, time.process_time()
                videos.append(studio.video(person, film.prompt, setting))
                seconds.append(time.process_time() - began)
                calls.append(studio.calls)
        shape = (len(people), len(people[0].films))
        save_file(
            {
                "videos": torch.stack(videos).unflatten(0, shape),
                "calls": torch.tensor(calls).view(shape),
                "seconds": torch.tensor(seconds).view(shape),
            },
            path,
        )
    return load_file(path)


def measured(made: dict[str, Tensor], people: Sequence[Any], judges: Any) -> dict[str, Tensor]:
    """Per person, the mean over the prompts: RS, IFS, FM, motion as prompted."""
    from miniature.ablations import face_motions, steadiness
    from miniature.evaluation import Given, measure
    from miniature.reading import read

    rows: dict[str, list[Tensor]] = {}
    for number in range(made["videos"].shape[1]):
        cast = [
            dataclasses.replace(p, films=[p.films[number]], clips=p.clips[[number]]) for p in people
        ]
        nothing = torch.zeros(0)
        given = Given(cast, nothing, nothing, nothing, nothing, nothing, 1)
        videos = made["videos"][:, number]
        found = measure(videos, given, judges.reader, judges.motions, judges.recognizer)
        reading = read(judges.reader, videos)
        values = {
            "RS": found.likeness, "motion": found.motion, "FM": face_motions(videos, reading),
            "IFS": steadiness(judges.recognizer, videos, reading),
        }  # fmt: skip
        for name, value in values.items():
            rows.setdefault(name, []).append(value)
    return {name: torch.stack(values).mean(0) for name, values in rows.items()}


def compared(
    made: dict[str, Tensor], exact: dict[str, Tensor], people: Sequence[Any], judges: Any
) -> dict[str, Any]:
    """A row of the table: ratios of calls and seconds, and means with their intervals."""
    from miniature.reading import interval

    result: dict[str, Any] = {
        name: float(made[name].double().mean() / exact[name].double().mean())
        for name in ("calls", "seconds")
    }
    far = (made["videos"].float() - exact["videos"].float()).abs().mean((1, 2, 3, 4, 5)) / 255
    for name, values in (*measured(made, people, judges).items(), ("from first", far)):
        result[name] = (float(values.mean()), *interval(values))
    return result


def main() -> None:
    """Make, measure, print a table."""
    options = arguments(
        __doc__, work=Path("work/miniature"), out=Path("presets"), people=50, prompts=4, dials=False
    )
    settings = DIALS if options.dials else SETTINGS
    start_host(options.comfyui)
    from miniature.making import _judges
    from miniature.world.dataset import Cast, draw_cast

    options.out.mkdir(parents=True, exist_ok=True)
    people = list(draw_cast(Cast("presets", SEED, options.people, films=options.prompts)))
    judges = _judges(options.work)
    print("| setting | calls / first | seconds / first | RS | IFS | FM | motion | from first |")
    print("|---|---|---|---|---|---|---|---|")
    kept = options.out / "results.json"
    known = json.loads(kept.read_text()) if kept.is_file() else {}
    with torch.inference_mode():
        studio = Studio()
        exact = make(studio, people, settings[0], options.out)
        for setting in settings:
            if setting.name not in known:
                made = make(studio, people, setting, options.out)
                known[setting.name] = compared(made, exact, people, judges)
                kept.write_text(json.dumps(known, indent=1))
            result = known[setting.name]
            cells = [f"{result['calls']:.3f}", f"{result['seconds']:.3f}"]
            for name in ("RS", "IFS", "FM", "motion", "from first"):
                mean, low, high = result[name]
                cells.append(f"{mean:.3f} ({low:.3f} to {high:.3f})")
            print(f"| {setting.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
