"""A tiny released model, and where its conversions go."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fantasyid.weights.read import read_model
from miniature.checkpoints import transformer_files


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A tiny released folder in bf16."""
    path = tmp_path_factory.mktemp("released") / "transformer"
    path.mkdir()
    for name, content in transformer_files(dtype=torch.bfloat16).items():
        (path / name).write_bytes(content)
    return path.parent


@pytest.fixture(scope="module")
def released(folder):
    return read_model(folder)


@pytest.fixture
def files(tmp_path) -> SimpleNamespace:
    return SimpleNamespace(base=tmp_path / "b.safetensors", adapter=tmp_path / "a.safetensors")
