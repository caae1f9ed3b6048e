"""Fixtures of the golden tests: the dtypes, and seeded weights by the names of our modules."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from fantasyid.weights.keys import sort_released_keys

LIST = Path(__file__).with_name("released_transformer_keys.json")


@pytest.fixture(params=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    """The dtype that weights and inputs are stored in; `stages.json` says which one computes."""
    return getattr(torch, request.param)


@pytest.fixture(scope="session")
def released_shapes() -> dict[str, list[int]]:
    """Every key of the released transformer folder with its shape."""
    groups = json.loads(LIST.read_text("utf-8"))["groups"]
    return {key: shape for group in groups.values() for key, shape in group.items()}


@pytest.fixture(scope="session")
def seeded_part(
    seeded: ModuleType, released_shapes: dict[str, list[int]]
) -> Callable[..., dict[str, Tensor]]:
    """`seeded_part("fusion")`: the weights of a part of the adapter, in our module's names."""
    keys = sort_released_keys(released_shapes)

    def weights(part: str, start: str = "") -> dict[str, Tensor]:
        names = {k: v for k, v in getattr(keys, part).items() if k.startswith(start)}
        state = seeded.state_dict({key: released_shapes[key] for key in names.values()})
        return {ours: state[key] for ours, key in names.items()}

    return weights
