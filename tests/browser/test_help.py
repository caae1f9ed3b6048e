"""The help page of a node as a user sees it: words and picture."""

from __future__ import annotations

import pytest

from browser.pages import ARTIFACTS

# The place of the node's title on the screen, where a user clicks to select it.
ADD_NODE = """node_id => { const { graph, canvas } = window.app; graph.clear();
    const node = window.LiteGraph.createNode(node_id); node.pos = [500, 300]; graph.add(node);
    canvas.ds.scale = 1; canvas.ds.offset = [0, 0]; canvas.setDirty(true, true);
    const area = canvas.canvas.getBoundingClientRect();
    return [area.left + 600, area.top + 285]; }"""
PICTURES = """() => [...document.querySelectorAll('img')]
    .filter(image => image.src.includes('/docs/images/'))
    .map(image => [new URL(image.src).pathname, image.complete, image.naturalWidth])"""


@pytest.mark.parametrize(
    ("node_id", "picture"),
    [("FantasyIDAverageGeometry", "average_geometry"), ("FantasyIDAlignFace", "align_face")],
)
def test_the_help_page_shows_its_picture(page, outside, node_id, picture):
    title = page.evaluate(ADD_NODE, node_id)
    page.wait_for_timeout(1000)
    page.mouse.click(*title)
    page.get_by_test_id("info-button").click()
    path = f"/extensions/ComfyUI-FantasyID/docs/images/{picture}.jpg"
    page.wait_for_function(f"() => ({PICTURES})().some(([path]) => path === '{path}')")
    page.wait_for_function(f"() => ({PICTURES})().every(([, complete]) => complete)")
    assert page.evaluate(PICTURES) == [[path, True, 640]]
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"help_{picture}.png")
    assert outside == []
