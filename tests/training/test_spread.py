"""Two processes give the losses of one with the same batch."""

from __future__ import annotations

import json
import os
import pickle
import shutil

import pytest
from safetensors.torch import load_file
from training.spread import main

from demo.checks import choose_port
from fantasyid.training.checkpoint import WEIGHTS, checkpoints
from fantasyid.training.progress import METRICS

from .conftest import but, cache_of, rows_of

STEPS = int(os.environ.get("FANTASYID_TEST_STEPS", "24"))  # even


def losses(out) -> list[float]:
    rows = [json.loads(line) for line in (out / METRICS).read_text("utf-8").splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


@pytest.fixture(scope="module")
def run_spread(tmp_path_factory, forked):
    """`run_spread(config, rows, folder, kind, processes)` trains in processes of their own."""

    def run(config, rows, folder, kind, processes):
        file = tmp_path_factory.mktemp("spread") / "run.pickle"
        file.write_bytes(pickle.dumps((config, rows, str(folder))))
        team = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1"}
        team["MASTER_PORT"] = str(choose_port(None))
        running = [
            forked.Process(target=main, args=(str(file), kind, None, rank, team))
            for rank in range(processes)
        ]
        for process in running:
            process.start()
        for process in running:
            process.join(600)
        assert [process.exitcode for process in running] == [0] * processes
        return losses(config.train.out)

    return run


@pytest.fixture(scope="module")
def alone(config_of, tmp_path_factory, run_spread):
    """The cache, the configuration and the losses of one process."""
    folder = tmp_path_factory.mktemp("alone")
    cache_of(rows_of(8), folder / "cache")
    config = but(
        config_of(folder), train__steps=STEPS, train__checkpoint_every=STEPS // 2,
        train__out=folder / "run",
    )  # fmt: skip
    return config, folder / "cache", run_spread(config, rows_of(8), folder / "cache", "ddp", 1)


def differ(one: list[float], other: list[float]) -> float:
    assert len(one) == len(other) == STEPS
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_give_the_loss_curve_of_one(alone, tmp_path, run_spread, kind):
    """And where two stop, one goes on."""
    config, folder, expected = alone
    assert sum(expected[-8:]) < sum(expected[:8])
    shared = but(config, train__out=tmp_path / "two")
    assert differ(run_spread(shared, rows_of(8), folder, kind, 2), expected) < 1e-4
    whole, last = (checkpoints(run.train.out)[-1] for run in (config, shared))
    shapes = [{k: v.shape for k, v in load_file(c / WEIGHTS).items()} for c in (whole, last)]
    assert shapes[0] == shapes[1]
    shutil.rmtree(last)
    assert differ(run_spread(shared, rows_of(8), folder, "ddp", 1), expected) < 1e-4
    assert checkpoints(shared.train.out)[-1].name == whole.name
