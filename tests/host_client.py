"""Whole prompts over HTTP, as a user's browser sends them."""

from __future__ import annotations

import copy
import json
import time
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo.server import Server
from demo.websocket import WebSocket

WORKFLOWS = Path(__file__).resolve().parents[1] / "workflows"
ENDINGS = ("execution_success", "execution_error", "execution_interrupted")

Graph = dict[str, dict[str, Any]]


@dataclass
class Run:
    """What became of a prompt.

    Attributes:
        outputs: Node id -> its `ui` values.
        executed: Ids of the nodes that ran, in order.
        cached: Ids of the nodes that were served from the host's cache.
        ending: The host's last word, one of `ENDINGS`, or "refused".
        errors: The host's words about what went wrong.
        steps: `(node id, value, maximum)` of every progress message.
    """

    outputs: dict[str, Any] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    ending: str = "refused"
    errors: str = ""
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
        self.server = server

    def run(self, graph: Graph, during: Callable[[dict[str, Any]], None] | None = None) -> Run:
        """Send a prompt and wait for its end.

        Args:
            graph: API format.
            during: Called with every message of the server.
        """
        client_id, run = uuid.uuid4().hex, Run()
        socket = WebSocket(self.server.port, f"/ws?clientId={client_id}")
        try:
            body = {"prompt": graph, "client_id": client_id}
            answer = self.server.request("/prompt", body)
            if answer.get("node_errors") or "prompt_id" not in answer:
                run.errors = json.dumps(answer)
                return run
            self._listen(socket, answer["prompt_id"], run, during)
        finally:
            socket.close()
        return run

    def interrupt(self) -> None:
        """Press the stop button."""
        url = f"http://127.0.0.1:{self.server.port}/interrupt"
        urllib.request.urlopen(urllib.request.Request(url, data=b"{}"), timeout=30).close()

    def _listen(self, socket: WebSocket, prompt_id: str, run: Run, during: Any) -> None:
        while True:
            text = socket.receive(120.0)
            assert text is not None, "the server was silent for two minutes"
            message = json.loads(text)
            kind, data = message["type"], message.get("data") or {}
            if data.get("prompt_id") not in (None, prompt_id):
                continue
            if during is not None:
                during(message)
            self._note(kind, data, run)
            if kind == "executing" and data.get("node") is None and run.ending != "refused":
                break
            if kind in ("execution_error", "execution_interrupted"):
                break
        for _ in range(100):
            history = self.server.request(f"/history/{prompt_id}").get(prompt_id)
            if history:
                run.outputs = history["outputs"]
                return
            time.sleep(0.05)

    @staticmethod
    def _note(kind: str, data: dict[str, Any], run: Run) -> None:
        if kind == "executing" and data.get("node"):
            run.executed.append(data["node"])
        elif kind == "execution_cached":
            run.cached += data["nodes"]
        elif kind == "progress":
            run.steps.append((data["node"], data["value"], data["max"]))
        elif kind in ENDINGS:
            run.ending = kind
            if kind == "execution_error":
                run.errors = f"{data['exception_type']}: {data['exception_message']}"
