"""What goes wrong outside of the program ends in a sentence, and nothing is lost."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import save_file

from fantasyid.training.adapter import read_adapter
from fantasyid.training.checkpoint import Average, checkpoints, save_checkpoint
from fantasyid.training.curate.store import Store
from fantasyid.training.export import export, split_weights
from fantasyid.training.manifest import DataError
from fantasyid.training.network import build_network
from fantasyid.training.objective import make_optimizer
from fantasyid.training.part import Part

from .conftest import but


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """Within it no file grows beyond so many bytes: the system refuses to write on."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_in_mid_cache_keeps_what_is_there(tmp_path):
    sizes, made = {"small": 100, "large": 100_000, "last": 100}, []

    def encode(key):
        made.append(key)
        return torch.full((sizes[key],), 7.0)

    with (
        full_disk(50_000),
        pytest.raises(DataError, match=r"shard-00001.* cannot be written .*free"),
    ):
        Part(tmp_path).load().fill(list(sizes), encode, 1, lambda *_: None)
    assert [path.name for path in tmp_path.iterdir()] == ["shard-00000.safetensors"]
    part = Part(tmp_path).load()
    part.fill(list(sizes), encode, 1, lambda *_: None)
    assert made == ["small", "large", "large", "last"]
    assert [len(part.get(key)) for key in sizes] == list(sizes.values())


def saved(config, network, step: int, keep: int = 3):
    """A checkpoint of a network that has not moved."""
    optimizer, average = make_optimizer(network, config), Average(network, 0.9)
    state = {"progress": {"step": step}}
    return save_checkpoint(config.train.out, step, network, optimizer, average, state, True, keep)


def test_a_disk_that_is_full_while_saving_keeps_the_checkpoint_before(config, tmp_path):
    network = build_network(config)
    first = saved(config, network, 1)
    with full_disk(100_000), pytest.raises(DataError, match=r"checkpoint-000002 cannot be written"):
        saved(config, network, 2)
    assert list(config.train.out.iterdir()) == [first]
    assert checkpoints(config.train.out) == [first]
    target = tmp_path / "mine.safetensors"
    with full_disk(100_000), pytest.raises(DataError, match=r"mine\.safetensors cannot be written"):
        export(config, target, False, torch.float32)
    assert not list(tmp_path.glob("mine*"))


def test_a_kill_while_an_old_checkpoint_is_removed_leaves_no_half_of_it(config, monkeypatch):
    class Killed(BaseException):
        pass

    def half(path, **_):
        if path.exists():
            next(path.glob("*.pt")).unlink()
            raise Killed

    network = build_network(config)
    saved(config, network, 1)
    monkeypatch.setattr("fantasyid.training.checkpoint.shutil.rmtree", half)
    with pytest.raises(Killed):
        saved(config, network, 2, keep=1)
    (last,) = checkpoints(config.train.out)
    assert last.name == "checkpoint-000002"
    others = [path for path in config.train.out.iterdir() if path != last]
    assert [path.suffix for path in others] == [".partial"]  # which the next start clears away


def test_a_full_disk_is_no_fault_of_the_clip(tmp_path):
    store = Store(tmp_path)
    with full_disk(1000), pytest.raises(OSError, match="views cannot be written"):
        store.write_pictures("views", "key", {"0": torch.zeros(10_000, dtype=torch.uint8)})
    assert store.read_pictures("views", "key") is None
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_adapter_of_another_depth_is_said(config, tmp_path):
    network, path = build_network(config), tmp_path / "adapter.safetensors"
    state = {n: p.detach().clone() for n, p in network.named_parameters()}
    save_file(split_weights(state)[""], path)
    assert len(read_adapter(path, 2, 128)) == 4
    with pytest.raises(
        DataError, match=r"has 2 injectors .* 128 wide; this training has 4 for 128"
    ):
        read_adapter(path, 4, 128)
    deeper = but(
        config, weights__adapter=path, model__base_sizes=config.model.base_sizes | {"num_layers": 4}
    )
    with pytest.raises(DataError, match=r"weights\.adapter .* has 2 injectors"):
        build_network(deeper)


def test_a_size_of_the_base_that_nobody_knows_is_said(config):
    wrong = but(config, model__base_sizes=config.model.base_sizes | {"num_layer": 4})
    with pytest.raises(DataError, match=r"model\.base_sizes: .*num_layer"):
        build_network(wrong)
