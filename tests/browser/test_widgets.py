"""What the pack's own script adds to the nodes, in both renderers: pictures to choose, texts."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from identities import make_identity, write_identity
from PIL import Image

from browser.pages import APP_READY, ARTIFACTS, run_graph
from browser.test_layout import SWITCH

ORANGE = (250, 170, 40)  # the frame of a face that is not the chosen one
SAVED = ["people/ada.safetensors [output]", "people/bea.safetensors [output]"]
BUILD = """async ([photo, saved]) => { const { graph, canvas } = window.app;
    graph.clear();
    const add = (kind, place, size) => { const node = window.LiteGraph.createNode(kind);
        node.pos = place; graph.add(node); node.setSize(size); return node; };
    const picture = add('LoadImage', [100, 140], [260, 340]);
    picture.widgets[0].value = photo;
    const align = add('FantasyIDAlignFace', [400, 140], [760, 780]);
    picture.connect(0, align, 0);
    add('PreviewImage', [1560, 700], [160, 200]);
    align.connect(1, graph._nodes[2], 0);
    const load = add('FantasyIDLoadIdentity', [1200, 140], [320, 420]);
    load.widgets[0].value = saved;
    const inspect = add('FantasyIDInspectIdentity', [1560, 140], [200, 480]);
    load.connect(0, inspect, 0);
    await window.app.loadGraphData(graph.serialize(), true, true, 'widgets');
    canvas.ds.scale = 1; canvas.ds.offset = [0, 0]; }"""
TEXTS = """() => Object.fromEntries(window.app.graph._nodes.map(node => [node.type,
    node.widgets?.find(w => w.name === 'fantasyid_text')?.element.textContent ?? '']))"""
# What is cut off although it is no ten lines long: longer texts are scrolled.
CUT = """() => window.app.graph._nodes.map(n => n.widgets?.find(w => w.name === 'fantasyid_text'))
    .filter(w => w && w.element.scrollHeight > w.element.clientHeight
        && w.element.clientHeight < 150)
    .map(w => w.element.textContent)"""
# The photo of the picture on the node, twice as large, so that frames are lines of full color.
CLOSE = """() => { const { canvas } = window.app; canvas.ds.scale = 2;
    canvas.ds.offset = [-350, -450]; canvas.setDirty(true, true); }"""
WIDGET = """([kind, name]) => window.app.graph._nodes.find(n => n.type === kind)
    .widgets.find(w => w.name === name).value"""
PAINTED = """() => [...document.querySelectorAll('.fantasyid-identities [title^=people] canvas')]
    .map(c => [...c.getContext('2d').getImageData(0, 0, 128, 128).data]
        .filter((_, i) => i % 4 < 3))"""


def shown(page) -> dict[str, str]:
    """What the three nodes of ours say."""
    texts = page.evaluate(TEXTS)
    return {kind: text for kind, text in texts.items() if kind.startswith("FantasyID")}


def marked_face(page, left: int, right: int) -> tuple[float, float]:
    """The middle of the lower side of the orange frame between two columns of the screen."""
    seen = np.array(Image.open(BytesIO(page.screenshot())).convert("RGB")).astype(int)
    orange = np.abs(seen[:, left:right] - ORANGE).max(-1) < 40
    longest = orange.sum(1) > orange.sum(1).max() / 2
    bottom = int(np.flatnonzero(longest).max())
    columns = np.flatnonzero(orange[bottom])
    assert len(columns) > 40, "no frame of a second face in the picture"
    return left + float(columns.mean()), bottom - 12.0


@pytest.fixture(scope="module")
def two_people(host_base, photo) -> str:
    """A photo of two faces in the input folder."""
    with Image.open(photo) as whole:
        one = whole.convert("RGB").crop((80, 0, 380, 300))
    both = Image.new("RGB", (600, 300))
    both.paste(one, (0, 0))
    both.paste(one, (300, 0))
    both.save(host_base / "input" / "two.png")
    return "two.png"


@pytest.fixture(scope="module")
def saved(host_base) -> list:
    """Two identities in a subfolder of the output folder."""
    people = [make_identity(37), make_identity(41)]
    (host_base / "output" / "people").mkdir(parents=True, exist_ok=True)
    for name, person in zip(SAVED, people, strict=True):
        write_identity(host_base / "output" / name.removesuffix(" [output]"), person)
    return people


@pytest.mark.parametrize("vue", [False, True], ids=["classic", "vue"])
def test_pictures_choose_and_texts_stay(saved, page, two_people, vue):
    ARTIFACTS.mkdir(exist_ok=True)
    page.evaluate(SWITCH, vue)
    page.evaluate("async () => { await window.app.refreshComboInNodes(); }")
    page.evaluate(BUILD, [two_people, SAVED[0]])
    # A picture for each saved identity, and a click takes it.
    page.wait_for_function(f"() => ({PAINTED})().length === 2", timeout=60_000)
    page.wait_for_function(f"() => ({PAINTED})().every(p => p.some(v => v))", timeout=60_000)
    for pixels, person in zip(page.evaluate(PAINTED), saved, strict=True):
        assert np.array_equal(pixels, (person.thumbnail * 255).round().flatten().int().tolist())
    page.locator(f".fantasyid-identities [title='{SAVED[1]}']").click()
    assert page.evaluate(WIDGET, ["FantasyIDLoadIdentity", "file"]) == SAVED[1]
    # The chosen one and the face are loaded, and every node says so.
    run_graph(page, "widgets")
    page.wait_for_timeout(3000)
    page.screenshot(path=ARTIFACTS / f"widgets_{'vue' if vue else 'classic'}.png")
    assert page.evaluate(CUT) == []
    before = shown(page)
    assert "photo 41" in before["FantasyIDLoadIdentity"]
    taken = int(before["FantasyIDAlignFace"][len("Face ")])
    assert before["FantasyIDAlignFace"].startswith(f"Face {taken} of 2")
    # A click on the other face in the picture takes that one.
    page.evaluate(CLOSE)
    page.wait_for_timeout(1500)
    page.mouse.click(*marked_face(page, 100, 1110))
    assert page.evaluate(WIDGET, ["FantasyIDAlignFace", "choose"]) == "left to right"
    assert page.evaluate(WIDGET, ["FantasyIDAlignFace", "index"]) == 1 - taken
    run_graph(page, "widgets")
    page.wait_for_timeout(1000)
    said = shown(page)
    assert said["FantasyIDAlignFace"].startswith(f"Face {1 - taken} of 2")
    # The page is loaded anew: nothing ran, and then nothing runs but what the host has kept.
    page.once("dialog", lambda dialog: dialog.accept())
    page.reload(wait_until="domcontentloaded")
    page.wait_for_function(APP_READY, timeout=180_000)
    page.wait_for_function(
        f"() => Object.values(({TEXTS})()).filter(t => t).length === 3", timeout=60_000
    )
    assert shown(page) == said
    page.screenshot(path=ARTIFACTS / f"widgets_{'vue' if vue else 'classic'}_reloaded.png")
    run_graph(page, "widgets")
    page.wait_for_timeout(1000)
    assert shown(page) == said
