"""Begin the words of new nodes from their schemas: the help page, and what is to be translated.

    COMFYUI_PATH=/path/to/ComfyUI python tools/new_node_words.py [LANGUAGE]

A help page is begun where there is none: inputs and outputs with their tooltips, to be written out
by hand. With a LANGUAGE, such as zh, its locale gets the English words of every node that it lacks,
to be translated. English needs no locale: ComfyUI shows the words of the schema.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOCALES, PAGES = ROOT / "locales", ROOT / "web" / "docs"


def words_of(schema: Any) -> dict[str, Any]:
    """What a locale entry must say.

    Args:
        schema: What `GET_SCHEMA()` of a node returns. A socket that grows has the tooltip of the
            sockets that it grows.

    Returns:
        `display_name`, `description`, `inputs` by id and `outputs` by number.
    """

    def words(socket: Any, tooltip: str | None) -> dict[str, str]:
        return {"name": socket.display_name or socket.id} | (
            {"tooltip": tooltip} if tooltip else {}
        )

    def grown(socket: Any) -> str | None:
        return getattr(getattr(getattr(socket, "template", None), "input", None), "tooltip", None)

    return {
        "display_name": schema.display_name,
        "description": schema.description,
        "inputs": {i.id: words(i, i.tooltip or grown(i)) for i in schema.inputs},
        "outputs": {str(n): words(o, o.tooltip) for n, o in enumerate(schema.outputs)},
    }


def help_page(words: dict[str, Any]) -> str:
    """The first draft of a help page, in Markdown, from the words of `words_of`."""
    lines = [f"# {words['display_name']}", "", words["description"]]
    for title, kind in (("Inputs", "inputs"), ("Outputs", "outputs")):
        names = {key if kind == "inputs" else w["name"]: w for key, w in words[kind].items()}
        if names:
            lines += ["", f"## {title}", ""]
            lines += [f"- **`{k}`**: {w.get('tooltip', w['name'])}" for k, w in names.items()]
    return "\n".join(lines) + "\n"


def load_schemas(comfyui: Path) -> dict[str, Any]:
    """Node id to schema of all nodes, in the order in which they are registered."""
    sys.path.insert(0, str(comfyui))
    sys.argv = ["main.py", "--cpu"]
    importlib.import_module("comfy.options").enable_args_parsing()
    spec = importlib.util.spec_from_file_location(
        "fantasyid_pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None
    assert spec.loader is not None
    pack = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)
    nodes = importlib.import_module("fantasyid_pack.nodes")
    asyncio.run(nodes.FantasyIDExtension().on_load())
    return {node.GET_SCHEMA().node_id: node.GET_SCHEMA() for node in nodes.NODES}


def main() -> int:
    """Write what is missing, and say what was written."""
    languages = sys.argv[1:]
    comfyui = Path(os.environ.get("COMFYUI_PATH", ROOT / ".host" / "ComfyUI"))
    if not (comfyui / "main.py").is_file():
        sys.stderr.write(f"There is no ComfyUI in {comfyui}: set COMFYUI_PATH.\n")
        return 2
    words = {node: words_of(schema) for node, schema in load_schemas(comfyui).items()}
    for language in languages:
        path = LOCALES / language / "nodeDefs.json"
        there = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        path.parent.mkdir(exist_ok=True)
        found = there | {node: entry for node, entry in words.items() if node not in there}
        path.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", "utf-8")
    for node, entry in words.items():
        page = PAGES / node / "en.md"
        if not page.is_file():
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(help_page(entry), "utf-8")
            sys.stdout.write(f"{page.relative_to(ROOT)}: write it out by hand\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
