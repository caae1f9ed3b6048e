"""What a user of the registry gets: built as its client does, small, and nothing that it flags.

The client packs the files that git tracks, without those that .comfyignore names. The registry's
scanner hides a version that reaches for the network or runs code, and does not say why.
"""

from __future__ import annotations

import ast
import io
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 1_500_000
WEIGHTS = "models/miniature/"  # the weights of a small model may come on top
FLAGGED = {
    "socket", "urllib", "http", "ftplib", "pickle", "subprocess", "multiprocessing", "ctypes",
    "marshal", "pty", "telnetlib",
}  # fmt: skip
FLAGGED_CALLS = {"exec", "eval", "compile", "__import__", "os.system", "os.popen"}


@pytest.fixture(scope="module")
def packed() -> list[str]:
    """The paths in the archive."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("the archive is built from what git tracks, and this is no clone")

    def git(*arguments: str, text: str | None = None) -> list[str]:
        command = ["git", "-C", str(ROOT), *arguments]
        run = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
        assert run.returncode in (0, 1), run.stderr
        return run.stdout.splitlines()

    tracked = [path for path in git("ls-files") if (ROOT / path).is_file()]
    rules = f"core.excludesFile={ROOT / '.comfyignore'}"
    ignored = git("-c", rules, "check-ignore", "--no-index", "--stdin", text="\n".join(tracked))
    return sorted(set(tracked) - set(ignored))


def flagged(text: str) -> set[str]:
    """Words of a Python file that the registry's scanner looks for."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= FLAGGED & {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= FLAGGED & {(node.module or "").split(".")[0]}
        elif isinstance(node, ast.Call):
            found |= FLAGGED_CALLS & {ast.unparse(node.func)}
    return found


def test_it_is_small(packed):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in packed:
            if not path.startswith(WEIGHTS):
                file.write(ROOT / path, path)
    assert archive.tell() <= MOST_BYTES


def test_it_has_what_comfyui_loads_and_nothing_else(packed):
    needed = {"__init__.py", "LICENSE", "README.md", "pyproject.toml", "requirements.txt"}
    assert needed <= set(packed)
    rest = {path.split("/")[0] for path in set(packed) - needed if not path.startswith(WEIGHTS)}
    rooms = {"nodes", "fantasyid", "web", "locales", "workflows", "docs"}
    assert rooms <= rest <= rooms | {"subgraphs", "recipes", "CHANGELOG.md"}
    assert {Path(path).suffix for path in packed if path.startswith("docs/")} == {".md"}


def test_it_has_nothing_that_the_scanner_flags(packed):
    code = [path for path in packed if path.endswith(".py")]
    found = {path: flagged((ROOT / path).read_text("utf-8")) for path in code}
    assert {path: words for path, words in found.items() if words} == {}


@pytest.mark.parametrize(
    "text", ["import urllib.request", "from http.client import x", "eval('1')", "import pickle"]
)
def test_the_scan_sees(text):
    assert flagged(f"def f():\n    pass\n{text}")


def test_the_icon_is_a_picture_of_the_repository():
    stated = (ROOT / "pyproject.toml").read_text("utf-8")
    repository = re.findall(r'(?m)^Repository = "https://github.com/(.+)"$', stated)
    icon = re.findall(r'(?m)^Icon = "https://raw.githubusercontent.com/(.+)/main/(.+)"$', stated)
    assert [name for name, _ in icon] == repository
    assert (ROOT / icon[0][1]).suffix in (".svg", ".png")
    assert (ROOT / icon[0][1]).is_file()


def test_the_version_is_stated_once():
    stated = re.compile(r"""(?m)^\s*(__version__|version)\s*[:=]\s*["']?\d""")
    files = [path for ext in ("py", "cff", "toml") for path in ROOT.glob(f"*.{ext}")]
    files += [path for folder in ("nodes", "fantasyid") for path in (ROOT / folder).rglob("*.py")]
    assert [path.name for path in files if stated.search(path.read_text("utf-8"))] == [
        "pyproject.toml"
    ]
