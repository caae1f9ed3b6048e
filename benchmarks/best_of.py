"""What choosing among seeds wins on the bundled mini model, and what it costs.

    COMFYUI_PATH=DIR python benchmarks/best_of.py --work work/miniature --out results [--people 20]

Every person gets the same sentence's video from TAKES seeds, whole; on the way the expected video
is decoded at every probe. From those, without sampling again: had the takes been judged at probe p,
which one would have been finished, and how alike is it? It goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from host import arguments, start_host
from presets import SEED, Setting, Studio
from safetensors.torch import load_file, save_file
from torch import Tensor

STEPS, TAKES = 20, 8
PROBES = (2, 4, 6, 8, 10)
COUNTS = (2, 4, 8)
SHARES = (1.0, 0.5, 0.0)  # of likeness in the choice


def takes_of(studio: Studio, person: Any) -> Tensor:
    """(TAKES, PROBES + 1, 17, 96, 96, 3) uint8: what is expected at each probe, and the end."""
    from fantasyid.comfyui.sampler import ReleasedSampler, run

    setting = Setting("", STEPS)
    guider, sigmas, latent = studio.sampling(person, person.films[0].prompt, setting)
    takes = []
    for take in range(TAKES):
        seen, state = [], None
        for probe in (*PROBES, STEPS):
            sampler = ReleasedSampler(setting.rule, probe, state)
            made = run(guider, 1000 * take + person.number, sampler, sigmas, latent)
            state = sampler.reached
            assert state is not None
            expected = guider.model_patcher.model.process_latent_out(state.history.denoised)
            seen.append(studio.frames(made["samples"] if probe == STEPS else expected))
        takes.append(torch.stack(seen))
    return torch.stack(takes)


def read_takes(films: Tensor, people: Sequence[Any], judges: Any) -> tuple[Tensor, Tensor, Tensor]:
    """RS, FM and motion as prompted, (people, TAKES, PROBES + 1) each, of all videos."""
    from miniature.ablations import face_motions
    from miniature.evaluation import Given, measure
    from miniature.reading import read

    nothing = torch.zeros(0)
    cast = [dataclasses.replace(p, films=p.films[:1], clips=p.clips[:1]) for p in people]
    given = Given(cast, nothing, nothing, nothing, nothing, nothing, 1)
    columns: list[list[Tensor]] = [[], [], []]
    for take in range(TAKES):
        for probe in range(len(PROBES) + 1):
            videos = films[:, take, probe]
            found = measure(videos, given, judges.reader, judges.motions, judges.recognizer)
            still = face_motions(videos, read(judges.reader, videos))
            for column, values in zip(columns, (found.likeness, still, found.motion), strict=True):
                column.append(values)
    shape = (TAKES, len(PROBES) + 1, len(people))
    likeness, face, motion = (torch.stack(c).view(shape).permute(2, 0, 1) for c in columns)
    return likeness, face, motion


def main() -> None:
    """Make the takes, choose among them in hindsight, print a table."""
    options = arguments(__doc__, work=Path("work/miniature"), out=Path("best_of"), people=20)
    start_host(options.comfyui)
    from fantasyid.evaluation.best_of import Take, best
    from miniature.making import _judges
    from miniature.reading import interval
    from miniature.world.dataset import Cast, draw_cast

    options.out.mkdir(parents=True, exist_ok=True)
    people = list(draw_cast(Cast("presets", SEED, options.people, films=1)))
    studio, films = Studio(), []
    with torch.inference_mode():
        for person in people:
            path = options.out / f"{person.number}.safetensors"
            if not path.is_file():
                save_file({"takes": takes_of(studio, person)}, path)
            films.append(load_file(path)["takes"])
        rs, fm, motion = read_takes(torch.stack(films), people, _judges(options.work))
    print("| takes | chosen at step | likeness | steps / one | RS won | FM won | motion won |")
    print("|---|---|---|---|---|---|---|")
    for count in COUNTS:
        for number, probe in enumerate((*PROBES, STEPS)):
            for share in SHARES:
                chosen = []
                for person in range(len(people)):
                    seen = zip(rs[person, :count, number], fm[person, :count, number], strict=True)
                    takes = [Take(n, float(a), float(b)) for n, (a, b) in enumerate(seen)]
                    chosen.append(best(takes, share))
                cost = (count * probe + STEPS - probe) / STEPS
                cells = []
                for values in (rs, fm, motion):
                    last = values[..., -1].float()
                    won = last[torch.arange(len(people)), chosen] - last.mean(1)
                    low, high = interval(won)
                    cells.append(f"{float(won.mean()):+.3f} ({low:+.3f} to {high:+.3f})")
                row = (str(count), f"{probe} of {STEPS}", f"{share:g}", f"{cost:.2f}", *cells)
                print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
