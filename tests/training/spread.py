"""Trains what a file says: alone, or as one of several processes."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedType, FullyShardedDataParallelPlugin
from torch.distributed.tensor import DTensor

from fantasyid.training.batches import Batches
from fantasyid.training.cache import PARTS
from fantasyid.training.loop import Trainer
from fantasyid.training.network import build_network
from fantasyid.training.part import Part


def main(
    file: str, kind: str, begun: Any = None, rank: int = 0, team: Mapping[str, str] | None = None
) -> None:
    """Train on one thread, in this process alone or in one of several.

    Args:
        file: A pickled configuration, rows of its manifest, and the folder of its cache.
        kind: "ddp" (also of one process) or "fsdp".
        begun: An event to set before the first step.
        rank: Number of this process among them.
        team: How they find each other, as torchrun sets it in the environment; None for alone.
    """
    if team is not None:
        os.environ.update(team, RANK=str(rank), LOCAL_RANK=str(rank))
    torch.set_num_threads(1)
    config, rows, folder = pickle.loads(Path(file).read_bytes())  # noqa: S301 (our own test's)
    parts = {name: Part(Path(folder) / name).load() for name in PARTS}
    accelerator = Accelerator(cpu=True)
    if kind == "fsdp":
        # accelerate turns its FSDP on where there are cards; all below it runs on a CPU as well.
        accelerator.state.distributed_type = DistributedType.FSDP
        accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2,
            auto_wrap_policy="transformer_based_wrap",
            transformer_cls_names_to_wrap=["CogVideoXBlock", "LayerInjector", "KeysValues"],
            cpu_ram_efficient_loading=False,
        )
    batches = Batches(
        config, rows, parts, 0.7, accelerator.process_index, accelerator.num_processes
    )
    run = Trainer(config, accelerator, build_network(config), batches)
    shared = {type(p) for p in run.network.parameters()} == {DTensor}
    assert shared == (kind == "fsdp")
    if begun is not None:
        begun.set()
    run.run()
