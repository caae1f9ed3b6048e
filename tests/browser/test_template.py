"""A user's first minute: Templates dialog, our template, Run, a video on the node."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from browser.build_templates import api_name
from browser.pages import ARTIFACTS, SMALL_VIDEO, run_graph, set_widgets

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"


def open_template(page, name: str) -> None:
    """Templates dialog -> ComfyUI-FantasyID -> the card."""
    page.evaluate("() => { window.app.extensionManager.command.execute('Comfy.BrowseTemplates') }")
    page.get_by_text("ComfyUI-FantasyID", exact=True).first.click(timeout=180_000)
    card = page.get_by_text(re.compile(rf"^{name}$")).first
    card.wait_for(timeout=180_000)
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / "templates.png")
    card.click(timeout=180_000)
    nodes = json.loads((WORKFLOWS / f"{name}.json").read_text("utf-8"))["nodes"]
    page.wait_for_function(
        "(types) => '' + window.app.graph._nodes.map(n => n.type).sort() === types",
        arg=",".join(sorted(node["type"] for node in nodes)),
        timeout=180_000,
    )
    page.wait_for_timeout(500)


def missing_nodes(page) -> list[str]:
    return page.evaluate(
        """() => window.app.graph._nodes.filter(n => n.has_errors
            || !(n.type in window.LiteGraph.registered_node_types)).map(n => n.type)"""
    )


def test_the_template_runs_and_shows_a_video(page, outside):
    open_template(page, "02_photo_to_video")
    assert missing_nodes(page) == []
    set_widgets(page, SMALL_VIDEO)
    run_graph(page, "template")
    page.evaluate("() => { window.app.extensionManager.command.execute('Comfy.Canvas.FitView') }")
    page.wait_for_timeout(500)
    page.screenshot(path=ARTIFACTS / "photo_to_video.png")
    shown = page.evaluate(
        """() => window.app.graph._nodes.filter(n => n.type === 'SaveVideo')
            .map(n => (window.app.nodeOutputs[n.id]?.images || []).map(i => i.filename))"""
    )
    assert len(shown) == 1
    assert shown[0][0].endswith(".mp4")
    assert outside == []


def test_the_head_turns_in_the_hosts_viewer(page):
    open_template(page, "06_look_at_the_face")
    assert missing_nodes(page) == []
    set_widgets(page, {"size": 256})
    run_graph(page, "template")
    page.evaluate("() => { window.app.extensionManager.command.execute('Comfy.Canvas.FitView') }")
    page.wait_for_timeout(500)
    page.screenshot(path=ARTIFACTS / "look_at_the_face.png")
    shown = page.evaluate(
        """() => window.app.graph._nodes.filter(n => n.type === 'Preview3D')
            .map(n => window.app.nodeOutputs[n.id]?.result?.[0])"""
    )
    assert shown[0].endswith(".glb")


@pytest.mark.parametrize("name", sorted(path.stem for path in WORKFLOWS.glob("*.json")))
def test_the_api_workflow_is_the_same_graph(page, name):
    """The UI's own conversion of a template gives the bundled API workflow."""
    ui = json.loads((WORKFLOWS / f"{name}.json").read_text("utf-8"))
    page.evaluate("async (wf) => { await window.app.loadGraphData(wf, true, true, 'test') }", ui)
    bundled = json.loads((WORKFLOWS / "api" / f"{api_name(name)}.json").read_text("utf-8"))
    found, deadline = [], time.monotonic() + 10
    while found != _by_meaning(bundled, bundled) and time.monotonic() < deadline:
        converted = page.evaluate("async () => (await window.app.graphToPrompt()).output")
        found = _by_meaning(converted, bundled)
        page.wait_for_timeout(50)
    assert found == _by_meaning(bundled, bundled)


def _by_meaning(graph, names):
    """A graph without node ids: class, values and what each link comes from."""
    known = {node["class_type"]: set(node["inputs"]) for node in names.values()}
    described = []
    for node in graph.values():
        inputs = {
            key: (graph[str(value[0])]["class_type"], value[1])
            if isinstance(value, list)
            else value
            for key, value in node["inputs"].items()
            # The UI adds the defaults of hidden widgets.
            if key in known.get(node["class_type"], ())
        }
        described.append((node["class_type"], sorted(inputs.items())))
    return sorted(described, key=repr)
