"""The real ComfyUI in this process, for tests that look inside a run."""

from __future__ import annotations

import asyncio
import importlib
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from host_graph import align, conditioning, make_identity

from fantasyid.tiny.models import TinyModels

ROOT = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The host's own modules warn about their dependencies; that is not ours to fail on."""
    for item in items:
        item.add_marker(pytest.mark.filterwarnings("default"))


class Host:
    """The host in this process, with the extension loaded by the host's own loader."""

    def __init__(self, comfyui: Path, base: Path) -> None:
        sys.path.insert(0, str(comfyui))  # before the project, whose `nodes` would hide the host's
        arguments = importlib.import_module("comfy.cli_args").args
        arguments.cpu, arguments.base_directory = True, str(base)
        self.nodes = importlib.import_module("nodes")
        asyncio.run(self._load())
        self._package = next(n for n in sys.modules if n.endswith("fantasyid.host.cogvideox"))
        self._package = self._package.removesuffix(".fantasyid.host.cogvideox")

    async def _load(self) -> None:
        server = importlib.import_module("server")
        server.PromptServer(asyncio.get_running_loop())
        await self.nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False)
        assert await self.nodes.load_custom_node(str(ROOT), module_parent="custom_nodes")
        tiny_host = str(ROOT / "demo_nodes" / "fantasyid_tiny_host")
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
def host(comfyui_path: Path, host_base: Path, tiny: TinyModels) -> Iterator[Host]:
    """The host in this process; nodes run under inference mode, as they do there."""
    assert tiny
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        host = Host(comfyui_path, host_base)
    with torch.inference_mode():
        yield host


@pytest.fixture(scope="session")
def ours(host: Host) -> Callable[[str], ModuleType]:
    """`ours("fantasyid.host.weights")`: a module as the host loaded it."""
    return host.ours


@pytest.fixture(scope="session")
def photo_image():
    skimage_data = pytest.importorskip("skimage.data", reason="scikit-image is absent")
    return torch.from_numpy(skimage_data.astronaut()).float()[None] / 255


@pytest.fixture(scope="session")
def loaded(host):
    model, adapter = host.run(
        "FantasyIDModelLoader",
        model="tiny-fantasyid",
        mesh_transforms="tiny_transform.pkl",
        weight_dtype="default",
    )
    (encoder,) = host.run(
        "FantasyIDFaceEncoderLoader", face_encoder="tiny_EVA02_CLIP_L_336_psz14_s6B.pt"
    )
    (deca,) = host.run(
        "FantasyIDDecaLoader", deca="tiny_deca_model.tar", flame="tiny_generic_model.pkl"
    )
    (clip,) = host.run("CLIPLoader", clip_name="tiny_t5xxl.safetensors", type="cogvideox")
    (vae,) = host.run("VAELoader", vae_name="tiny_cogvideox_vae.safetensors")
    return {
        "model": model,
        "adapter": adapter,
        "encoder": encoder,
        "deca": deca,
        "clip": clip,
        "vae": vae,
    }


@pytest.fixture(scope="session")
def aligned(host, photo_image):
    return align(host, photo_image)


@pytest.fixture(scope="session")
def identity(host, loaded, aligned):
    return make_identity(host, loaded, aligned[0])


@pytest.fixture(scope="session")
def conditioned(host, loaded, aligned):
    return conditioning(host, loaded, aligned[0])
