"""Whole prompts over HTTP, as a user's browser sends them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo.server import Server
from fantasyid.evaluation.answers import Graph, Message, WorkflowRefused

WORKFLOWS = Path(__file__).resolve().parents[1] / "workflows"


@dataclass
class Run:
    """What became of a prompt.

    Attributes:
        ending: The host's last word, or "refused".
        errors: The host's words about what went wrong.
        outputs: Node id -> its `ui` values.
        executed: Ids of the nodes that ran, in order.
        cached: Ids of the nodes that were served from the host's cache.
        steps: `(node id, value, maximum)` of every progress message.
    """

    ending: str = "refused"
    errors: str = ""
    outputs: dict[str, Any] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    steps: list[tuple[str, int, int]] = field(default_factory=list)


def bundled(name: str) -> Graph:
    """A bundled workflow in API format, at a size that a CPU can run."""
    graph = json.loads((WORKFLOWS / "api" / f"{name}.json").read_text("utf-8"))
    for node in graph.values():
        small = {"width": 96, "height": 64, "length": 9, "steps": 3, "size": 128}
        if node["class_type"].startswith("FantasyID"):
            node["inputs"] |= {k: v for k, v in small.items() if k in node["inputs"]}
    return graph


def changed(graph: Graph, class_type: str, **inputs: Any) -> Graph:
    """A copy of a graph with other inputs on every node of a class."""
    graph = copy.deepcopy(graph)
    nodes = [node for node in graph.values() if node["class_type"] == class_type]
    assert nodes, f"no {class_type} in the graph"
    for node in nodes:
        node["inputs"] |= inputs
    return graph


def node_of(graph: Graph, class_type: str) -> str:
    """The id of the only node of a class."""
    (key,) = (k for k, node in graph.items() if node["class_type"] == class_type)
    return key


class Client:
    """Sends prompts and listens until they end."""

    def __init__(self, server: Server) -> None:
        self.host = server.host

    def finish(self, graph: Graph) -> Run:
        """Run a prompt that must succeed."""
        run = self.run(graph)
        assert run.ending == "execution_success", run.errors
        return run

    def run(self, graph: Graph, during: Callable[[Message], None] | None = None) -> Run:
        """Send a prompt and wait for its end.

        Args:
            graph: API format.
            during: Called with every message of the server.
        """
        steps: list[tuple[str, int, int]] = []

        def heard(message: Message) -> None:
            if message["type"] == "progress":
                data = message["data"]
                steps.append((data["node"], data["value"], data["max"]))
            if during is not None:
                during(message)

        try:
            result = self.host.run(graph, heard, silence_s=120)
        except WorkflowRefused as refused:
            return Run(errors=str(refused))
        run = Run(result.ending.value, result.failure, result.outputs)
        run.executed, run.cached, run.steps = result.executed, result.cached, steps
        return run
