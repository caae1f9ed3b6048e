"""What no file may contain: calls that run or fetch things, raw layers, vague names, sprawl."""

from __future__ import annotations

import ast

import pytest
from architecture.sources import ROOT, Source, dotted, imports, package_sources, read

MAX_LINES = 320
MAX_STATEMENTS = 40
MAX_EXECUTE_LINES = 15
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc"}
NEVER_CALLED = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.startfile",
    "pickle.load", "pickle.loads", "pickle.Unpickler", "numpy.load", "np.load", "torch.autocast",
    "torch.amp.autocast", "torch.cuda.amp.autocast", "autocast", "joblib.load",
}  # fmt: skip
NEVER_IMPORTED = {"subprocess", "multiprocessing", "dill", "cloudpickle", "marshal", "shelve"}
HOLD_WEIGHTS = {
    "Linear", "Bilinear", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d",
    "ConvTranspose3d", "LayerNorm", "GroupNorm", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d",
    "InstanceNorm1d", "InstanceNorm2d", "RMSNorm", "Embedding", "EmbeddingBag", "PReLU",
    "MultiheadAttention", "TransformerEncoderLayer", "LSTM", "GRU",
}  # fmt: skip
# The only two places that may have the pickle machinery at hand: a reader in which every step that
# acts is replaced, and the writers of test files.
PICKLE_IMPORTERS = ("fantasyid/weights/safe_pickle.py",)

SOURCES = package_sources()
ALL_CODE = [*SOURCES, *read("demo/**/*.py", "demo_nodes/**/*.py", "quickstart.py")]


def calls(source: Source) -> list[tuple[str, ast.Call]]:
    found = [node for node in ast.walk(source.tree) if isinstance(node, ast.Call)]
    return [(dotted(call.func), call) for call in found]


def keyword(call: ast.Call, name: str) -> object:
    """The constant that a call gives to a keyword; None where it gives none."""
    values = [k.value for k in call.keywords if k.arg == name]
    return values[0].value if values and isinstance(values[0], ast.Constant) else None


def dangerous_calls(source: Source) -> list[str]:
    # `re.compile` and the like are methods of other modules, not the builtin.
    found = [name for name, _ in calls(source) if name in NEVER_CALLED]
    found += [
        name
        for name, call in calls(source)
        if name == "torch.load" and keyword(call, "weights_only") is not True
    ]
    found += [i.name for i in imports(source) if not i.own and i.top in NEVER_IMPORTED]
    if not source.path.startswith(PICKLE_IMPORTERS):
        found += [i.name for i in imports(source) if not i.own and i.top == "pickle"]
    return found


def device_calls(source: Source) -> list[str]:
    """Calls that take the device or the dtype out of the host's hands."""
    return [name for name, _ in calls(source) if name.split(".")[-1] in ("cuda", "autocast")]


def prints(source: Source) -> list[str]:
    if source.path.endswith("/__main__.py"):  # a command line speaks
        return []
    return [name for name, _ in calls(source) if name in ("print", "sys.stdout.write")]


def raw_layers(source: Source) -> list[str]:
    """Layers with weights that are not built from the `operations` that the host hands in."""
    if source.inside("fantasyid/tiny"):
        return []
    found = []
    for name, _ in calls(source):
        owner, _, kind = name.rpartition(".")
        if kind in HOLD_WEIGHTS and owner.split(".")[-1] in ("", "nn"):
            found.append(name)
    return found


def touched_weights(source: Source) -> list[str]:
    """`.weight` or `.bias` read in an `__init__`: they are None under the host's lazy loader."""
    inits = [
        node
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    ]
    return [
        dotted(node)
        for init in inits
        for node in ast.walk(init)
        if isinstance(node, ast.Attribute) and node.attr in ("weight", "bias")
    ]


def old_style_mappings(source: Source) -> list[str]:
    """The host looks no further once it sees this name, and so would miss every node."""
    assigned = [n for n in ast.walk(source.tree) if isinstance(n, (ast.Assign, ast.AnnAssign))]
    names = [t for n in assigned for t in (n.targets if isinstance(n, ast.Assign) else [n.target])]
    return [dotted(name) for name in names if dotted(name).endswith("_CLASS_MAPPINGS")]


def long_functions(source: Source) -> list[str]:
    functions = [n for n in ast.walk(source.tree) if isinstance(n, ast.FunctionDef)]
    return [
        f"{f.name}: {count} statements"
        for f in functions
        if (count := sum(isinstance(n, ast.stmt) for n in ast.walk(f)) - 1) > MAX_STATEMENTS
    ]


def sprawl(source: Source) -> list[str]:
    count = source.text.count("\n")
    return [f"{count} lines"] if count > MAX_LINES else []


PACKAGE_CHECKS = (
    dangerous_calls,
    device_calls,
    prints,
    raw_layers,
    touched_weights,
)
ALL_CHECKS = (old_style_mappings, long_functions, sprawl)


@pytest.mark.parametrize("check", PACKAGE_CHECKS)
@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.path)
def test_the_package_contains_none_of_it(source, check):
    assert check(source) == []


@pytest.mark.parametrize("check", ALL_CHECKS)
@pytest.mark.parametrize("source", ALL_CODE, ids=lambda s: s.path)
def test_files_stay_small_and_new_style(source, check):
    assert check(source) == []


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (dangerous_calls, "eval('1')"),
        (dangerous_calls, "import os\nos.system('ls')"),
        (dangerous_calls, "import subprocess"),
        (dangerous_calls, "import pickle"),
        (dangerous_calls, "pickle.loads(b'')"),
        (dangerous_calls, "torch.load(path)"),
        (dangerous_calls, "torch.load(path, weights_only=False)"),
        (device_calls, "model.cuda()"),
        (device_calls, "with torch.autocast('cuda'):\n    pass"),
        (prints, "print('x')"),
        (raw_layers, "layer = nn.Linear(1, 2)"),
        (raw_layers, "layer = torch.nn.Conv2d(1, 2, 3)"),
        (touched_weights, "class A:\n    def __init__(self):\n        self.fc.weight.zero_()"),
        (old_style_mappings, "NODE_CLASS_MAPPINGS = {}"),
        (old_style_mappings, "NODE_CLASS_MAPPINGS: dict = {}"),
        (long_functions, "def f():\n" + "    x = 1\n" * (MAX_STATEMENTS + 1)),
        (sprawl, "x = 1\n" * (MAX_LINES + 1)),
    ],
)
def test_the_checks_see_what_they_forbid(check, text):
    assert check(Source("fantasyid/x.py", text))


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (dangerous_calls, "torch.load(path, weights_only=True)\nre.compile('a')\nmodel.eval()"),
        (raw_layers, "operations.Linear(1, 2)\nnn.SiLU()\nnn.Sequential()"),
        (touched_weights, "class A:\n    def forward(self):\n        return self.fc.weight"),
    ],
)
def test_the_checks_let_pass_what_is_right(check, text):
    assert check(Source("fantasyid/x.py", text)) == []


def test_no_file_has_a_vague_name():
    ours = [
        path
        for folder in ("fantasyid", "nodes", "demo", "demo_nodes", "tests", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
    ]
    assert len(ours) > 50
    assert [path for path in ours if VAGUE & {path.stem, *path.relative_to(ROOT).parts}] == []


@pytest.mark.parametrize("source", read("nodes/*.py"), ids=lambda s: s.path)
def test_nodes_are_sockets_and_words(source):
    """`execute` only hands values on: it is short and calculates nothing."""
    methods = [n for n in ast.walk(source.tree) if isinstance(n, ast.FunctionDef)]
    for execute in [m for m in methods if m.name == "execute"]:
        first, last = execute.body[0].lineno, execute.body[-1].end_lineno or 0
        assert last - first < MAX_EXECUTE_LINES, f"line {execute.lineno}"
        sums = [n.lineno for n in ast.walk(execute) if isinstance(n, (ast.BinOp, ast.AugAssign))]
        # `X | None` in a signature is a type, no sum.
        assert [line for line in sums if line >= first] == []
