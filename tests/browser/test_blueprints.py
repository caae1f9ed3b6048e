"""The blueprints as a user has them: found in the node search, put on the canvas, run."""

from __future__ import annotations

import pytest

from browser.pages import ARTIFACTS, SMALL_VIDEO, run_graph, set_widgets

TERMS = (
    "face", "identity", "ip adapter", "photo to video", "reference face", "consistent character",
    "talking person", "FantasyID",
)  # fmt: skip
WAYS_IN = {
    "FantasyID Identity from Photo",
    "Load FantasyID (all in one)",
    "Photo to Video (FantasyID)",
}
FOUND = """() => [...document.querySelectorAll('[data-testid=result-item]')]
    .map(item => item.innerText.split('\\n')[0])"""
# Photos into what takes pictures, and a node that shows or saves behind each output that has one.
CONNECT = """(photo) => {
    const graph = window.app.graph, node = graph._nodes.find(n => n.subgraph);
    const behind = { VIDEO: 'SaveVideo', IMAGE: 'PreviewImage' };
    node.inputs.forEach((input, slot) => {
        if (input.type !== 'IMAGE') return;
        const picture = window.LiteGraph.createNode('LoadImage');
        graph.add(picture);
        picture.widgets[0].value = photo;
        picture.connect(0, node, slot);
    });
    node.outputs.forEach((output, slot) => {
        if (!(output.type in behind)) return;
        const shown = window.LiteGraph.createNode(behind[output.type]);
        graph.add(shown);
        node.connect(slot, shown, 0);
    });
    return [graph._nodes.length, node.inputs.length]; }"""
SHOWN = """() => Object.values(window.app.nodeOutputs)
    .flatMap(output => (output.images || []).map(file => file.filename))"""


def search(page, words: str) -> list[str]:
    """What the search lists once it lists anything."""
    before = page.evaluate(FOUND)
    page.get_by_role("combobox", name="Add a node...").fill(words)
    page.wait_for_function(
        f"(before) => {{ const now = ({FOUND})(); return now.length && '' + now !== before; }}",
        arg=",".join(before),
        timeout=60_000,
    )
    return page.evaluate(FOUND)


def open_search(page) -> None:
    page.evaluate("() => { window.app.graph.clear(); }")
    page.evaluate(
        "() => { window.app.extensionManager.command.execute('Workspace.SearchBox.Toggle') }"
    )
    page.get_by_role("combobox", name="Add a node...").wait_for(timeout=60_000)


def test_the_way_in_is_found_under_what_people_type(page):
    open_search(page)
    lost = [words for words in TERMS if not WAYS_IN & set(search(page, words))]
    assert lost == []
    page.keyboard.press("Escape")


@pytest.mark.parametrize(
    ("name", "most_nodes", "most_inputs", "ending"),
    [
        ("Photo to Video (FantasyID)", 6, 8, ".mp4"),
        ("Two People to Video (FantasyID)", 9, 8, ".mp4"),
        ("Identity from Photo (FantasyID)", 6, 8, ".png"),
    ],
)
def test_a_blueprint_runs(page, photo, name, most_nodes, most_inputs, ending):
    open_search(page)
    assert name in search(page, name)
    page.get_by_test_id("result-item").filter(has_text=name).first.click()
    page.mouse.click(800, 500)
    page.wait_for_function("() => window.app.graph._nodes.some(n => n.subgraph)", timeout=60_000)
    nodes, inputs = page.evaluate(CONNECT, photo.name)
    assert nodes <= most_nodes
    assert inputs <= most_inputs
    set_widgets(page, SMALL_VIDEO)
    run_graph(page, name)
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"blueprint_{name.partition(' (')[0]}.png")
    assert any(file.endswith(ending) for file in page.evaluate(SHOWN))
