"""One Chromium for this folder: while it is open, no other event loop can run."""

from __future__ import annotations

import importlib
import os

import pytest

from browser.pages import chromium, open_browser, open_page


@pytest.fixture(scope="package")
def outside() -> list[str]:
    """Requests that the page made to anything but the server on this machine."""
    return []


@pytest.fixture(scope="package")
def window(tmp_path_factory, outside):
    """The system's Chromium; skipped where there is none, unless one is asked for."""
    missing = pytest.fail if os.environ.get("FANTASYID_REQUIRE_BROWSER") else pytest.skip
    if chromium() is None:
        missing("no Chromium on the PATH")
    try:
        playwright = importlib.import_module("playwright.sync_api")
    except ImportError:
        missing("playwright is absent")
    profile = tmp_path_factory.mktemp("profile")
    with (
        playwright.sync_playwright() as engine,
        open_browser(engine, profile, outside) as opened,
    ):
        yield opened


@pytest.fixture(scope="module")
def page(window, server):
    """The web UI of the real server, as it comes for the first time."""
    with open_page(window, server.host.url) as opened:
        yield opened
