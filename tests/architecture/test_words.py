"""Every node has its words: help page and locale entry in each language, and a workflow."""

from __future__ import annotations

import ast
import json
import re
from functools import cache

import pytest
from architecture.node_words import NodeWords, nodes_by_class, registered_nodes
from architecture.sources import ROOT, package_sources

LANGUAGES = ("en", "zh")
DOCS = ROOT / "web" / "docs"
SHORTEST, LONGEST = 25, 60
ERROR_TITLES = {"en": "## Errors", "zh": "## 报错"}
CHINESE = re.compile(r"[\u4e00-\u9fff]")
# The frontend has words of its own for these, which a pack should not replace for everybody.
CATEGORIES_OF_THE_HOST = {"loaders", "sampling"}
# Run once by hand, before there is a graph; or on a LoRA, which only its user has.
RUN_BY_HAND = {"FantasyIDConvert", "FantasyIDLoraLoader"}

NODES = registered_nodes()
WORDS = nodes_by_class()

each_node = pytest.mark.parametrize("node", [WORDS[name] for name in NODES], ids=NODES)
each_language = pytest.mark.parametrize("language", LANGUAGES)


def page(node: NodeWords, language: str) -> str:
    return (DOCS / node.node_id / f"{language}.md").read_text("utf-8")


@cache
def locale(language: str, name: str = "nodeDefs") -> dict:
    return json.loads((ROOT / "locales" / language / f"{name}.json").read_text("utf-8"))


def api_workflows() -> dict[str, dict]:
    files = sorted((ROOT / "workflows" / "api").glob("*.json"))
    return {file.name: json.loads(file.read_text("utf-8")) for file in files}


@cache
def spoken() -> str:
    """Every text in the package in one, with a `…` for each part that is filled in later."""
    texts = []
    for source in package_sources():
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (p.value if isinstance(p, ast.Constant) else "…" for p in node.values)
                texts.append("".join(str(part) for part in parts))
    return "\n".join(texts)


def quoted_errors(text: str, language: str) -> list[str]:
    """The messages that a help page quotes: the code before the first colon of each item."""
    section = text.split(ERROR_TITLES[language], 1)[-1].split("\n## ", 1)[0]
    items = [" ".join(item.split()) for item in section.split("\n- ")[1:]]
    colon = {"en": "`: ", "zh": "`："}[language]
    heads = [item.split(colon)[0] + "`" * (colon in item) for item in items]
    spans = [span for head in heads for span in re.findall(r"`([^`]+)`", head)]
    return [span for span in spans if " " in span or "…" in span]


def unspoken(message: str) -> list[str]:
    """Parts of a quoted message, between its `…`, that no text of the package holds."""
    parts = (part.strip(" .,:;") for part in message.split("…"))
    return [part for part in parts if part not in spoken()]


def test_every_node_class_is_registered_under_its_name():
    assert sorted(NODES) == sorted(WORDS)
    assert {name: words.node_id for name, words in WORDS.items()} == {n: n for n in WORDS}


@each_node
def test_execute_takes_what_the_sockets_give(node):
    if node.complete:
        assert sorted(node.execute_inputs) == sorted(node.inputs)
    assert set(node.inputs) <= set(node.execute_inputs)


@each_language
def test_there_are_words_for_the_nodes_and_for_nothing_else(language):
    assert sorted(locale(language)) == sorted(NODES)
    pages = [path.parent.name for path in DOCS.glob(f"*/{language}.md")]
    assert sorted(pages) == sorted(NODES)


@each_node
@each_language
def test_the_locale_names_every_socket(node, language):
    entry = locale(language)[node.node_id]
    assert [name for name in entry["inputs"] if name in node.inputs] == list(node.inputs)
    assert not node.complete or len(entry["inputs"]) == len(node.inputs)
    assert list(entry["outputs"]) == [str(i) for i in range(len(node.outputs))]
    texts = [entry["display_name"], entry["description"]]
    texts += [socket["name"] for socket in (*entry["inputs"].values(), *entry["outputs"].values())]
    texts += [socket["tooltip"] for socket in entry["inputs"].values()]
    assert all(text.strip() for text in texts)


@each_node
def test_the_locales_are_in_two_languages(node):
    english, chinese = (locale(language)[node.node_id] for language in LANGUAGES)
    for text in (chinese["description"], *(s["tooltip"] for s in chinese["inputs"].values())):
        assert CHINESE.search(text), text
    assert not CHINESE.search(json.dumps(english, ensure_ascii=False))


@each_language
def test_every_category_has_a_name(language):
    names = locale(language, "main")["nodeCategories"]
    texts = "\n".join(source.text for source in package_sources() if source.inside("nodes"))
    parts = set(re.findall(r'category=f"\{types\.CATEGORY\}/(\w+)"', texts)) | {"FantasyID"}
    assert set(names) == parts - CATEGORIES_OF_THE_HOST
    if language == "zh":
        assert all(CHINESE.search(name) for part, name in names.items() if part != "FantasyID")


@each_node
@each_language
def test_the_help_page_is_complete(node, language):
    text = page(node, language)
    assert text.splitlines()[0] == f"# {locale(language)[node.node_id]['display_name']}"
    assert SHORTEST <= len(text.splitlines()) <= LONGEST
    for name in (*locale("en")[node.node_id]["inputs"], *node.shown_outputs):
        assert f"**`{name}`**" in text
    assert (ERROR_TITLES[language] in text) == bool(quoted_errors(text, language))


@each_node
def test_the_help_pages_are_in_two_languages(node):
    english, chinese = (page(node, language) for language in LANGUAGES)
    assert not CHINESE.search(english)
    assert len(CHINESE.findall(chinese)) > 200
    # Messages are quoted as they come, in English, in both.
    assert quoted_errors(english, "en") == quoted_errors(chinese, "zh")


@each_node
def test_the_help_page_quotes_messages_that_exist(node):
    messages = quoted_errors(page(node, "en"), "en")
    assert messages
    assert {m: parts for m in messages if (parts := unspoken(m))} == {}


def test_a_made_up_message_is_noticed():
    text = "## Errors\n\n- `no face found in the … photo` and `a made-up … message`: so.\n"
    messages = quoted_errors(text, "en")
    assert messages == ["no face found in the … photo", "a made-up … message"]
    assert unspoken(messages[0]) == []
    assert unspoken(messages[1])


@pytest.mark.parametrize("name", sorted(api_workflows()))
def test_workflows_use_nodes_and_inputs_that_exist(name):
    for number, item in api_workflows()[name].items():
        if not item["class_type"].startswith("FantasyID"):
            continue
        assert item["class_type"] in NODES, f"node {number}"
        # A socket that grows is written "heads.head0", "heads.head1", ...
        used = {name.split(".")[0] for name in item["inputs"]}
        assert used <= set(locale("en")[item["class_type"]]["inputs"]), f"node {number}"


def test_every_workflow_is_a_template_with_a_picture():
    folder = ROOT / "workflows"
    names = {path.stem for path in (folder / "api").glob("*.json")}
    assert {path.stem for path in folder.glob("*.json")} == names
    assert {path.stem for path in folder.glob("*.jpg")} == names


def test_the_readme_names_every_template():
    readme = (ROOT / "README.md").read_text("utf-8")
    missing = [p.stem for p in (ROOT / "workflows").glob("*.json") if f"`{p.stem}`" not in readme]
    assert missing == []


def test_every_node_is_in_a_workflow():
    used = {item["class_type"] for graph in api_workflows().values() for item in graph.values()}
    assert [name for name in NODES if name not in used | RUN_BY_HAND] == []
