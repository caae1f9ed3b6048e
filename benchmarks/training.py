"""Training steps against the same transformer's bare forward and backward, and waiting for data.

    python benchmarks/training.py [--heads 8] [--blocks 4] [--frames 33] [--side 256] [--batch 1]

The base is trained whole, on a cache of drawn numbers. Both works take turns in one process on one
thread; a step is all that the loop does: a batch from the cache, the adapter, the loss, gradients,
clipping, AdamW and the moving average.
"""

from __future__ import annotations

import statistics
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from host import ROOT, arguments
from meters import interleaved, milliseconds, ratio, table
from safetensors.torch import save_file

CLIPS, VIEWS, DRAWS = 16, 6, 2


def main() -> None:
    """Print what was measured."""
    options = arguments(
        __doc__, heads=8, blocks=4, frames=33, side=256, batch=1, references=1, text=226,
        context=0, rounds=5,
    )  # fmt: skip
    import sys

    sys.path.insert(0, str(ROOT))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        print(measure(options, Path(folder)))


def measure(options: Any, folder: Path) -> str:
    """The table of one size."""
    from fantasyid.training.objective import loss_of

    run = make_run(options, folder)
    batches, network = run.batches, run.network
    number = 0

    def bare() -> None:
        batch = batches[0]
        image = torch.zeros_like(batch.clean)
        network.velocity(
            batch.clean, batch.timesteps, batch.text, image, None
        ).square().mean().backward()  # fmt: skip
        network.zero_grad(set_to_none=True)

    def step() -> None:
        nonlocal number
        run.step([batches[number % len(batches)]])
        number += 1

    def loss_alone() -> None:
        loss_of(network, batches[0], run.config).backward()
        network.zero_grad(set_to_none=True)

    works = {
        "bare transformer": bare,
        "with adapter and loss": loss_alone,
        "whole step": step,
        "a batch from the cache": lambda: batches[number % len(batches)],
    }
    times = interleaved(works, options.rounds, torch.device("cpu"))
    rows = [["per step", "time", "rate / bare"]]
    for name in works:
        rows.append([name, milliseconds(times[name]), ratio(times, "bare transformer", name)])
    whole, batch = (statistics.median(times[name]) for name in list(works)[2:])
    trained = sum(p.numel() for p in network.parameters()) / 1e6
    base = sum(p.numel() for p in network.transformer.parameters()) / 1e6
    return (
        f"{table(rows, False)}\n{trained:.1f} million parameters, {base:.1f} of them the base's; "
        f"{options.batch / whole:.1f} samples a second; data are {batch / whole:.1%} of a step "
        "where no worker prepares them (train.workers = 0)"
    )


def make_run(options: Any, folder: Path) -> Any:
    """A trainer on drawn numbers."""
    from fantasyid.training.batches import Batches
    from fantasyid.training.config import Cache, Config, Curate, Model, Train, Weights
    from fantasyid.training.loop import Trainer
    from fantasyid.training.network import build_network
    from miniature.checkpoints import transforms_file
    from miniature.head import build_head

    dim, side = 64 * options.heads, options.side
    context = options.context or max(1, dim // 192) * 128
    (folder / "transform.pkl").write_bytes(transforms_file(build_head()))
    base = {
        "num_attention_heads": options.heads, "attention_head_dim": 64, "in_channels": 32,
        "num_layers": options.blocks, "time_embed_dim": 64, "text_embed_dim": 64,
        "out_channels": 16, "max_text_seq_length": options.text,
    }  # fmt: skip
    adapter = {
        "tower_dim": 64, "context_dim": context, "abstractor_dim": 32, "squeeze_first": 8,
        "squeeze": 8, "abstractor_ff": 256, "fusion_dim": 32, "fusion_layers": 2,
        "face_widths": [64], "reducer_widths": [32, 64, 96],
    }  # fmt: skip
    train = Train(
        folder / "run", steps=1000, batch_size=options.batch,
        samples_per_reference=options.batch // options.references, precision="no",
        gradient_checkpointing=False, workers=0,
    )  # fmt: skip
    config = Config(
        folder, Curate(folder, frames=options.frames, sizes=((side, side),)),
        Weights(*[folder] * 6, mesh_transforms=folder / "transform.pkl"), train,
        Cache(face_latent_draws=DRAWS, dtype="float32"),
        Model("full", base_sizes=base, adapter_sizes=adapter),
    )  # fmt: skip
    rows, parts = make_cache(options, folder)
    return Trainer(
        config, Accelerator(cpu=True), build_network(config), Batches(config, rows, parts, 0.7)
    )


def make_cache(options: Any, folder: Path) -> tuple[list, dict]:
    """Rows of a manifest and the parts of a cache that fits them."""
    from fantasyid.training.cache import caption_key
    from fantasyid.training.manifest import ClipRow
    from fantasyid.training.part import Part

    side, latent, frames = options.side, options.side // 8, (options.frames - 1) // 4 + 1
    angles = tuple(10.0 * view for view in range(VIEWS))
    boxes = ((8.0, 8.0, side - 8.0, side - 8.0),) * options.frames
    rows = [
        ClipRow(
            f"{i}", f"{i}.mp4", 0.0, side, side, "words", f"{i}", "", angles, angles, angles, boxes
        )
        for i in range(CLIPS)
    ]
    shapes = {
        "video": (32, frames, latent, latent), "features": (VIEWS, 577, 64),
        "vertices": (VIEWS, 5023, 3), "face": (VIEWS, DRAWS, 32, latent, latent),
        "text": (options.text, 64),
    }  # fmt: skip
    parts = {}
    for name, shape in shapes.items():
        keys = [caption_key(w) for w in ("", "words")] if name == "text" else map(str, range(CLIPS))
        (folder / name).mkdir()
        content = {key: 0.1 * torch.randn(shape) for key in keys}
        save_file(content, folder / name / "shard-00000.safetensors")
        parts[name] = Part(folder / name).load()
    return rows, parts


if __name__ == "__main__":
    main()
