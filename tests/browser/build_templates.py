"""Build the templates of `workflows/` from their API form, with the host's own frontend.

    COMFYUI_PATH=DIR python tests/browser/build_templates.py [NAME...]

`workflows/api/NAME.json` has the graph, `layouts.json` beside this file its columns and notes: per
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

from browser.pages import open_page  # noqa: E402

COLORS = ("#4f8f86", "#3f789e", "#8888AA", "#88AA88", "#b58b2a", "#a4574c")
LEFT, TOP, GAP, COLUMN_GAP, HEAD = 20, 30, 70, 40, 90
# What a node shows needs room that its widgets alone would not take.
HEIGHTS = {
    "CLIPTextEncode": 190, "LoadImage": 402, "LoadVideo": 382,
    "FantasyIDAlignFace": 620, "FantasyIDFaceVertices": 284,
    "FantasyIDFuse": 146, "FantasyIDVerticesToMesh": 302, "SaveGLB": 532, "SaveVideo": 430,
    "FantasyIDMultiView": 700, "PreviewImage": 326, "FantasyIDInjectionReport": 360,
    "FantasyIDEditGeometry": 760, "Preview3D": 500, "FantasyIDCombine": 222,
    "FantasyIDInspectIdentity": 420, "FantasyIDMetrics": 620, "FantasyIDDoctor": 420,
    "FantasyIDDownload": 520, "PreviewAny": 620,
}  # fmt: skip
SHOWN_TEXT = 70  # below the widgets of a node that says what it did
LINKS = {
    "EVA02_CLIP_L_336_psz14_s6B.pt": (
        "https://huggingface.co/QuanSun/EVA-CLIP/resolve/main/EVA02_CLIP_L_336_psz14_s6B.pt",
        "fantasyid",
    ),
    "t5xxl_fp16.safetensors": (
        "https://huggingface.co/comfyanonymous/flux_text_encoders/resolve/main/"
        "t5xxl_fp16.safetensors",
        "text_encoders",
    ),
    "cogvideox_vae.safetensors": (
        "https://huggingface.co/THUDM/CogVideoX-5b-I2V/resolve/main/vae/"
        "diffusion_pytorch_model.safetensors",
        "vae",
    ),
}
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
    return graph.serialize();
}"""


def with_links(graph: dict[str, Any]) -> dict[str, Any]:
    """Say on each loader where its file can be had, for the host's own download dialog."""
    for node in graph["nodes"]:
        for value in node.get("widgets_values") or []:
            if isinstance(value, str) and (link := LINKS.get(value.rsplit("/", 1)[-1])):
                url, folder = link
                model = {"name": value, "url": url, "directory": folder}
                node.setdefault("properties", {})["models"] = [model]
    graph["extra"] = {}
    return graph


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
            for name in names or sorted(layouts):
                api = json.loads((ROOT / "workflows/api" / f"{name}.json").read_text("utf-8"))
                # A fresh page each: widgets remember across graphs.
                with open_page(engine, server.host.url, base / f"profile_{name}", []) as page:
                    graph = build(page, api, layouts[name])
                target = ROOT / "workflows" / f"{name}.json"
                target.write_text(json.dumps(graph, indent=2, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
