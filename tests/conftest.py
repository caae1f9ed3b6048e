"""Fixtures that every kind of test shares."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from host_client import Client
from host_process import host, ours  # noqa: F401 (fixtures)
from hypothesis import HealthCheck, settings
from safetensors.torch import load_file, save_file
from torch import Tensor
from xdist.scheduler.loadfile import LoadFileScheduling

from demo.folders import prepare_base
from demo.server import Server
from fantasyid.weights.keys import sort_released_keys
from miniature.models import TinyModels, write_tiny_models

TESTS = Path(__file__).resolve().parent
GOLDEN = TESTS / "golden"
ROOT = TESTS.parent
SHARED = ROOT.parent / "shared"

# The same examples each time: `python -m tests.fuzz` looks for new ones. A busy machine is slow to
# draw them, which is no failure of what is tested.
settings.register_profile(
    "steady",
    deadline=None,
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("steady")


# Folders whose tests stay in one of the processes, for what is made once for all of them.
TOGETHER = ("browser", "golden", "matrix")


class WholeFiles(LoadFileScheduling):
    """Shares the tests out by files, in their order, and by some folders."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        folder = file.split("/")[-2]
        return folder if folder in TOGETHER else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> WholeFiles:
    """Of the processes that `-n 2` in pyproject.toml starts."""
    return WholeFiles(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Lanes: what needs a server is slow. The host's own warnings are not ours to fail on."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if {"host", "server"} & fixtures:
            item.add_marker(pytest.mark.filterwarnings("default"))
        if "server" in fixtures:
            item.add_marker(pytest.mark.slow)
        if "browser" in item.path.parts:
            item.add_marker(pytest.mark.browser)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Inference mode for the host's tests and their fixtures alone, as it runs its nodes."""
    with torch.inference_mode("host" in getattr(item, "fixturenames", ())):
        return (yield)


def load_golden_module(name: str) -> ModuleType:
    """A module of tests/golden, which is a folder of data and no package."""
    spec = importlib.util.spec_from_file_location(f"golden_{name}", GOLDEN / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for their module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def seeded() -> ModuleType:
    """The module that regenerates the golden weights and inputs from their names."""
    return load_golden_module("seeded_weights")


@pytest.fixture(scope="session")
def report() -> ModuleType:
    """The module that makes docs/fidelity.md."""
    return load_golden_module("report")


@pytest.fixture(scope="session")
def fidelity(report: ModuleType) -> Iterator[Callable[..., None]]:
    """`fidelity(stage, dtype, errors)` asserts the tolerances of a stage and keeps the errors."""
    measured = report.Measured()
    yield measured.check
    measured.save()


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


@pytest.fixture(scope="session")
def comfyui_path() -> Path:
    """The folder of the real host: `COMFYUI_PATH`, which `quickstart.py test` sets."""
    path = Path(os.environ.get("COMFYUI_PATH", ROOT / ".host" / "ComfyUI"))
    if not (path / "main.py").is_file():
        pytest.skip(f"no ComfyUI in {path}: set COMFYUI_PATH, or run `python quickstart.py test`")
    return path


@pytest.fixture(scope="session")
def host_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base directory of the host with this project in it, the way a user's looks."""
    tiny_host = ROOT / "tests" / "host_nodes" / "fantasyid_tiny_host"
    return prepare_base(tmp_path_factory.mktemp("base"), tiny_host)


@pytest.fixture(scope="session")
def tiny(host_base: Path) -> TinyModels:
    """Tiny checkpoints in the host's models folder, also under the names of the released files.

    With the released names the bundled workflows run unchanged.
    """
    models = host_base / "models"
    tiny = write_tiny_models(models)
    own = models / "fantasyid"
    for source, name in (
        (tiny.eva_clip, "EVA02_CLIP_L_336_psz14_s6B.pt"),
        (tiny.transforms, "transform.pkl"),
        (tiny.deca, "deca_model.tar"),
        (tiny.flame, "generic_model.pkl"),
        (tiny.text_encoder, "../text_encoders/t5xxl_fp16.safetensors"),
        (tiny.vae, "../vae/cogvideox_vae.safetensors"),
    ):
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, own / name)
    shutil.copytree(tiny.model / "transformer", own / "FantasyID" / "transformer")
    save_base_in_host_names(tiny.model, models / "diffusion_models")
    return tiny


def save_base_in_host_names(model: Path, folder: Path) -> None:
    """The base transformer as ComfyUI users have it: one file, the host's own names."""
    weights: dict[str, Tensor] = {}
    for shard in sorted((model / "transformer").glob("*.safetensors")):
        weights |= load_file(shard)
    names = sort_released_keys(weights).base
    folder.mkdir(parents=True, exist_ok=True)
    base = {host_name: weights[key] for host_name, key in names.items()}
    save_file(base, folder / "cogvideox_5b_i2v.safetensors")


@pytest.fixture(scope="session")
def astronaut() -> Tensor:
    """A public-domain portrait `(512, 512, 3)` in [0, 1] that scikit-image brings along."""
    data = pytest.importorskip("skimage.data", reason="scikit-image is absent")
    return torch.from_numpy(data.astronaut()).float() / 255


@pytest.fixture(scope="session")
def photo(host_base: Path) -> Path:
    """The astronaut of scikit-image (NASA, public domain) in the host's input folder."""
    skimage_data = pytest.importorskip("skimage.data", reason="scikit-image is absent")
    from PIL import Image

    path = host_base / "input" / "photo.png"
    Image.fromarray(skimage_data.astronaut()).save(path)
    return path


@pytest.fixture(scope="session")
def frontend() -> list[str]:
    """What the server needs to be told to serve the web UI in `FANTASYID_FRONTEND`."""
    folder = os.environ.get("FANTASYID_FRONTEND")
    return ["--front-end-root", folder] if folder else []


@pytest.fixture(scope="session")
def server(
    comfyui_path: Path, host_base: Path, tiny: TinyModels, photo: Path, frontend: list[str]
) -> Iterator[Server]:
    """A real ComfyUI server with the extension, tiny models and the photo."""
    assert tiny.model.is_dir()
    assert photo.is_file()
    with Server(comfyui_path, host_base, "--cpu", *frontend) as running:
        yield running


@pytest.fixture(scope="session")
def another_server(comfyui_path: Path, host_base: Path) -> Iterator[Callable[[], Server]]:
    """`another_server()`: a second one on the same folders, which caches nothing between prompts.

    Started when it is asked for, and anew where a test has killed it.
    """
    with contextlib.ExitStack() as ends:
        running: list[Server] = []

        def start() -> Server:
            process = running[-1].process if running else None
            if process is None or process.poll() is not None:
                log = host_base / "another.log"
                options = ("--cpu", "--cache-none")
                running.append(
                    ends.enter_context(Server(comfyui_path, host_base, *options, log=log))
                )
            return running[-1]

        yield start


@pytest.fixture(scope="session")
def client(server: Server) -> Client:
    """Prompts to the server."""
    return Client(server)
