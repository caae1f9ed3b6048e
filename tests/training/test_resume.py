"""A run that was stopped, killed or broken goes on bit for bit."""

from __future__ import annotations

import json
import os
import signal

import pytest
import torch
from accelerate import Accelerator, DistributedType
from safetensors.torch import load_file

from fantasyid.training.batches import Batches
from fantasyid.training.checkpoint import EMA, OPTIMIZER, WEIGHTS, checkpoints
from fantasyid.training.loop import SAVE_NOW, Trainer
from fantasyid.training.manifest import DataError
from fantasyid.training.network import build_network
from fantasyid.training.progress import METRICS, TrainingStopped

from .conftest import assert_same, but, cache_of, rows_of, state_of


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    rows = rows_of(8)
    return rows, cache_of(rows, tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def order_of_sums():
    """The trainer asks torch for deterministic sums; other tests get back what they had."""
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)


def trainer(config, cached, validate=None):
    rows, parts = cached
    return Trainer(
        config, Accelerator(cpu=True), build_network(config), Batches(config, rows, parts, 0.7),
        validate,
    )  # fmt: skip


@pytest.mark.slow
def test_stopped_and_resumed_equals_unbroken(config, cached, tmp_path):
    whole = but(config, train__out=tmp_path / "whole")
    trainer(whole, cached).run()
    broken = but(config, train__out=tmp_path / "broken")
    first = trainer(broken, cached)
    note = first._note

    def note_and_interrupt(loss, norm):
        note(loss, norm)
        if first.progress.step == 4:
            os.kill(os.getpid(), signal.SIGINT)

    first._note = note_and_interrupt
    with pytest.raises(TrainingStopped, match="SIGINT at step 4"):
        first.run()
    second = trainer(broken, cached)
    assert second.progress.step == 4
    second.run()
    assert_same(tmp_path / "whole", tmp_path / "broken")
    tensors, _ = state_of(tmp_path / "whole")
    weights = [name.partition("/")[2] for name in tensors if name.startswith(WEIGHTS)]
    assert any(
        not torch.equal(tensors[f"{WEIGHTS}/{name}"], tensors[f"{EMA}/{name}"]) for name in weights
    )


def test_save_now_saves_and_takes_the_wish_away(config, cached):
    run = trainer(config, cached)
    (config.train.out / SAVE_NOW).touch()
    run.step([run.batches[0]])
    run._react()
    assert [path.name for path in checkpoints(config.train.out)] == ["checkpoint-000001"]
    assert not (config.train.out / SAVE_NOW).exists()


def test_a_signal_saves_after_the_step(config, cached, monkeypatch):
    run = trainer(config, cached)
    monkeypatch.setattr(run, "_note", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(TrainingStopped, match="SIGTERM at step 1: saved") as caught:
        run.run()
    assert caught.value.on_request
    assert trainer(config, cached).progress.step == 1


def test_another_configuration_is_refused(config, cached):
    run = trainer(config, cached)
    run.step([run.batches[0]])
    run.save()
    with pytest.raises(DataError, match="made with another configuration"):
        trainer(but(config, train__learning_rate=2e-3), cached)
    assert trainer(but(config, train__checkpoint_every=9), cached).progress.step == 1


def test_other_data_stop_a_run_or_are_noted(config, cached, tmp_path):
    """By default it refuses; on request it goes on with all clips."""
    run = trainer(config, cached)
    run.step([run.batches[0]])
    run.save()
    grown = rows_of(10)
    more = grown, cache_of(grown, tmp_path / "more")
    with pytest.raises(DataError, match=r"were 8 clips, .* are 10 clips, .*on_new_data"):
        trainer(config, more)
    again = trainer(but(config, train__on_new_data="continue"), more)
    assert again.progress.step == 1
    seen = {name for step in range(1, 4) for name in again.batches[step].names}
    assert seen & {"clip008", "clip009"}
    again.step([again.batches[1]])
    again.save()
    (row,) = [json.loads(x) for x in (config.train.out / METRICS).read_text().splitlines()]
    assert "were 8 clips" in row["new_data"]
    assert trainer(config, more).progress.step == 2


def test_deepspeed_is_refused_before_the_first_step(config, cached, monkeypatch):
    run = trainer(config, cached)
    kind = property(lambda _self: DistributedType.DEEPSPEED)
    monkeypatch.setattr(Accelerator, "distributed_type", kind)
    with pytest.raises(DataError, match=r"no run resumed; take .*fsdp_8\.yaml"):
        run.run()


def test_a_damaged_checkpoint_is_named(config, cached):
    run = trainer(config, cached)
    run.step([run.batches[0]])
    path = run.save() / OPTIMIZER
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="checkpoint-000001 is damaged"):
        trainer(config, cached)


def test_not_a_number_stops_names_the_batch_and_keeps_the_last_good_state(config, cached):
    run = trainer(config, cached)
    run.step([run.batches[0]])
    good = {n: p.detach().clone() for n, p in run.network.named_parameters()}
    batch = run.batches[1]
    batch.clean[0] = float("nan")
    with pytest.raises(TrainingStopped) as caught:
        run.step([batch])
    words = str(caught.value)
    assert "step 1: the loss is not finite" in words
    assert batch.names[0] in words
    assert "first bad layer: transformer.patch_embed" in words
    assert "The last good state is" in words
    assert all(torch.equal(p, good[n]) for n, p in run.network.named_parameters())
    weights = load_file(checkpoints(config.train.out)[-1] / WEIGHTS)
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


def test_a_spike_is_skipped_and_noted(config, cached):
    config = but(config, train__loss_spike=3.0)
    run = trainer(config, cached)
    run.progress.recent = [1.0] * 60
    batch = run.batches[0]
    batch.clean *= 100
    before = {n: p.detach().clone() for n, p in run.network.named_parameters()}
    run.step([batch])
    assert run.progress.skipped == 1
    assert all(torch.equal(p, before[n]) for n, p in run.network.named_parameters())
    (row,) = [json.loads(x) for x in (config.train.out / METRICS).read_text().splitlines()]
    assert "the loss jumped" in row["refused"]


def test_too_many_unreadable_samples_stop_the_run(config, cached):
    run = trainer(but(config, train__max_bad_share=0.2), cached)
    batch = run.batches[0]
    batch.weight[:2] = 0
    run._count(run.batches[0])
    with pytest.raises(TrainingStopped, match="2 of 8 samples could not be read, more than"):
        run._count(batch)
    assert checkpoints(config.train.out)
