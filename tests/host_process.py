"""The real ComfyUI in this process, for tests that look inside a run."""

from __future__ import annotations

import asyncio
import importlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from miniature.models import TinyModels

ROOT = Path(__file__).resolve().parents[1]


class Host:
    """The host in this process, with the extension loaded by the host's own loader."""

    def __init__(self, comfyui: Path, base: Path) -> None:
        sys.path.insert(0, str(comfyui))  # before the project, whose `nodes` would hide the host's
        arguments = importlib.import_module("comfy.cli_args").args
        arguments.cpu, arguments.base_directory = True, str(base)
        self.nodes = importlib.import_module("nodes")
        asyncio.run(self._load())
        self._package = next(n for n in sys.modules if n.endswith("fantasyid.comfyui.cogvideox"))
        self._package = self._package.removesuffix(".fantasyid.comfyui.cogvideox")

    async def _load(self) -> None:
        server = importlib.import_module("server")
        server.PromptServer(asyncio.get_running_loop())
        await self.nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False)
        assert await self.nodes.load_custom_node(str(ROOT), module_parent="custom_nodes")
        tiny_host = str(ROOT / "tests" / "host_nodes" / "fantasyid_tiny_host")
        assert await self.nodes.load_custom_node(tiny_host, module_parent="custom_nodes")

    def ours(self, name: str) -> ModuleType:
        """A module of the extension, as the host loaded it."""
        return importlib.import_module(f"{self._package}.{name}")

    def run(self, node_id: str, **inputs: Any) -> tuple[Any, ...]:
        """Run one node of the host or of the extension; returns its outputs."""
        node = self.nodes.NODE_CLASS_MAPPINGS[node_id]
        if hasattr(node, "define_schema"):
            result = node.PREPARE_CLASS_CLONE(None).execute(**inputs)
            return tuple(getattr(result, "result", None) or ())
        return getattr(node(), node.FUNCTION)(**inputs)


@pytest.fixture(scope="session")
def host(comfyui_path: Path, host_base: Path, tiny: TinyModels) -> Host:
    """The host in this process; tests with it run under inference mode, as nodes do there."""
    assert tiny
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Host(comfyui_path, host_base)


@pytest.fixture(scope="session")
def ours(host: Host) -> Callable[[str], ModuleType]:
    """`ours("fantasyid.comfyui.weights")`: a module as the host loaded it."""
    return host.ours
