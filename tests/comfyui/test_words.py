"""The words that ship in `locales/en` are those of the nodes, and no socket is without them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCALES, DOCS = ROOT / "locales", ROOT / "web" / "docs"


def words_of(schema: Any) -> dict[str, Any]:
    """What a locale entry must say, from a node's schema.

    A socket that grows has the tooltip of the sockets that it grows.
    """

    def tooltip(socket: Any) -> str | None:
        grown = getattr(getattr(socket, "template", None), "input", None)
        return socket.tooltip or getattr(grown, "tooltip", None)

    def words(name: str, text: str | None) -> dict[str, str]:
        return {"name": name} | ({"tooltip": text} if text else {})

    return {
        "display_name": schema.display_name,
        "description": schema.description,
        "inputs": {i.id: words(i.display_name or i.id, tooltip(i)) for i in schema.inputs},
        "outputs": {
            str(number): words(output.display_name or output.id, output.tooltip)
            for number, output in enumerate(schema.outputs)
        },
    }


@pytest.fixture(scope="module")
def spoken(host) -> dict[str, Any]:
    """Node id -> what the nodes say, as the host has them."""
    nodes = host.nodes.NODE_CLASS_MAPPINGS
    return {
        name: words_of(node.GET_SCHEMA())
        for name, node in nodes.items()
        if name.startswith("FantasyID")
    }


def locale(language: str) -> dict[str, Any]:
    return json.loads((LOCALES / language / "nodeDefs.json").read_text("utf-8"))


def test_the_english_locale_says_what_the_nodes_say(spoken):
    english = locale("en")
    assert sorted(english) == sorted(spoken)
    different = {name: (english[name], spoken[name]) for name in spoken}
    assert {name: pair for name, pair in different.items() if pair[0] != pair[1]} == {}


def test_the_chinese_locale_has_the_same_entries(spoken):
    def entries(node: dict[str, Any]) -> list[tuple[str, str, list[str]]]:
        """Which sockets there are, and which words each one has."""
        return [
            (kind, name, sorted(words))
            for kind in ("inputs", "outputs")
            for name, words in node[kind].items()
        ]

    chinese = locale("zh")
    assert {name: entries(node) for name, node in chinese.items()} == {
        name: entries(node) for name, node in spoken.items()
    }


def test_every_node_and_every_input_explains_itself(spoken):
    silent = [f"{name}: description" for name, node in spoken.items() if not node["description"]]
    silent += [
        f"{name}.{socket}"
        for name, node in spoken.items()
        for socket, words in node["inputs"].items()
        if len(words.get("tooltip", "")) < 15
    ]
    assert silent == []


def test_every_node_is_found_by_other_words(host, spoken):
    nodes = host.nodes.NODE_CLASS_MAPPINGS
    assert [name for name in spoken if not nodes[name].GET_SCHEMA().search_aliases] == []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_host_serves_names_and_categories(server, language):
    served = server.host.get("/i18n")[language]
    for node, words in locale(language).items():
        assert served["nodeDefs"][node] == words
    main = json.loads((LOCALES / language / "main.json").read_text("utf-8"))
    assert main["nodeCategories"].items() <= served["nodeCategories"].items()


def test_the_host_serves_every_help_page(server):
    pages = sorted(DOCS.glob("*/*.md"))
    assert len(pages) == 2 * len(locale("en"))
    for page in pages:
        path = f"/extensions/ComfyUI-FantasyID/docs/{page.parent.name}/{page.name}"
        assert server.host.request("GET", path).content == page.read_bytes()
