"""Build the templates of `workflows/` from their API form, with the host's own frontend.

    COMFYUI_PATH=DIR python tests/browser/build_templates.py [NAME...]

`workflows/api` has the graphs, `layouts.json` beside this file their columns and notes: per
column a title, a width and, from top to bottom, node ids of the API form or notes. Needed after a
node got another widget, for widgets are kept by position in a template. Needs Chromium.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from browser.blueprints import (  # noqa: E402
    IDENTITY_COLUMNS,
    IDENTITY_FROM_PHOTO,
    IDENTITY_GRAPH,
    PHOTO_TO_VIDEO,
    TWO_PEOPLE,
    Blueprint,
    fold,
    on_canvas,
)
from browser.pages import open_browser, open_page  # noqa: E402
from browser.wires import route  # noqa: E402
from fantasyid.weights.download.files import FILES  # noqa: E402

API = ROOT / "workflows" / "api"
COLORS = ("#4f8f86", "#3f789e", "#8888AA", "#88AA88", "#b58b2a", "#a4574c")
LEFT, TOP, GAP, COLUMN_GAP, HEAD = 20, 30, 60, 30, 110
# What a node shows needs room that its widgets alone would not take.
HEIGHTS = {
    "CLIPTextEncode": 150, "LoadImage": 360, "LoadVideo": 500,
    "FantasyIDAlignFace": 640, "FantasyIDFaceVertices": 240, "FantasyIDFromPhoto": 650,
    "FantasyIDFuse": 146, "FantasyIDVerticesToMesh": 420, "SaveGLB": 480, "SaveVideo": 400,
    "FantasyIDMultiView": 700, "PreviewImage": 326, "FantasyIDInjectionReport": 440,
    "FantasyIDEditGeometry": 760, "Preview3D": 460, "FantasyIDCombine": 222,
    "FantasyIDInspectIdentity": 560, "FantasyIDMetrics": 720, "FantasyIDDoctor": 400,
    "FantasyIDDownload": 400, "PreviewAny": 620, "FantasyIDCompare": 620, "FantasyIDBestOf": 760,
    "FantasyIDLoadIdentity": 680, "FantasyIDLoader": 500,
    "ContextWindowsManual": 420,
}  # fmt: skip
# What the frontend's bars leave of a window of 1600 x 1000: the corner, and the size.
VISIBLE = (70, 95), (1515, 890)
SHOWN_TEXT = 70  # below the widgets of a node that says what it did
# Where a template's graph has another name in `workflows/api` than the template without its number.
API_NAMES = {
    "02_photo_to_video": "short_photo_to_video",
    "03_photo_to_video_in_one_node": "short_photo_to_video",
    "17_stages": "photo_to_video",
}
# The card of missing models saves a file under the last part of its address: where that is not the
# name that the drop-down expects, the host's own copy, which its VOID blueprint names.
CARD_URLS = {
    "cogvideox_vae.safetensors": "https://huggingface.co/Comfy-Org/void-model/resolve/main/vae/"
    "cogvideox_vae.safetensors",
}
ONE_NODE = "03_photo_to_video_in_one_node"


def api_name(template: str) -> str:
    """The graph in `workflows/api` behind a template: its name without the number, as a rule."""
    return API_NAMES.get(template, template.partition("_")[2])


def link_of(value: str) -> dict[str, str] | None:
    """What the host's own dialog of missing models needs to know of a file."""
    for item in FILES:
        if item.target != value or item.kind == "transformer":
            continue
        owner, name, *path = item.huggingface.split("/") if item.huggingface else ("", "")
        hub = f"https://huggingface.co/{owner}/{name}/resolve/main/{'/'.join(path)}"
        url = CARD_URLS.get(item.target) or (hub if owner else item.url or item.page)
        return {"name": item.target, "url": url, "directory": item.folder}
    return None


BUILD = """async ([api, columns, heights, text, gap, head, left, top, between, colors]) => {
    const app = window.app;
    await app.loadApiJson(api, 'template');
    await new Promise(done => setTimeout(done, 1500));
    const graph = app.graph;
    let x = left;
    columns.forEach(([title, width, items], number) => {
        let y = top + head;
        for (const item of items) {
            let node;
            if (typeof item === 'object') {
                node = window.LiteGraph.createNode('MarkdownNote');
                node.title = item.title || 'Read me';
                node.color = '#432'; node.bgcolor = '#653';
                graph.add(node);
                node.widgets[0].value = item.note;
                node.setSize([width - 40, item.height]);
            } else {
                node = graph._nodes.find(n => String(n.id) === item);
                const own = node.computeSize()[1];
                const speaks = node.type.startsWith('FantasyID') ? text : 0;
                node.setSize([width - 40, Math.max(own + speaks, heights[node.type] || 0)]);
            }
            node.pos = [x + 20, y];
            y += node.size[1] + gap;
        }
        const group = new window.LiteGraph.LGraphGroup(`${number + 1}. ${title}`);
        group.color = colors[number % colors.length];
        group.pos = [x, top];
        group.size = [width, y - top - gap + 40];
        graph.add(group);
        x += width + between;
    });
    const next = graph._nodes.flatMap(n => n.widgets ?? [])
        .filter(w => w.name === 'control_after_generate');
    if (next.length > 1) for (const one of next) one.value = 'fixed'; // compared: the same noise
    return graph.serialize();
}"""


def with_links(graph: dict[str, Any]) -> dict[str, Any]:
    """Say on each loader where its file can be had, for the host's own download dialog."""
    for node in graph["nodes"]:
        for value in node.get("widgets_values") or []:
            if isinstance(value, str) and (link := link_of(value)):
                node.setdefault("properties", {}).setdefault("models", []).append(link)
    if graph.get("floatingLinks") is None:  # 1.58 reads a null as a list, and opens nothing
        graph.pop("floatingLinks", None)
    graph["extra"] = {"ds": opening_view(graph)}
    route(graph)
    return graph


def opening_view(graph: dict[str, Any]) -> dict[str, Any]:
    """Scale and shift at which a window of 1600 x 1000 pixels shows the whole graph."""
    bounds = [group["bounding"] for group in graph["groups"]]
    left, top = (min(b[i] for b in bounds) for i in (0, 1))
    right, bottom = (max(b[i] + b[i + 2] for b in bounds) for i in (0, 1))
    (x, y), (width, height) = VISIBLE
    scale = round(min(1.0, width / (right - left), height / (bottom - top)), 3)
    return {"scale": scale, "offset": [round(x / scale - left, 1), round(y / scale - top, 1)]}


def build(page: Any, api: dict[str, Any], columns: list) -> dict[str, Any]:
    """The template of one graph, on a page without any other."""
    placed = [item for _, _, items in columns for item in items if isinstance(item, str)]
    if sorted(placed) != sorted(api):
        raise ValueError(f"placed nodes {sorted(placed)}, the graph has {sorted(api)}")
    sizes = [HEIGHTS, SHOWN_TEXT, GAP, HEAD, LEFT, TOP, COLUMN_GAP, COLORS]
    return with_links(page.evaluate(BUILD, [api, columns, *sizes]))


def main(names: list[str]) -> None:
    """Build the named templates, or all."""
    from playwright.sync_api import sync_playwright

    from demo.folders import prepare_base
    from demo.server import Server

    comfyui = Path(os.environ.get("COMFYUI_PATH", ROOT / ".host" / "ComfyUI"))
    layouts = json.loads((Path(__file__).parent / "layouts.json").read_text("utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        base = prepare_base(Path(folder))
        with Server(comfyui, base, "--cpu") as server, sync_playwright() as engine:

            def built(name: str, api: dict[str, Any], columns: list) -> dict[str, Any]:
                # Fresh ones each: widgets remember across graphs.
                with (
                    open_browser(engine, base / f"profile_{name}", []) as browser,
                    open_page(browser, server.host.url) as page,
                ):
                    return build(page, api, columns)

            for name in names or sorted(layouts):
                api = json.loads((API / f"{api_name(name)}.json").read_text("utf-8"))
                graph = built(name, api, layouts[name])
                write(ROOT / "workflows" / f"{name}.json", graph)
                if name == "02_photo_to_video":
                    write_blueprint(graph, PHOTO_TO_VIDEO)
                    write(ROOT / "workflows" / f"{ONE_NODE}.json", on_canvas(graph, PHOTO_TO_VIDEO))
                if name == "13_two_people":
                    write_blueprint(graph, TWO_PEOPLE)
            if not names:
                identity = built("identity", IDENTITY_GRAPH, IDENTITY_COLUMNS)
                write_blueprint(identity, IDENTITY_FROM_PHOTO)


def write_blueprint(graph: dict[str, Any], blueprint: Blueprint) -> None:
    """A graph as one node, where the host looks for blueprints."""
    (ROOT / "subgraphs").mkdir(exist_ok=True)
    write(ROOT / "subgraphs" / f"{blueprint.name}.json", fold(graph, blueprint))


def write(path: Path, graph: dict[str, Any]) -> None:
    """A graph as a file that is kept under version control."""
    path.write_text(json.dumps(graph, indent=2, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
