"""Make docs/compatibility.md from what the tests of the host matrix measured.

    python -m pytest tests/comfyui/matrix tests/comfyui/test_no_trace.py
    python tests/compatibility.py

`tests/comfyui/matrix/combinations.json` holds the combinations: what is checked, by which tests,
and what a user should know. A combination whose tests are elsewhere has its result there too.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
MEASURED = TESTS / "artifacts" / "compatibility.json"
DOCUMENT = ROOT / "docs" / "compatibility.md"
CONTENT: dict[str, Any] = json.loads(
    (TESTS / "comfyui" / "matrix" / "combinations.json").read_text("utf-8")
)
COMBINATIONS: dict[str, dict[str, Any]] = CONTENT["combinations"]
INTRODUCTION = """# Compatibility

What the identity was combined with on a real ComfyUI, each pair by a test with tiny models on a
CPU. A property is checked, not only that it runs. This page is made by

    python -m pytest tests/comfyui/matrix tests/comfyui/test_no_trace.py
    python tests/compatibility.py

and a test fails when a combination here has no test, or a test no combination here. The numbers
are of one x86 CPU with random weights: they tell how exact a combination is, not how a video looks.
"""
WINDOWS = """Clips of more than 49 frames. All: `dim` 2, `cond_retain_index_list` 0, and, where the
table has nothing else, `context_length` 13 (latent frames; 49 frames of video), `causal_window_fix`
off. FantasyID Sampler refuses settings by which the model would see more than it was trained on.

| name | settings | what for |
|---|---|---|"""


def difference(one: Tensor, other: Tensor) -> tuple[float, str]:
    """Length of the difference of two latents over the second's, and the same in words."""
    error = float((one - other).norm() / other.norm())
    return error, f"differs by {error:.0e}" if error else "no difference"


class Measured:
    """What the tests of one session measured; a test that fails notes nothing."""

    def __init__(self) -> None:
        self.results: dict[str, dict[str, str]] = {}

    def note(self, combination: str, result: str, part: str = "") -> None:
        """Keep a result.

        Args:
            combination: Name in `combinations.json`.
            result: A few words, or a number with its unit.
            part: Which case of a parametrised test.
        """
        assert combination in COMBINATIONS, f"combinations.json does not list {combination}"
        self.results.setdefault(combination, {})[part] = result

    def save(self) -> None:
        """Add them to what earlier sessions measured."""
        known = json.loads(MEASURED.read_text("utf-8")) if MEASURED.is_file() else {}
        for combination, results in self.results.items():
            known.setdefault(combination, {}).update(results)
        MEASURED.parent.mkdir(parents=True, exist_ok=True)
        MEASURED.write_text(json.dumps(known, indent=1, sort_keys=True), "utf-8")


@cache
def noted_by_tests() -> dict[str, set[str]]:
    """Combination -> the tests, as `path::test`, that note a result for it."""
    found: dict[str, set[str]] = {}
    for path in sorted((TESTS / "comfyui").rglob("test_*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for name in _noted(node):
                    holder = f"{path.relative_to(ROOT).as_posix()}::{node.name}"
                    found.setdefault(name, set()).add(holder)
    return found


def _noted(test: ast.FunctionDef) -> Iterator[str]:
    for node in ast.walk(test):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            first = node.args[0] if node.args else None
            if node.func.id == "compatible" and isinstance(first, ast.Constant):
                yield str(first.value)


def holders_of(combination: str) -> list[str]:
    """The tests that check a combination, as `path::test`."""
    listed = COMBINATIONS[combination].get("held by", [])
    return sorted({*listed, *noted_by_tests().get(combination, set())})


def problems() -> list[str]:
    """Combinations without a test, and tests that are not there."""
    found = []
    for name, entry in COMBINATIONS.items():
        if "result" not in entry and name not in noted_by_tests():
            found.append(f"no test notes a result for {name}")
        for holder in holders_of(name):
            path, _, test = holder.partition("::")
            file = ROOT / path
            if not file.is_file() or f"def {test}(" not in file.read_text("utf-8"):
                found.append(f"{name}: there is no test {holder}")
    return found


def fixed_cells(combination: str) -> tuple[str, str, str]:
    """The cells of a row before and after the result, which need no run."""
    entry = COMBINATIONS[combination]
    tests = "<br>".join(f"`{holder}`" for holder in holders_of(combination))
    return f"| {combination} | {entry['checked']} |", entry.get("remark", ""), tests


def rows(measured: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Table rows: combination, what is checked, result, remark, tests."""
    for name, entry in COMBINATIONS.items():
        start, remark, tests = fixed_cells(name)
        results = dict(measured.get(name, {}))
        results |= {"": entry["result"]} if "result" in entry else {}
        words = [f"{part}: {result}" if part else result for part, result in results.items()]
        yield f"{start} {'; '.join(words)} | {remark} | {tests} |"


def window_rows() -> Iterator[str]:
    """Table rows: name, the settings that are its own, and what for."""
    for name, entry in CONTENT["windows"].items():
        settings = ", ".join(
            f"`{key}` {str(value).lower()}" for key, value in entry["settings"].items()
        )
        yield f"| {name} | {settings} | {entry['words']} |"


def render(measured: Mapping[str, Mapping[str, str]]) -> str:
    """The whole document."""
    parts = [
        INTRODUCTION,
        "| with | what is checked | result | remark | checked by |\n|---|---|---|---|---|",
        *rows(measured),
    ]
    parts += ["\n## Settings for Context Windows (Manual)\n", WINDOWS, *window_rows()]
    for title, items in CONTENT["lists"].items():
        parts += [f"\n## {title}\n", *(f"- {item}" for item in items)]
    return "\n".join(parts) + "\n"


def main() -> int:
    """Write the document, or say what is missing."""
    measured = json.loads(MEASURED.read_text("utf-8")) if MEASURED.is_file() else {}
    wrong = problems()
    wrong += [
        f"not measured: {name}"
        for name, entry in COMBINATIONS.items()
        if "result" not in entry and name not in measured
    ]
    if wrong:
        sys.stderr.write("\n".join(wrong) + "\n")
        return 1
    DOCUMENT.write_text(render(measured), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
