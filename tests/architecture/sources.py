"""What the architecture tests read: the project's own Python files as syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass(frozen=True)
class Source:
    """A Python file: its path below the root ("fantasyid/face/crop.py") and its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def package(self) -> tuple[str, ...]:
        """The folders that the file lies in."""
        return tuple(self.path.split("/")[:-1])

    def inside(self, *folders: str) -> bool:
        """Whether the file lies in one of some folders ("fantasyid/comfyui")."""
        return any(self.path.startswith(f"{folder}/") for folder in folders)


@dataclass(frozen=True)
class Import:
    """One imported module.

    Attributes:
        name: Dotted name; for the project's own modules from the root ("fantasyid.attention"), with
            the imported name as last part where that may be a module.
        own: Whether it is a relative import, and so one of the project's own.
        lazy: Whether it stands inside a function.
        line: Line number.
    """

    name: str
    own: bool
    lazy: bool
    line: int

    @property
    def top(self) -> str:
        return self.name.split(".")[0]

    def within(self, *modules: str) -> bool:
        """Whether this is one of some modules, or lies in one."""
        return any(self.name == m or self.name.startswith(f"{m}.") for m in modules)


def read(*patterns: str) -> list[Source]:
    """The files below the root that match, e.g. "fantasyid/**/*.py"."""
    paths = sorted({path for pattern in patterns for path in ROOT.glob(pattern)})
    return [Source(p.relative_to(ROOT).as_posix(), p.read_text("utf-8")) for p in paths]


def package_sources() -> list[Source]:
    """Everything that ComfyUI loads of us."""
    return read("__init__.py", "nodes/**/*.py", "fantasyid/**/*.py")


def walk(tree: ast.AST, *, lazy: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """All nodes of a tree, and whether each one runs only when a function is called."""
    yield tree, lazy
    for child in ast.iter_child_nodes(tree):
        yield from walk(child, lazy=lazy or isinstance(tree, FUNCTIONS))


def imports(source: Source) -> list[Import]:
    """All imports of a file, relative ones resolved from the root."""
    found = []
    for node, lazy in walk(source.tree):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, False, lazy, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            folders = source.package
            if node.level:
                parts = [*folders[: len(folders) - node.level + 1], *(node.module or "").split(".")]
            else:
                parts = (node.module or "").split(".")
            base = ".".join(part for part in parts if part)
            names = [f"{base}.{alias.name}".strip(".") for alias in node.names]
            found += [Import(name, node.level > 0, lazy, node.lineno) for name in names]
    return found


def dotted(node: ast.AST) -> str:
    """A name as it is written ("torch.load", "x.cuda"); "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""
