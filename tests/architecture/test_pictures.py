"""The pictures of the help pages: all there, all small, none left over."""

from __future__ import annotations

import re

import pytest
from architecture.sources import ROOT
from PIL import Image

DOCS = ROOT / "web" / "docs"
# The frontend puts `/extensions/<pack>/docs/` in front of a relative path, whatever the page.
PAGES = sorted(DOCS.glob("*/*.md"))
PICTURES = sorted(path for path in (DOCS / "images").iterdir() if path.is_file())
LARGEST_BYTES, WIDEST_PX = 100_000, 640
REFERENCE = re.compile(r"!\[([^\]]*)\]\(([^)\s]*)\)")


def references(text: str) -> list[tuple[str, str]]:
    """Alternative text and path of every picture in a page."""
    return REFERENCE.findall(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_picture_of_a_page_is_there_with_words(page):
    text = page.read_text("utf-8")
    assert text.count("![") == len(references(text))
    assert "<img" not in text
    for words, path in references(text):
        assert (DOCS / path).resolve() in PICTURES, path
        assert not path.startswith((".", "/")), f"{path} does not lead to {DOCS}"
        assert words.strip()


@pytest.mark.parametrize("picture", PICTURES, ids=lambda p: p.name)
def test_every_picture_is_small_and_whole(picture):
    assert picture.stat().st_size < LARGEST_BYTES
    with Image.open(picture) as opened:
        opened.load()
        assert opened.width <= WIDEST_PX


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_picture_is_used_in_each_language(language):
    pages = [page for page in PAGES if page.stem == language]
    used = {path for page in pages for _, path in references(page.read_text("utf-8"))}
    assert used == {f"images/{picture.name}" for picture in PICTURES}
