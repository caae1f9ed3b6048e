"""The host matrix: models with an identity, and what they give alone."""

from __future__ import annotations

import pytest
from host_graph import apply, sample


@pytest.fixture(scope="session")
def native(host):
    """The base as the host's own loader gives it; nothing of ours is on it."""
    name = "cogvideox_5b_i2v.safetensors"
    return host.run("UNETLoader", unet_name=name, weight_dtype="default")[0]


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
