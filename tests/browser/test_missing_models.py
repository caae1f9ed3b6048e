"""The host's own list of missing models, on a fresh install: names, folders, addresses."""

from __future__ import annotations

import json

import pytest

from browser.build_templates import link_of
from browser.pages import ARTIFACTS, open_page
from browser.test_layout import ROOT, TEMPLATES, template
from demo.folders import prepare_base
from demo.server import Server
from fantasyid.weights.download.files import FILES

# What the host's list takes for a model, and from where it fetches.
SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pth", ".pt")
HUB = "https://huggingface.co/"
ASKED = """() => { window.__asked = []; HTMLAnchorElement.prototype.click = function () {
    window.__asked.push([this.download, this.href]); }; }"""
OPEN = "async (graph) => { await window.app.loadGraphData(graph, true, true, 'template'); }"


def nodes_of(graph: dict) -> list[dict]:
    inside = (graph.get("definitions") or {}).get("subgraphs", [])
    return [*graph["nodes"], *(node for one in inside for node in one["nodes"])]


def fetchable(graph: dict) -> dict[str, dict]:
    """What the list can fetch of what the nodes name."""
    links = [link for node in nodes_of(graph) for link in node["properties"].get("models", [])]
    return {
        link["name"]: link
        for link in links
        if link["name"].endswith(SUFFIXES) and link["url"].startswith(HUB)
    }


@pytest.mark.parametrize(
    "path", [*TEMPLATES, *sorted((ROOT / "subgraphs").glob("*.json"))], ids=str
)
def test_every_file_that_a_widget_names_is_linked(path):
    graph = template(path) if isinstance(path, str) else json.loads(path.read_text("utf-8"))
    known = {item.target for item in FILES if item.kind != "transformer"}
    for node in nodes_of(graph):
        values = node.get("widgets_values") or []
        named = [v for v in values if isinstance(v, str) and v in known]
        assert node["properties"].get("models", []) == [link_of(name) for name in named]
    for name, link in fetchable(graph).items():
        assert link["url"].endswith(f"/{name}"), "a browser saves it under the last part"


@pytest.fixture(scope="module")
def bare_page(window, comfyui_path, tmp_path_factory, frontend):
    """The web UI of a server whose models folder is empty."""
    base = prepare_base(tmp_path_factory.mktemp("bare"))
    with (
        Server(comfyui_path, base, "--cpu", *frontend) as server,
        open_page(window, server.host.url) as page,
    ):
        yield page


def test_the_list_offers_all_that_can_be_fetched(bare_page):
    graph = template("02_photo_to_video")
    wanted = fetchable(graph)
    assert len(wanted) == 3
    bare_page.evaluate(ASKED)
    bare_page.evaluate(OPEN, graph)
    bare_page.get_by_test_id("error-overlay-see-errors").click(timeout=60_000)
    rows = bare_page.get_by_test_id("missing-model-importable-rows").inner_text(timeout=60_000)
    ARTIFACTS.mkdir(exist_ok=True)
    bare_page.screenshot(path=ARTIFACTS / "missing_models.png")
    lines = rows.split("\n")
    for name, link in wanted.items():
        assert lines[lines.index(name) + 1] == link["directory"]
    bare_page.get_by_test_id("missing-model-download-all").click()
    asked = bare_page.evaluate("() => window.__asked")
    assert sorted(asked) == sorted([name, link["url"]] for name, link in wanted.items())
