"""Which nodes there are and what sockets they have, read from the source without the host."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from architecture.sources import Source, dotted, read


@dataclass(frozen=True)
class NodeWords:
    """A node's id and title, and its inputs' and outputs' ids in order.

    Attributes:
        complete: Whether every input is written out; a `*` in the list hides some from this
            reader, and the host's tests see them.
        shown_outputs: What an output is called on the node.
        execute_inputs: The parameters of `execute`.
    """

    node_id: str
    title: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shown_outputs: tuple[str, ...]
    execute_inputs: tuple[str, ...]
    complete: bool


def registered_nodes() -> list[str]:
    """The class names in `NODES` of nodes/__init__.py, in order."""
    (source,) = read("nodes/__init__.py")
    for node in source.tree.body:
        if isinstance(node, ast.AnnAssign) and dotted(node.target) == "NODES":
            assert isinstance(node.value, ast.List)
            return [dotted(item) for item in node.value.elts]
    raise AssertionError("nodes/__init__.py has no list NODES")


def nodes_by_class() -> dict[str, NodeWords]:
    """Every node class of nodes/*.py."""
    found: dict[str, NodeWords] = {}
    for source in read("nodes/*.py"):
        for item in source.tree.body:
            if isinstance(item, ast.ClassDef) and (schema := _schema(item)) is not None:
                found[item.name] = _words(source, item, schema)
    return found


def _schema(node_class: ast.ClassDef) -> ast.Call | None:
    calls = (n for n in ast.walk(node_class) if isinstance(n, ast.Call))
    return next((call for call in calls if dotted(call.func) == "io.Schema"), None)


def _words(source: Source, node_class: ast.ClassDef, schema: ast.Call) -> NodeWords:
    given = {k.arg: k.value for k in schema.keywords}
    inputs, outputs = (_sockets(source, given.get(k)) for k in ("inputs", "outputs"))
    methods = {m.name: m for m in node_class.body if isinstance(m, ast.FunctionDef)}
    parameters = [a.arg for a in methods["execute"].args.args[1:]]
    return NodeWords(
        _text(given["node_id"]),
        _text(given["display_name"]),
        tuple(name for name, _ in inputs),
        tuple(name for name, _ in outputs),
        tuple(shown for _, shown in outputs),
        tuple(parameters),
        not any(isinstance(item, ast.Starred) for item in ast.walk(given["inputs"])),
    )


def _sockets(source: Source, items: ast.expr | None) -> list[tuple[str, str]]:
    """Id and display name of each socket of a list."""
    assert isinstance(items, ast.List), "write the sockets as a list"
    shown = [item for item in items.elts if not isinstance(item, ast.Starred)]
    return [_socket(source, item) for item in shown]


def _socket(source: Source, item: ast.expr) -> tuple[str, str]:
    assert isinstance(item, ast.Call), f"line {item.lineno}: expected a socket"
    if isinstance(item.func, ast.Name):
        return _shared_socket(source, item)
    name = _text(item.args[0] if item.args else next(k.value for k in item.keywords))
    shown = [_text(k.value) for k in item.keywords if k.arg == "display_name"]
    return name, (shown or [name])[0]


def _shared_socket(source: Source, call: ast.Call) -> tuple[str, str]:
    """A socket that a function of the same file makes, its id fixed there or handed in."""
    (maker,) = (
        n
        for n in source.tree.body
        if isinstance(n, ast.FunctionDef) and n.name == dotted(call.func)
    )
    (result,) = (n.value for n in ast.walk(maker) if isinstance(n, ast.Return))
    assert isinstance(result, ast.Call)
    first = result.args[0]
    if isinstance(first, ast.Name):
        position = [a.arg for a in maker.args.args].index(first.id)
        first = call.args[position]
    return _text(first), _text(first)


def _text(node: ast.expr) -> str:
    assert isinstance(node, ast.Constant), f"line {node.lineno}: expected a text"
    assert isinstance(node.value, str), f"line {node.lineno}: expected a text"
    return node.value
