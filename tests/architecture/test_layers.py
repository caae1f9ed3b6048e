"""Imports go one way, and what ruff cannot see of the rest; ruff's own rules are in pyproject."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST_LINES, MOST_EXECUTE_LINES = 300, 15
# From the top down. A room imports from lower rows; within a row only what BESIDE allows.
ROWS = (
    {"nodes"},
    {"comfyui", "convert", "download", "evaluate", "metrics"},
    {"doctor", "evaluation", "training"},
    {"weights"},
    {"injection", "fusion", "geometry", "views", "face", "cogvideox"},
    {"combine"},
    {"identity", "attention", "shapes", "key_map", "whole_file", "command_line"},
)
BESIDE = {("views", "face"), ("fusion", "geometry"), ("training", "evaluation")}
NETWORK = {
    "aiohttp", "ftplib", "http", "httpx", "huggingface_hub", "modelscope", "requests", "smtplib",
    "socket", "ssl", "urllib", "urllib3", "websockets", "xmlrpc",
}  # fmt: skip
WITH_NETWORK = ("fantasyid/weights/download/", "fantasyid/evaluation/client.py")
# What ComfyUI itself requires, and what is looked for only when it is needed (ruff holds that).
PACKAGES = {
    "torch", "torchvision", "numpy", "scipy", "einops", "transformers", "safetensors", "PIL", "av",
    "filelock", "jinja2", "psutil", "pydantic", "tqdm", "yaml", "insightface", "onnxruntime",
    "skimage", "trimesh", "yarl",
}  # fmt: skip
TRAINING = {"accelerate", "av", "bitsandbytes", "diffusers", "peft", "pyarrow", "rapidocr", "ray",
            "scenedetect", "tomli"}  # fmt: skip
HOST = {"comfy", "comfy_api", "comfy_extras", "folder_paths", "latent_preview", "node_helpers"}
HOST |= {"server", "comfy_execution", "execution"}
FORBIDDEN = {
    "takes the device out of the host's hands": re.compile(r"\.cuda\(|\bautocast\("),
    "stops the host from finding the nodes": re.compile(r"^\w*_CLASS_MAPPINGS\b", re.MULTILINE),
    "loads what a file says": re.compile(r"\btorch\.load\((?![^()]*weights_only=True)"),
}


def package_files() -> dict[str, str]:
    """Everything that ComfyUI loads of us: path below the root -> text."""
    found = [ROOT / "__init__.py"]
    found += [path for folder in ("nodes", "fantasyid") for path in (ROOT / folder).rglob("*.py")]
    assert len(found) > 80
    return {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in found}


def imports(path: str, text: str) -> Iterator[tuple[str, bool]]:
    """Each import of a file: dotted name from the root, and whether it is one of ours."""
    folders = path.split("/")[:-1]
    for node in ast.walk(ast.parse(text, path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = folders[: len(folders) - node.level + 1] if node.level else []
            for alias in node.names:
                base = ".".join([*start, *filter(None, [node.module])])
                yield f"{base}.{alias.name}".strip("."), node.level > 0


def room(dotted: str) -> str:
    """ "fantasyid.face.crop" -> "face", "nodes.face" -> "nodes", "fantasyid" -> ""."""
    parts = dotted.split(".")
    return parts[0] if parts[0] != "fantasyid" else (parts[1:] or [""])[0]


def row(name: str) -> int:
    return next((i for i, row in enumerate(ROWS) if name in row), -1)


def import_problems(path: str, text: str) -> list[str]:
    here, problems = room(path.removesuffix(".py").replace("/", ".")), []
    if here == "__init__":
        return [name for name, _ in imports(path, text) if name != "nodes.FantasyIDExtension"]
    for name, own in imports(path, text):
        there, top = room(name), name.split(".")[0]
        if own:
            downward = row(there) > row(here) >= 0
            wrong = not (there == here or downward or (here, there) in BESIDE)
        elif top in NETWORK:
            wrong = not path.startswith(WITH_NETWORK)
        else:
            ours_or_hosts = HOST if here in ("nodes", "comfyui") else set()
            extra = TRAINING if here == "training" else set()
            wrong = top not in {*sys.stdlib_module_names, *PACKAGES, *ours_or_hosts, *extra}
        problems += [f"{path}: {name}"] * wrong
    return problems


def text_problems(path: str, text: str) -> list[str]:
    found = [f"{path}: {why}" for why, rule in FORBIDDEN.items() if rule.search(text)]
    return found + [f"{path}: more than {MOST_LINES} lines"] * (text.count("\n") > MOST_LINES)


def touched_weights(path: str, text: str) -> list[str]:
    """`.weight` or `.bias` read in an `__init__`: they are None under the host's lazy loader."""
    inits = (n for n in ast.walk(ast.parse(text)) if getattr(n, "name", "") == "__init__")
    nodes = (node for init in inits for node in ast.walk(init))
    wrong = [n for n in nodes if isinstance(n, ast.Attribute) and n.attr in ("weight", "bias")]
    return [f"{path}:{node.lineno}" for node in wrong]


def busy_nodes(path: str, text: str) -> list[str]:
    """`execute` of a node only hands values on: it is short and calculates nothing."""
    if not path.startswith("nodes/"):
        return []
    found = []
    for execute in (n for n in ast.walk(ast.parse(text)) if getattr(n, "name", "") == "execute"):
        assert isinstance(execute, ast.FunctionDef)
        first, last = execute.body[0].lineno, execute.body[-1].end_lineno or 0
        sums = [n for b in execute.body for n in ast.walk(b) if isinstance(n, ast.BinOp)]
        if last - first >= MOST_EXECUTE_LINES or sums:
            found.append(f"{path}:{first}")
    return found


CHECKS = (import_problems, text_problems, touched_weights, busy_nodes)


@pytest.mark.parametrize("check", CHECKS)
def test_the_package(check):
    assert [p for path, text in package_files().items() for p in check(path, text)] == []


@pytest.mark.parametrize(
    ("check", "path", "text"),
    [
        (import_problems, "__init__.py", "import torch"),
        (import_problems, "fantasyid/face/crop.py", "from ..comfyui import images"),
        (import_problems, "fantasyid/face/crop.py", "from ..geometry import flame"),
        (import_problems, "fantasyid/face/crop.py", "from .. import comfyui"),
        (import_problems, "fantasyid/face/crop.py", "from fantasyid.attention import attend"),
        (import_problems, "fantasyid/face/crop.py", "def f():\n    import timm"),
        (import_problems, "fantasyid/face/crop.py", "def f():\n    import comfy.ops"),
        (import_problems, "fantasyid/attention.py", "from .identity import Identity"),
        (import_problems, "fantasyid/comfyui/files.py", "from ...nodes import types"),
        (import_problems, "fantasyid/comfyui/files.py", "from ...miniature import head"),
        (import_problems, "nodes/face.py", "def f():\n    import requests"),
        (text_problems, "nodes/face.py", "model.cuda()"),
        (text_problems, "nodes/face.py", "with torch.autocast('cuda'):\n    pass"),
        (text_problems, "nodes/face.py", "NODE_CLASS_MAPPINGS = {}"),
        (text_problems, "nodes/face.py", "torch.load(path)"),
        (text_problems, "nodes/face.py", "x = 1\n" * (MOST_LINES + 1)),
        (
            touched_weights,
            "x.py",
            "class A:\n    def __init__(self):\n        self.a.weight.zero_()",
        ),
        (busy_nodes, "nodes/face.py", "def execute(a):\n    return a + 1"),
        (busy_nodes, "nodes/face.py", "def execute(a):\n" + "    a()\n" * 20),
    ],
)
def test_a_bad_example_is_seen(check, path, text):
    assert check(path, text)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("nodes/face.py", "from ..fantasyid.comfyui import stages\nimport comfy"),
        ("fantasyid/views/select.py", "from ..face import crop"),
        ("fantasyid/weights/download/fetch.py", "def f():\n    import huggingface_hub"),
        ("fantasyid/weights/read.py", "torch.load(path, weights_only=True)\nnn.SiLU()"),
    ],
)
def test_a_good_example_passes(path, text):
    assert [p for check in CHECKS for p in check(path, text)] == []


def test_ruff_sees_what_it_is_asked_to_see():
    text = (
        "import pickle\nimport subprocess\nimport comfy.ops\nimport torch\nfrom torch import nn\n"
        "print(nn.Linear(1, 2), eval('1'), pickle, subprocess, comfy)\n"
        "with torch.autocast('cuda'):\n    pass\n"
    )
    command = [sys.executable, "-m", "ruff", "check", "--output-format", "concise", "-"]
    command += ["--stdin-filename", "fantasyid/face/example.py"]
    run = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, cwd=ROOT)
    for banned in ("pickle", "subprocess", "comfy", "torch.nn.Linear", "torch.autocast"):
        assert f"TID251 `{banned}`" in run.stdout
    assert {"T201", "S307"} <= set(re.findall(r"\b[A-Z]+\d+\b", run.stdout))


def test_every_file_of_the_project_stays_small_and_has_a_name_that_says_something():
    folders = ("nodes", "fantasyid", "demo", "miniature", "benchmarks", "tests")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 150
    long = [path for path in files if path.read_text("utf-8").count("\n") > MOST_LINES]
    vague = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert (long, [path for path in files if path.stem in vague]) == ([], [])


def test_importing_the_root_package_imports_nothing():
    script = (
        "import importlib.util, json, sys\n"
        "before = set(sys.modules)\n"
        f"spec = importlib.util.spec_from_file_location('pack', {str(ROOT / '__init__.py')!r}, "
        f"submodule_search_locations=[{str(ROOT)!r}])\n"
        "module = sys.modules['pack'] = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "assert callable(module.comfy_entrypoint)\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))\n"
    )
    command = [sys.executable, "-S", "-c", "import json\n" + script]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(run.stdout) == ["pack"]
