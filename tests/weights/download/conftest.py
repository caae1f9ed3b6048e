"""Every test here may have the server, and none a proxy."""

from __future__ import annotations

import pytest
from weights.download.file_server import FileServer, running, web  # noqa: F401 (fixtures)
from weights.download.one_file import remote, small_pieces, target  # noqa: F401 (fixtures)


@pytest.fixture(autouse=True)
def own_environment(web: FileServer) -> None:  # noqa: F811 (the fixture)
    """What the machine says about proxies and hubs does not reach the tests."""
    del web
