"""Documents and code agree: citations lead somewhere, and the lists of packages are one list."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("fantasyid", "nodes", "demo", "miniature", "tests", "benchmarks", "docs")
FACTS = "docs/released-model.md"
PAPER_SECTIONS = {"3.1", "3.2", "3.3", "3.4", "3.5", "4.1", "4.2", "4.3", "4.4", "4.5"}


def sources() -> dict[str, str]:
    """The code and the documents, every run of white space as one blank."""
    found = [
        p for folder in FOLDERS for p in (ROOT / folder).rglob("*") if p.suffix in (".py", ".md")
    ]
    found += [*ROOT.glob("*.md"), *ROOT.glob("*.py")]
    return {
        path.relative_to(ROOT).as_posix(): " ".join(path.read_text("utf-8").split())
        for path in found
    }


def cited(text: str, document: str, number: str) -> set[str]:
    """Section numbers that a text cites of a document: "DOCUMENT, sections 0, 2 and 6"."""
    found = re.findall(rf"{document},? \(?(?:sections? )?((?:{number}(?:, | and | to )?)+)", text)
    return {one for numbers in found for one in re.findall(number, numbers)}


def test_cited_sections_of_the_released_model_exist():
    titles = re.findall(r"(?m)^## (\d)\. ", (ROOT / FACTS).read_text("utf-8"))
    assert titles == [str(number) for number in range(9)]
    assert cited(f"{FACTS}, sections 0, 2 and 9", re.escape(FACTS), r"\d") - set(titles) == {"9"}
    by_file = {path: cited(text, re.escape(FACTS), r"\d") for path, text in sources().items()}
    assert sum(map(bool, by_file.values())) > 5
    assert {path for path, numbers in by_file.items() if numbers - set(titles)} == set()


def test_cited_sections_of_the_paper_exist():
    by_file = {path: cited(text, "[Pp]aper(?:'s)?", r"\d\.\d") for path, text in sources().items()}
    assert {path: n - PAPER_SECTIONS for path, n in by_file.items() if n - PAPER_SECTIONS} == {}


def test_links_between_documents_lead_somewhere():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob(".github/**/*.md")]
    for page in pages:
        for link in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text("utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_files_that_the_documents_name_exist():
    pages = ("README.md", "docs/development.md", "docs/models.md", "docs/nodes.md")
    text = "\n".join((ROOT / page).read_text("utf-8") for page in pages)
    paths = re.findall(
        r"`((?:fantasyid|nodes|demo|tests|docs|benchmarks|miniature)/[\w./-]*)`", text
    )
    paths = [path for path in paths if not path.startswith("fantasyid/FantasyID")]  # of the user
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= 900


def test_workflow_files_of_the_project_are_yaml():
    files = [
        *ROOT.glob(".github/**/*.yml"),
        ROOT / ".pre-commit-config.yaml",
        ROOT / "CITATION.cff",
    ]
    assert len(files) > 5
    assert all(isinstance(yaml.safe_load(file.read_text("utf-8")), dict) for file in files)


def test_the_packages_of_the_tests_are_listed_once():
    """Another list would fall behind; pyproject keeps what a user may want."""
    lists = [p for p in (ROOT / "demo").glob("*.txt") if "pytest" in p.read_text("utf-8")]
    assert [path.name for path in lists] == ["requirements-test.txt"]
    others = [ROOT / "pyproject.toml", ROOT / "requirements.txt", *ROOT.glob(".github/**/*.yml")]
    assert [
        p.name for p in others if re.search(r"pytest\W*[=>]=|hypothesis", p.read_text("utf-8"))
    ] == []
