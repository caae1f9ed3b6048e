"""Starting ComfyUI with the extension must not get heavier; seconds are for `benchmarks/`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_nothing_is_imported_that_the_host_had_not(comfyui_path):
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "startup.py"
    spec = importlib.util.spec_from_file_location("startup", path)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    result = benchmark.probe(comfyui_path)
    assert result["torch"] == []
    assert result["packages"] == []
