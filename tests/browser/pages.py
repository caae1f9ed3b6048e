"""The host's web UI in the system's Chromium, without a way to anything but this machine."""

from __future__ import annotations

import shutil
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ARTIFACTS = Path(__file__).resolve().parents[1] / "artifacts"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
APP_READY = """() => window.app && window.app.graph && window.app.extensionManager
    && window.LiteGraph && Object.keys(window.LiteGraph.registered_node_types).length > 100"""


def chromium() -> str | None:
    """The system's Chromium; a browser is never downloaded."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next(filter(None, map(shutil.which, names)), None)


@contextmanager
def open_browser(engine: Any, profile: Path, outside: list[str]) -> Iterator[Any]:
    """A Chromium that reaches this machine alone.

    Args:
        engine: what `sync_playwright` gives.
        profile: an empty folder for the browser.
        outside: receives the addresses that pages asked for elsewhere.
    """
    context = engine.chromium.launch_persistent_context(
        profile,
        executable_path=chromium(),
        args=list(FLAGS),
        viewport={"width": 1800, "height": 1000},
    )

    def route(route: Any) -> None:
        if urllib.parse.urlparse(route.request.url).hostname in ("127.0.0.1", None):
            route.continue_()
        else:
            outside.append(route.request.url)
            route.abort()

    context.route("**/*", route)
    yield context
    context.close()


@contextmanager
def open_page(browser: Any, url: str) -> Iterator[Any]:
    """The UI of the server at an address in a page of its own, ready to use."""
    page = browser.new_page()
    page.goto(url, wait_until="domcontentloaded")
    page.wait_for_function(APP_READY, timeout=180_000)
    page.wait_for_timeout(1500)
    yield page
    page.close()


WATCH_ENDINGS = """() => { window.__endings = [];
    for (const name of ['execution_success', 'execution_error', 'execution_interrupted'])
        window.app.api.addEventListener(name, event => window.__endings.push([name, event.detail]));
}"""
# What a user would type into the widgets to get a small video quickly.
SMALL_VIDEO = {"width": 96, "height": 64, "length": 9, "steps": 2, "probe_steps": 1, "takes": 2}
SET_WIDGETS = """(values) => { for (const node of window.app.graph._nodes)
    if (node.subgraph || node.type.startsWith('FantasyID'))
        for (const widget of node.widgets || [])
            if (widget.name in values) widget.value = values[widget.name]; }"""


def set_widgets(page: Any, values: dict[str, Any]) -> None:
    """Give widgets of our nodes and blueprints other values, by name."""
    page.evaluate(SET_WIDGETS, values)


def run_graph(page: Any, name: str) -> None:
    """Press Run and wait for the end, which must be a good one."""
    page.evaluate(WATCH_ENDINGS)
    page.evaluate("async () => await window.app.queuePrompt(0, 1)")
    refused = page.evaluate("() => window.app.lastNodeErrors")
    assert not refused, (name, refused)  # nothing runs then, and nothing ends
    page.wait_for_function("() => window.__endings.length > 0", timeout=600_000)
    ending, detail = page.evaluate("() => window.__endings[0]")
    assert ending == "execution_success", (name, detail)
