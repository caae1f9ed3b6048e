"""The stages of the tiny model on the real host, each run once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from compatibility import Measured
from host_graph import align, conditioning, load_parts, make_identity


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
