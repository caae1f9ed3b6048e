"""Every node has its words: tooltips, locale entries, help pages, and a workflow to see it in.

English is demanded, in the schemas and the help pages. Chinese may follow later; where it is there,
it names nothing unknown.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from browser.build_templates import api_name
from PIL import Image

from tools.new_node_words import help_page, words_of

ROOT = Path(__file__).resolve().parents[2]
LOCALES, DOCS, WORKFLOWS = ROOT / "locales", ROOT / "web" / "docs", ROOT / "workflows"
PICTURES = DOCS / "images"
PICTURE = re.compile(r"!\[([^\]]+)\]\(([^)\s]+)\)")
CHINESE = re.compile(r"[\u4e00-\u9fff]")
ERRORS = {"en": ("## Errors", "`: "), "zh": ("## 报错", "`：")}
# The frontend has words of its own for these, which a pack should not replace for everybody.
CATEGORIES_OF_THE_HOST = {"loaders", "sampling"}
# Run once by hand, before there is a graph; or on a LoRA, which only its user has.
RUN_BY_HAND = {"FantasyIDConvert", "FantasyIDLoraLoader"}


@pytest.fixture(scope="module")
def schemas(ours) -> dict[str, Any]:
    found = {node.GET_SCHEMA().node_id: node for node in ours("nodes").NODES}
    assert {name: node.__name__ for name, node in found.items()} == {n: n for n in found}
    return {name: node.GET_SCHEMA() for name, node in found.items()}


@pytest.fixture(scope="module")
def spoken(schemas) -> dict[str, Any]:
    """Node id -> what the nodes say, as the host has them."""
    return {name: words_of(schema) for name, schema in schemas.items()}


def locale(language: str, name: str = "nodeDefs") -> dict[str, Any]:
    return json.loads((LOCALES / language / f"{name}.json").read_text("utf-8"))


def pages(language: str) -> dict[str, str]:
    return {page.parent.name: page.read_text("utf-8") for page in DOCS.glob(f"*/{language}.md")}


def workflows() -> dict[str, dict[str, Any]]:
    files = sorted((WORKFLOWS / "api").glob("*.json"))
    return {file.stem: json.loads(file.read_text("utf-8")) for file in files}


@cache
def package_texts() -> str:
    """Every text in the package in one, with a `…` for each part that is filled in later."""
    texts = []
    files = [*(ROOT / "nodes").rglob("*.py"), *(ROOT / "fantasyid").rglob("*.py")]
    for node in (n for file in files for n in ast.walk(ast.parse(file.read_text("utf-8")))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append(node.value)
        elif isinstance(node, ast.JoinedStr):
            parts = (p.value if isinstance(p, ast.Constant) else "…" for p in node.values)
            texts.append("".join(str(part) for part in parts))
    return "\n".join(texts)


def quoted_errors(text: str, language: str) -> list[str]:
    """The messages that a help page quotes: the code before the first colon of each item."""
    title, colon = ERRORS[language]
    section = text.partition(f"\n{title}\n")[2].split("\n## ", 1)[0]
    items = [" ".join(item.split()) for item in section.split("\n- ")[1:]]
    heads = [item.split(colon)[0] + "`" * (colon in item) for item in items]
    spans = [span for head in heads for span in re.findall(r"`([^`]+)`", head)]
    return [span for span in spans if " " in span or "…" in span]


def unspoken(message: str) -> list[str]:
    """Parts of a quoted message, between its `…`, that no text of the package holds."""
    parts = (part.strip(" .,:;") for part in message.split("…"))
    return [part for part in parts if part not in package_texts()]


def page_problems(page: str, words: dict[str, Any]) -> list[str]:
    """What an English help page lacks."""
    names = [*words["inputs"], *(output["name"] for output in words["outputs"].values())]
    missing = [name for name in names if f"**`{name}`**" not in page]
    title = [] if page.startswith(f"# {words['display_name']}\n") else ["title"]
    return title + missing + ["Chinese"] * bool(CHINESE.search(page))


def test_execute_takes_what_the_sockets_give(ours):
    for node in ours("nodes").NODES:
        inputs = node.GET_SCHEMA().inputs
        taken = inspect.signature(node.execute)
        taken.bind(**{i.id: None for i in inputs})
        taken.bind(**{i.id: None for i in inputs if not i.optional})


def test_every_node_and_every_input_explains_itself(spoken, schemas):
    silent = [f"{name}: description" for name, node in spoken.items() if not node["description"]]
    silent += [
        f"{name}.{socket}"
        for name, node in spoken.items()
        for socket, words in node["inputs"].items()
        if len(words.get("tooltip", "")) < 15
    ]
    silent += [f"{name}: aliases" for name, schema in schemas.items() if not schema.search_aliases]
    assert silent == []


def test_the_chinese_locale_names_nothing_unknown(spoken):
    unknown, foreign = [], []
    for name, words in locale("zh").items():
        for kind in ("inputs", "outputs"):
            known = spoken.get(name, {}).get(kind, {})
            unknown += [f"{name}.{socket}" for socket in words[kind] if socket not in known]
        texts = [words["description"], *(w.get("tooltip", "字") for w in words["inputs"].values())]
        foreign += [text for text in texts if not CHINESE.search(text)]
    assert (unknown, foreign) == ([], [])


def test_every_category_has_a_name(schemas):
    parts = {part for schema in schemas.values() for part in schema.category.split("/")}
    for language in ("en", "zh"):
        assert set(locale(language, "main")["nodeCategories"]) == parts - CATEGORIES_OF_THE_HOST


def test_every_node_has_an_english_help_page(spoken):
    english = pages("en")
    assert sorted(english) == sorted(spoken)
    problems = {name: page_problems(page, spoken[name]) for name, page in english.items()}
    assert {name: found for name, found in problems.items() if found} == {}
    for words in spoken.values():
        assert page_problems(help_page(words), words) == []
        assert "title" in page_problems("# Other\n", words)


def test_a_chinese_help_page_says_the_same():
    english = pages("en")
    for name, page in pages("zh").items():
        assert len(CHINESE.findall(page)) > 200, name
        named = set(re.findall(r"\*\*`([^`]+)`\*\*", page))
        assert named <= set(re.findall(r"\*\*`([^`]+)`\*\*", english[name])), name
        # Messages are quoted as they come, in English, in both.
        assert quoted_errors(page, "zh") == quoted_errors(english[name], "en"), name


def test_help_pages_quote_messages_that_exist():
    quoted = [(name, m) for name, page in pages("en").items() for m in quoted_errors(page, "en")]
    assert len(quoted) > 50
    assert [(name, m, parts) for name, m in quoted if (parts := unspoken(m))] == []


def test_a_made_up_message_is_noticed():
    text = "# T\n\n## Errors\n\n- `no face found in the … photo` and `a made-up … message`: so.\n"
    messages = quoted_errors(text, "en")
    assert messages == ["no face found in the … photo", "a made-up … message"]
    assert unspoken(messages[0]) == []
    assert unspoken(messages[1])


@pytest.mark.parametrize("language", ["en", "zh"])
def test_pictures_of_help_pages_are_there_with_words_and_small(language):
    used = set()
    for name, page in pages(language).items():
        found = PICTURE.findall(page)
        # The frontend puts `/extensions/<pack>/docs/` in front of a relative path.
        assert all(path.startswith("images/") for _words, path in found), name
        assert page.count("![") == len(found), name
        assert "<img" not in page, name
        used |= {DOCS / path for _words, path in found}
    assert used == set(PICTURES.iterdir())
    for picture in used:
        assert picture.stat().st_size < 100_000, picture
        with Image.open(picture) as opened:
            opened.load()
            assert opened.width <= 640, picture


def test_workflows_use_nodes_and_inputs_that_exist(spoken):
    used = set()
    for name, graph in workflows().items():
        ours = [i for i in graph.values() if i["class_type"].startswith("FantasyID")]
        for item in ours:
            used.add(item["class_type"])
            # A socket that grows is written "heads.head0", "heads.head1", ...
            given = {key.split(".")[0] for key in item["inputs"]}
            assert given <= set(spoken[item["class_type"]]["inputs"]), name
    assert used == set(spoken) - RUN_BY_HAND


def test_every_workflow_is_a_numbered_template_with_a_picture_in_the_documents():
    listed = re.findall(
        r"^\| `(\d\d_\w+)` \| (.*) \|$", (ROOT / "docs" / "templates.md").read_text("utf-8"), re.M
    )
    templates = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
    assert {api_name(name) for name in templates} == set(workflows())
    assert sorted(path.stem for path in WORKFLOWS.glob("*.jpg")) == templates
    assert [name for name, _ in listed] == templates
    assert all(len(textwrap.wrap(f"{sentence}.", 41)) <= 3 for _, sentence in listed), "of a card"
    numbers = [int(name.partition("_")[0]) for name in templates]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert numbers[0] in (1, 2)  # the first place is kept for the bundled model


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_host_serves_names_and_help_pages(server, language):
    served = server.host.get("/i18n")[language]
    if language != "en":  # in English the frontend shows the words of the schemas
        assert locale(language).items() <= served["nodeDefs"].items()
    assert locale(language, "main")["nodeCategories"].items() <= served["nodeCategories"].items()
    for page in DOCS.glob(f"*/{language}.md"):
        path = f"/extensions/ComfyUI-FantasyID/docs/{page.parent.name}/{page.name}"
        assert server.host.request("GET", path).content == page.read_bytes()
