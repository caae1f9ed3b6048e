"""Two processes give the losses of one with the same batch."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys

import pytest
from conftest import ROOT
from safetensors.torch import load_file

from fantasyid.training.checkpoint import WEIGHTS, checkpoints
from fantasyid.training.loop import METRICS

from .conftest import but, cache_of, rows_of

STEPS = 50


def losses(out) -> list[float]:
    rows = [json.loads(line) for line in (out / METRICS).read_text("utf-8").splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


@pytest.fixture(scope="module")
def run_spread(tmp_path_factory):
    """`run_spread(config, rows, folder, kind, processes)` trains in processes of their own."""

    def run(config, rows, folder, kind, processes):
        file = tmp_path_factory.mktemp("spread") / "run.pickle"
        file.write_bytes(pickle.dumps((config, rows, str(folder))))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
                   f"--nproc-per-node={processes}", str(ROOT / "tests/training/spread.py"),
                   str(file), kind]  # fmt: skip
        environment = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return losses(config.train.out)

    return run


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp"])
def test_two_processes_give_the_loss_curve_of_one(config, tmp_path, run_spread, kind):
    config = but(config, train__steps=STEPS, train__checkpoint_every=STEPS)
    rows, folder = rows_of(8), tmp_path / "cache"
    cache_of(rows, folder)
    one = run_spread(but(config, train__out=tmp_path / "one"), rows, folder, "ddp", 1)
    two_config = but(config, train__out=tmp_path / "two")
    two = run_spread(two_config, rows, folder, kind, 2)
    assert len(one) == len(two) == STEPS
    assert max(abs(a - b) for a, b in zip(one, two, strict=True)) < 1e-4
    assert one[-1] < one[0]
    single = load_file(checkpoints(tmp_path / "one")[-1] / WEIGHTS)
    shared = load_file(checkpoints(tmp_path / "two")[-1] / WEIGHTS)
    assert {k: v.shape for k, v in single.items()} == {k: v.shape for k, v in shared.items()}
