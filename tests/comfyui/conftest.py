"""The stages of the tiny model on the real host, each run once."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from compatibility import Measured
from host_graph import align, apply, conditioning, load_base, load_parts, make_identity, sample


@pytest.fixture(scope="session")
def compatible() -> Iterator[Callable[..., None]]:
    """`compatible("EasyCache", "3 of 8 steps")`, last in a test, for docs/compatibility.md."""
    measured = Measured()
    yield measured.note
    measured.save()


@pytest.fixture(scope="session")
def photo_image():
    skimage_data = pytest.importorskip("skimage.data", reason="scikit-image is absent")
    return torch.from_numpy(skimage_data.astronaut()).float()[None] / 255


@pytest.fixture(scope="session")
def loaded(host):
    return load_parts(host)


@pytest.fixture(scope="session")
def aligned(host, photo_image):
    return align(host, photo_image)


@pytest.fixture(scope="session")
def identity(host, loaded, aligned):
    return make_identity(host, loaded, aligned[0])


@pytest.fixture(scope="session")
def conditioned(host, loaded, aligned):
    return conditioning(host, loaded, aligned[0])


@pytest.fixture(scope="session")
def native(host):
    """The base as the host's own loader gives it; nothing of ours is on it."""
    return load_base(host)


@pytest.fixture(scope="session")
def with_identity(host, loaded, identity):
    return apply(host, loaded, identity)


@pytest.fixture(scope="session")
def expected(host, with_identity, conditioned):
    """Three steps with an identity and nothing else."""
    return sample(host, with_identity, conditioned)


@pytest.fixture(scope="session")
def without(host, loaded, conditioned):
    """Three steps of our MODEL with no identity."""
    return sample(host, loaded["model"], conditioned)


@pytest.fixture(scope="session")
def other_person(host, loaded, photo_image):
    return make_identity(host, loaded, photo_image.flip(2).pow(2.0))


class StopButton:
    """The host's, and what a run that it stopped raises."""

    def __init__(self, management: Any) -> None:
        self._management = management

    def press(self, *_: Any) -> None:
        self._management.interrupt_current_processing(True)

    def stops(self) -> Any:
        return pytest.raises(self._management.InterruptProcessingException)


@pytest.fixture
def stop_button(host) -> Iterator[StopButton]:
    """Whatever is left of a press is taken away after the test."""
    assert host
    management = importlib.import_module("comfy.model_management")
    yield StopButton(management)
    management.interrupt_current_processing(False)


@pytest.fixture
def arcface(host_base) -> Iterator[Path]:
    """A tiny recognizer in the place of AuraFace, for one test."""
    pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    from face.tiny_arcface import write_arcface

    folder = host_base / "models" / "insightface" / "models" / "auraface"
    write_arcface(folder / "glintr100.onnx")
    yield folder / "glintr100.onnx"
    shutil.rmtree(folder)
