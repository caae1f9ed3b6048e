"""The order of the data: a pure function, everything once, whatever shares the step."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fantasyid.training.order import Order, generator, share

BUCKETS = st.lists(st.integers(1, 40), min_size=1, max_size=3).map(
    lambda sizes: tuple(
        tuple(range(sum(sizes[:i]), sum(sizes[: i + 1]))) for i in range(len(sizes))
    )
)


@given(BUCKETS, st.integers(1, 8), st.integers(0, 5), st.integers(0, 3))
def test_an_epoch_sees_everything_and_one_size_per_step(buckets, per_step, seed, epoch):
    order = Order(seed, buckets, per_step)
    seen: Counter[int] = Counter()
    for place in range(order.steps_per_epoch):
        units = order.units(epoch * order.steps_per_epoch + place)
        assert len(units) == per_step
        assert any(set(units) <= set(bucket) for bucket in buckets)
        seen.update(units)
    assert set(seen) == {unit for bucket in buckets for unit in bucket}


@given(st.integers(0, 1000), st.sampled_from([(1, 1), (2, 1), (1, 2), (2, 2), (4, 2)]))
def test_devices_and_parts_share_a_step_without_a_gap(step, shape):
    world_size, parts = shape
    units = Order(3, (tuple(range(50)),), 16).units(step)
    got = [
        unit
        for part in range(parts)
        for rank in range(world_size)
        for unit in share(units, rank, world_size, part, parts)
    ]
    assert got == units


def test_epochs_differ_and_the_same_step_is_the_same():
    order = Order(0, (tuple(range(64)),), 8)
    first = [order.units(step) for step in range(8)]
    assert first == [Order(0, (tuple(range(64)),), 8).units(step) for step in range(8)]
    assert first != [order.units(step) for step in range(8, 16)]
    assert first != [Order(1, (tuple(range(64)),), 8).units(step) for step in range(8)]


def test_a_generator_is_its_words():
    draw = torch.rand(3, generator=generator("a", 1))
    assert torch.equal(draw, torch.rand(3, generator=generator("a", 1)))
    assert not torch.equal(draw, torch.rand(3, generator=generator("a", 2)))


def test_nothing_to_train_on_is_said():
    with pytest.raises(ValueError, match="nothing to train on"):
        Order(0, ((),), 4)
