"""Make docs/fidelity.md from the errors that the golden tests measured.

    python -m pytest tests/golden -q
    python tests/golden/report.py

`stages.json` holds stages, tolerances and their reasons; `released_behaviours.json` the tests
that hold each behaviour of the release that was kept on purpose, by the sentence in the code.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MEASURED = ROOT / "tests" / "artifacts" / "fidelity.json"
DOCUMENT = ROOT / "docs" / "fidelity.md"
STAGES: dict[str, Any] = json.loads((HERE / "stages.json").read_text("utf-8"))
HOLDERS: dict[str, list[str]] = json.loads((HERE / "released_behaviours.json").read_text("utf-8"))
# Source: paper, sections 3.3, 3.4, 3.5, 4.1; docs/released-model.md, sections 1 and 3.
PAPER_AND_RELEASE = (
    ("F_l, from attention to the block (3.5)", "a convolution block and a norm",
     "one linear layer without bias"),
    ("SpiralNet++ (3.3)", "its features of the vertices enter the fusion",
     "the fused features are upsampled by it"),
    ("E_dep (3.3)", "an encoding of the depth map of the projected vertices",
     "sines and cosines of each vertex's z"),
    ("Vertices (3.3)", "separated from pose and expression",
     "with the pose and the expression in them"),
    ("N' (4.1)", "314 vertex tokens", "314 in the fusion; 79 are injected, and 36 of the face"),
)  # fmt: skip
COLUMNS = ("float32", "bfloat16", "exact", "float64")
TAG = "Released behavior:"
INTRODUCTION = """# Fidelity

How far each stage is from the released implementation. The weights of the release cannot be had
where this project is tested, so both sides compute with the same regenerated weights at the
released sizes; the other side was recorded once, in float32. An error is the norm of the difference
over the norm of the recorded tensor.

This page is made by

    python -m pytest tests/golden -q
    python tests/golden/report.py

and a test fails when it no longer fits the code. The tests need a ComfyUI (`COMFYUI_PATH`, or
`python quickstart.py test`), timm and diffusers; the mesh tables also need the licensed mesh data,
which the project does not contain. The numbers are of one x86 CPU; another one rounds differently.
"""
LAST_STAGE = """
## The last stage

ComfyUI's *VAE Decode* takes other steps than the released pipeline; *FantasyID Decode* takes the
released ones (rows "decode against diffusers" and "the host's VAE Decode").

One prompt can give two files that differ in a few pixels though the latents are equal. The likely
stage is the decode, in either node: PyTorch's convolutions add up in another order with another
number of threads (`OMP_NUM_THREADS`, or another machine). Measured with the mini model, one thread
against two, from the same latents: 2e-7, which rounding to 8 bits turns into 2 of 470,016 values
that differ by one. With one number of threads all decodes were equal bit by bit (40 with one, 12
with two), and so were all MP4 files of equal pixels (20 and 8).
"""


@dataclass(frozen=True)
class Behaviour:
    """A behaviour of the release that the code names as kept on purpose.

    Attributes:
        file: Path from the project's root.
        place: Function or class that says so.
        sentence: What it says.
    """

    file: str
    place: str
    sentence: str


class Measured:
    """The errors of one test session."""

    def __init__(self) -> None:
        self.errors: dict[str, dict[str, dict[str, float]]] = {}

    def check(self, stage: str, dtype: Any, errors: Mapping[str, float]) -> None:
        """Keep the errors of a stage's tensors, and assert that each is within its tolerance."""
        kind = str(dtype).removeprefix("torch.")
        described = STAGES[stage]
        unknown = set(errors) - set(described["tensors"])
        assert not unknown, f"stages.json does not list {sorted(unknown)} under {stage}"
        self.errors.setdefault(stage, {}).setdefault(kind, {}).update(errors)
        tolerance = described["dtypes"][kind]["tolerance"]
        # `not <=`, because NaN is a failure too.
        over = {k: e for k, e in errors.items() if not e <= tolerance}
        assert not over, f"{stage} in {kind}: beyond {tolerance:g}: {over}"

    def save(self) -> None:
        """Add them to what earlier sessions measured."""
        known = json.loads(MEASURED.read_text("utf-8")) if MEASURED.is_file() else {}
        for stage, kinds in self.errors.items():
            for kind, errors in kinds.items():
                known.setdefault(stage, {}).setdefault(kind, {}).update(errors)
        MEASURED.parent.mkdir(parents=True, exist_ok=True)
        MEASURED.write_text(json.dumps(known, indent=1, sort_keys=True), "utf-8")


def released_behaviours() -> list[Behaviour]:
    """Every `Released behavior:` in comments and docstrings of the package and the nodes."""
    found = []
    for folder in ("fantasyid", "nodes"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text("utf-8")
            if TAG in text:
                file = path.relative_to(ROOT).as_posix()
                found += [Behaviour(file, *pair) for pair in _tagged(text)]
    return found


def _tagged(text: str) -> Iterator[tuple[str, str]]:
    definitions = list(_definitions(ast.parse(text), ""))
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if TAG not in line:
            continue
        paragraph = [line.split(TAG, 1)[1]]
        for following in lines[number + 1 :]:
            comment = line.lstrip().startswith("#")
            if not following.strip() or following.lstrip().startswith("#") != comment:
                break
            if following.strip().startswith('"""'):
                break
            paragraph.append(following.strip().removeprefix("#"))
        words = " ".join(" ".join(paragraph).split()).replace('"""', "")
        sentence = re.match(r".*?\.(?= [A-Z]|$)", words)
        inside = [d for d in definitions if d[1] <= number + 1 <= d[2]]
        place = max(inside, key=lambda d: d[1])[0] if inside else "module"
        yield place, sentence[0] if sentence else words


def _definitions(node: ast.AST, prefix: str) -> Iterator[tuple[str, int, int]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            name = f"{prefix}{child.name}"
            yield name, child.lineno, child.end_lineno or child.lineno
            yield from _definitions(child, f"{name}.")


def problems_of(behaviour: Behaviour) -> list[str]:
    """What is wrong with the tests that are said to hold a behaviour."""
    holders = HOLDERS.get(behaviour.sentence, [])
    where = f"{behaviour.file}, {behaviour.place}: {behaviour.sentence}"
    if not holders:
        return [f"{where} Name the test that holds it in tests/golden/released_behaviours.json."]
    problems = []
    for holder in holders:
        path, _, test = holder.partition("::")
        file = ROOT / path
        if not file.is_file() or f"def {test}(" not in file.read_text("utf-8"):
            problems.append(f"{where} There is no test {holder}.")
    return problems


def missing_numbers(measured: Mapping[str, Any]) -> list[str]:
    """Tensors of `stages.json` that no test has measured."""
    return [
        f"{stage}, {kind}: {tensor}"
        for stage, described in STAGES.items()
        for kind in described["dtypes"]
        for tensor in described["tensors"]
        if tensor not in measured.get(stage, {}).get(kind, {})
    ]


def _number(value: float) -> str:
    return f"{value:.1e}" if value else "0"


def error_rows(measured: Mapping[str, Any]) -> Iterator[str]:
    """Table rows: stage, tensor, and one error per dtype."""
    for stage, described in STAGES.items():
        for tensor in described["tensors"]:
            cells = [
                _number(measured[stage][kind][tensor]) if kind in described["dtypes"] else ""
                for kind in COLUMNS
            ]
            yield f"| {stage} | {tensor} | {' | '.join(cells)} |"


def tolerance_rows() -> Iterator[str]:
    """Table rows: stage, dtype, tolerance, the dtype that computes, and why."""
    for stage, described in STAGES.items():
        for kind, entry in described["dtypes"].items():
            computes = entry.get("computes in", kind)
            yield f"| {stage} | {kind} | {entry['tolerance']:g} | {computes} | {entry['reason']} |"


def behaviour_rows() -> Iterator[str]:
    """Table rows: where a released behavior is kept, what it is, and the test that holds it."""
    for behaviour in released_behaviours():
        tests = "<br>".join(f"`{holder}`" for holder in HOLDERS.get(behaviour.sentence, []))
        link = f"[{behaviour.file}](../{behaviour.file})"
        yield f"| {link}, `{behaviour.place}` | {behaviour.sentence} | {tests} |"


def paper_rows() -> Iterator[str]:
    """Table rows: what differs between the paper and the release."""
    yield from ("| " + " | ".join(row) + " |" for row in PAPER_AND_RELEASE)


def render(measured: Mapping[str, Any]) -> str:
    """The whole document."""
    columns = " | ".join(COLUMNS)
    parts = [
        INTRODUCTION,
        "## Errors\n",
        f"| stage | tensor | {columns} |\n|---|---|{'---:|' * len(COLUMNS)}",
        *error_rows(measured),
        "\n## Tolerances\n",
        "Weights and inputs are stored in the dtype; the fourth column says what computes.\n",
        "| stage | dtype | tolerance | computes in | why |\n|---|---|---:|---|---|",
        *tolerance_rows(),
        LAST_STAGE,
        "## Paper and release\n",
        "Where they differ, the code does what the release does; its weights fit nothing else.\n",
        "| what (section) | paper | release |\n|---|---|---|",
        *paper_rows(),
        "\n## Released behaviors kept on purpose\n",
        "| where | what | held by |\n|---|---|---|",
        *behaviour_rows(),
    ]
    return "\n".join(parts) + "\n"


def main() -> int:
    """Write the document, or say what is missing."""
    measured = json.loads(MEASURED.read_text("utf-8")) if MEASURED.is_file() else {}
    problems = [p for b in released_behaviours() for p in problems_of(b)]
    problems += [f"not measured: {m}" for m in missing_numbers(measured)]
    if problems:
        sys.stderr.write("\n".join(problems) + "\n")
        return 1
    DOCUMENT.write_text(render(measured), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
