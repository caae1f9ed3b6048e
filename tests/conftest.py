"""Fixtures that every kind of test shares."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

TESTS = Path(__file__).resolve().parent
GOLDEN = TESTS / "golden"
SHARED = TESTS.parent.parent / "shared"


@pytest.fixture(scope="session")
def seeded() -> ModuleType:
    """The module that regenerates the golden weights and inputs from their names."""
    spec = importlib.util.spec_from_file_location("seeded_weights", GOLDEN / "seeded_weights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def golden() -> Callable[[str], dict[str, Tensor]]:
    """`golden(name)` reads the recorded outputs of the reference implementation."""
    return lambda name: load_file(GOLDEN / f"{name}.safetensors")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Files that may not be copied into the project (mesh transforms, a portrait)."""
    if not SHARED.is_dir():
        pytest.skip(
            "../shared is absent: licensed mesh data and the portrait are not in the project"
        )
    return SHARED


@pytest.fixture(scope="session")
def relative_error() -> Callable[[Tensor, Tensor], float]:
    """`relative_error(got, expected)` = norm of the difference over norm of the expected."""

    def error(got: Tensor, expected: Tensor) -> float:
        assert got.shape == expected.shape, f"{tuple(got.shape)} != {tuple(expected.shape)}"
        got, expected = got.double(), expected.double()
        return float(torch.linalg.vector_norm(got - expected) / torch.linalg.vector_norm(expected))

    return error
