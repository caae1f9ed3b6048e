"""Imports go one way: nodes -> fantasyid.comfyui -> pure torch modules -> nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from architecture.sources import ROOT, Import, Source, imports, package_sources, read

HOST_MODULES = (
    "app",
    "comfy",
    "comfy_api",
    "comfy_api_nodes",
    "comfy_config",
    "comfy_execution",
    "comfy_extras",
    "execution",
    "folder_paths",
    "latent_preview",
    "node_helpers",
    "nodes",
    "server",
)
PURE = "fantasyid"
HOST = "fantasyid/comfyui"
TINY = "miniature"
METRICS = "fantasyid/evaluation/metrics"
EVALUATE = "fantasyid/evaluation/protocol"
# The code with network is the download feature, of which any module may import at once what is
# without network itself, and one module that talks to the host that the user named.
DOWNLOAD = "fantasyid/weights/download"
HOST_CLIENT = "fantasyid/evaluation/client.py"
WITHOUT_NETWORK = ("fantasyid.weights.download.files", "fantasyid.weights.download.present")
NETWORK = (
    "aiohttp", "asyncio", "ftplib", "http", "httpx", "huggingface_hub", "modelscope", "requests",
    "smtplib", "socket", "ssl", "telnetlib", "urllib", "urllib3", "websockets", "xmlrpc",
)  # fmt: skip
# ComfyUI requires these itself; whatever else is used must be looked for when it is needed.
WITH_THE_HOST = (
    "numpy", "torch", "einops", "scipy", "PIL", "safetensors", "tqdm", "aiohttp", "filelock",
    "jinja2", "requests",
)  # fmt: skip
# av and torchvision come with the host, which loads them late.
OPTIONAL = (
    "insightface", "yaml", "skimage", "av", "onnxruntime", "torchvision", "huggingface_hub",
)  # fmt: skip

SOURCES = package_sources()


def wrong_host_imports(source: Source) -> list[str]:
    if source.inside("nodes", HOST):
        return []
    return [i.name for i in imports(source) if not i.own and i.top in HOST_MODULES]


def wrong_own_imports(source: Source) -> list[str]:
    """Own modules that lie above or beside the one that imports them."""
    own = [i for i in imports(source) if i.own]
    forbidden: tuple[str, ...] = ()
    if source.inside(PURE):
        forbidden += ("nodes",)
    if source.inside(PURE) and not source.inside(HOST):
        forbidden += ("fantasyid.comfyui",)
    if not source.inside(TINY):
        forbidden += ("miniature",)
    if not source.inside(EVALUATE) and source.path not in (HOST_CLIENT, "fantasyid/evaluate.py"):
        # A command of its own, which the host never loads.
        forbidden += ("fantasyid.evaluation.protocol", "fantasyid.evaluation.client")
    for folder, other in (("geometry", "face"), ("face", "geometry")):
        if source.inside(f"{PURE}/{folder}"):
            forbidden += (f"{PURE}.{other}",)
    if source.inside(METRICS):
        forbidden += ("fantasyid.geometry",)
    return [i.name for i in own if i.within(*forbidden)]


def absolute_own_imports(source: Source) -> list[str]:
    return [i.name for i in imports(source) if not i.own and i.top in ("fantasyid", "nodes")]


def wrong_packages(source: Source) -> list[str]:
    """Packages that nobody promised, or that are imported before they are needed."""

    def allowed(i: Import) -> bool:
        at_once = (*sys.stdlib_module_names, *WITH_THE_HOST, *HOST_MODULES)
        return i.own or i.top in at_once or (i.lazy and i.top in OPTIONAL)

    return [i.name for i in imports(source) if not allowed(i)]


def imports_network(source: Source) -> list[str]:
    return [i.name for i in imports(source) if not i.own and i.top in NETWORK]


def network_imports(source: Source) -> list[str]:
    module = source.path.removesuffix(".py").replace("/", ".")
    if source.inside(DOWNLOAD) and module not in WITHOUT_NETWORK:
        return []
    if source.path == HOST_CLIENT:
        return []
    return imports_network(source)


def early_downloads(source: Source) -> list[str]:
    """Imports of what reaches the network, other than by a function that somebody called."""
    module = source.path.removesuffix(".py").replace("/", ".")
    if source.path == "fantasyid/download.py":  # the command itself
        return []
    if source.inside(DOWNLOAD) and module not in WITHOUT_NETWORK:
        return []
    asked = [i for i in imports(source) if i.within("fantasyid.weights.download") and not i.lazy]
    return [i.name for i in asked if not i.within(*WITHOUT_NETWORK)]


CHECKS = (
    wrong_host_imports,
    wrong_own_imports,
    absolute_own_imports,
    wrong_packages,
    network_imports,
    early_downloads,
)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.path)
def test_every_import_goes_one_way(source, check):
    assert check(source) == []


@pytest.mark.parametrize(
    ("check", "path", "text"),
    [
        (wrong_host_imports, "fantasyid/fusion/transformer.py", "import comfy.ops"),
        (wrong_host_imports, "fantasyid/face/crop.py", "def f():\n    import folder_paths"),
        (wrong_host_imports, "miniature/head.py", "from comfy_api.latest import io"),
        (wrong_own_imports, "fantasyid/fusion/transformer.py", "from .host import weights"),
        (wrong_own_imports, "fantasyid/fusion/transformer.py", "from . import host"),
        (wrong_own_imports, "fantasyid/geometry/deca.py", "from ..face.crop import align_crop"),
        (wrong_own_imports, "fantasyid/geometry/deca.py", "from .. import face"),
        (wrong_own_imports, "fantasyid/face/crop.py", "from ..mesh import flame"),
        (wrong_own_imports, "fantasyid/comfyui/files.py", "from ...nodes import types"),
        (wrong_own_imports, "fantasyid/evaluation/metrics/motion.py", "from ..mesh import render"),
        (wrong_own_imports, "fantasyid/evaluation/metrics/motion.py", "from ..host import images"),
        (wrong_own_imports, "fantasyid/comfyui/files.py", "from ..tiny.models import write"),
        (wrong_own_imports, "nodes/face.py", "from ..fantasyid.tiny import models"),
        (
            absolute_own_imports,
            "fantasyid/fusion/transformer.py",
            "from fantasyid.attention import attend",
        ),
        (absolute_own_imports, "nodes/face.py", "import nodes.types"),
        (wrong_packages, "fantasyid/face/insight.py", "import insightface"),
        (wrong_packages, "fantasyid/fusion/transformer.py", "def f():\n    import timm"),
        (network_imports, "fantasyid/comfyui/files.py", "from urllib.request import urlopen"),
        (network_imports, "fantasyid/weights/download/files.py", "import socket"),
        (network_imports, "fantasyid/evaluation/protocol/run.py", "import urllib.request"),
        (wrong_own_imports, "fantasyid/comfyui/files.py", "from ..evaluation.client import Host"),
        (wrong_own_imports, "nodes/evaluate.py", "from ..fantasyid.evaluation import protocol"),
        (
            early_downloads,
            "fantasyid/comfyui/download.py",
            "from ..weights.download import provide",
        ),
        (
            early_downloads,
            "nodes/download.py",
            "from ..fantasyid.weights.download.fetch import fetch",
        ),
        (early_downloads, "fantasyid/weights/download/files.py", "from .hubs import list_files"),
    ],
)
def test_the_checks_see_what_they_forbid(check, path, text):
    assert check(Source(path, text))


@pytest.mark.parametrize(
    ("check", "path", "text"),
    [
        (network_imports, "fantasyid/weights/download/fetch.py", "import requests"),
        (network_imports, "fantasyid/evaluation/client.py", "import requests"),
        (wrong_own_imports, "fantasyid/evaluation/protocol/run.py", "from ..client import Host"),
        (early_downloads, "fantasyid/comfyui/download.py", "from ..weights.download import files"),
        (
            early_downloads,
            "fantasyid/comfyui/download.py",
            "def f():\n    from ..weights.download import fetch",
        ),
    ],
)
def test_the_download_feature_and_the_host_client_alone_have_network(check, path, text):
    assert check(Source(path, text)) == []
    reach = {source.path for source in SOURCES if imports_network(source)}
    assert HOST_CLIENT in reach
    downloads = reach - {HOST_CLIENT}
    assert downloads
    assert all(path.startswith(f"{DOWNLOAD}/") for path in downloads)


def test_the_shared_values_and_layers_stand_on_nothing_of_ours():
    base = {"fantasyid/attention.py", "fantasyid/identity.py"}
    found = [source for source in SOURCES if source.path in base]
    assert len(found) == len(base)
    assert [i.name for source in found for i in imports(source) if i.own] == []


def test_face_and_mesh_stand_on_the_shared_modules_only():
    shared = ("fantasyid.attention", "fantasyid.identity", "fantasyid.config")
    for folder in ("face", "mesh"):
        for source in read(f"fantasyid/{folder}/*.py"):
            own = [i for i in imports(source) if i.own]
            strangers = [i.name for i in own if not i.within(f"fantasyid.{folder}", *shared)]
            assert strangers == [], source.path


def test_the_root_package_imports_lazily():
    (root,) = read("__init__.py")
    found = imports(root)
    assert [i.name for i in found] == ["nodes.FantasyIDExtension"]
    assert all(i.own and i.lazy for i in found)


def test_importing_the_root_package_imports_nothing():
    script = (
        "import importlib.util, json, sys\n"
        "before = set(sys.modules)\n"
        f"spec = importlib.util.spec_from_file_location('pack', {str(ROOT / '__init__.py')!r}, "
        f"submodule_search_locations=[{str(ROOT)!r}])\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "sys.modules['pack'] = module\n"
        "spec.loader.exec_module(module)\n"
        "assert callable(module.comfy_entrypoint)\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))\n"
    )
    command = [sys.executable, "-S", "-c", "import json\n" + script]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(run.stdout) == ["pack"]
