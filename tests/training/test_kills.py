"""`kill -9` at any moment of a training, also while it saves: nothing is lost, no bit differs."""

from __future__ import annotations

import os
import pickle
import random
import time

import pytest
import torch
from safetensors.torch import load_file
from training.spread import main

from fantasyid.training.checkpoint import EMA, OPTIMIZER, WEIGHTS, checkpoints

from .conftest import assert_same, but, cache_of, rows_of

# More on request: 100 take about four minutes.
KILLS = int(os.environ.get("FANTASYID_TEST_KILLS", "6"))


@pytest.fixture(scope="module")
def life(tmp_path_factory, forked):
    """`life(config)` trains in a process of its own; it waits for the first step."""
    rows, folder = rows_of(8), tmp_path_factory.mktemp("cache")
    cache_of(rows, folder)

    def start(config):
        file = tmp_path_factory.mktemp("run") / "run.pickle"
        file.write_bytes(pickle.dumps((config, rows, str(folder))))
        begun = forked.Event()
        process = forked.Process(target=main, args=(str(file), "ddp", begun))
        process.start()
        assert begun.wait(120)
        return process

    return start


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_as_an_unbroken_run(config, tmp_path, life):
    whole = but(
        config, train__out=tmp_path / "whole", train__steps=3 * KILLS, train__checkpoint_every=1
    )
    process, started = life(whole), time.perf_counter()
    process.join(600)
    assert process.exitcode == 0
    step_s = (time.perf_counter() - started) / whole.train.steps
    killed = but(whole, train__out=tmp_path / "killed")
    moments, while_saving = random.Random(0), 0
    for kill in range(KILLS):
        process = life(killed)
        if kill % 2:  # as soon as a checkpoint is being written, and somewhere into it
            while not list(killed.train.out.glob("*.partial")) and process.is_alive():
                time.sleep(0.001)
            time.sleep(moments.uniform(0.0, 0.1 * step_s))
        else:
            time.sleep(moments.uniform(0.0, 3 * step_s))
        assert process.is_alive(), "the run was at its end before all kills were spent"
        process.kill()
        process.join()
        process.close()
        while_saving += bool(list(killed.train.out.glob("*.partial")))
        for path in checkpoints(killed.train.out):
            torch.load(path / OPTIMIZER, weights_only=True)
            assert load_file(path / WEIGHTS).keys() == load_file(path / EMA).keys()
    assert while_saving > 0
    process = life(killed)
    process.join(600)
    assert process.exitcode == 0
    assert_same(tmp_path / "whole", tmp_path / "killed")
    left = [sorted(path.name for path in c.train.out.iterdir()) for c in (whole, killed)]
    assert left[0] == left[1]
