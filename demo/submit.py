"""One prompt on the server: sent, watched node by node, and its outputs collected."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from .console import Problem, say
from .server import Server, last_lines
from .websocket import WebSocket
from .workflow import Graph

# Without any word from the server for so long, something hangs.
SILENCE_LIMIT_S = 3600.0
MOST_LINES = 6  # of a node's error message


def title_of(graph: Graph, key: str) -> str:
    """What a node is called: its title in the workflow, else its class."""
    node = graph.get(key, {})
    return node.get("_meta", {}).get("title") or node.get("class_type", f"node {key}")


def error_rows(answer: dict[str, Any], graph: Graph) -> list[str]:
    """One row for every input the server did not accept: node, input, message."""
    rows = []
    for key, problem in answer.get("node_errors", {}).items():
        for error in problem.get("errors", []):
            name = error.get("extra_info", {}).get("input_name")
            where = f"node {key} ({title_of(graph, key)})" + (f", input {name!r}" if name else "")
            text = ": ".join(filter(None, (error.get("message"), error.get("details"))))
            rows.append(f"    {where}: {text}")
    error = answer.get("error")
    if error and not rows:
        parts = (
            (error.get("message"), error.get("details")) if isinstance(error, dict) else (error,)
        )
        rows.append("    " + ": ".join(str(part) for part in parts if part))
    return rows


def check_registered(server: Server, graph: Graph) -> None:
    """Raise a Problem that names the node classes the server does not know."""
    classes = sorted({node["class_type"] for node in graph.values()})
    absent = [name for name in classes if not server.request(f"/object_info/{name}")]
    if absent:
        log = server.log.read_text(encoding="utf-8", errors="replace").splitlines()
        rows = [line for line in log if "IMPORT FAILED" in line or "Error" in line]
        words = "\n".join(f"    {row}" for row in rows[-8:]) or last_lines(server.log)
        raise Problem(
            f"ComfyUI does not know {', '.join(absent)}: an extension did not load; from "
            f"{server.log}:\n{words}",
            code=1,
        )


class Progress:
    """Prints what the server is at, from the messages of its websocket."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.total = graph, len(graph)
        self.start = time.monotonic()
        self.number, self.last_step = 0, 0.0

    def take(self, kind: str, data: dict[str, Any]) -> None:
        """Print what one message says; most say nothing of interest."""
        if kind == "executing":
            self.node(str(data["node"]))
        elif kind == "execution_cached":
            self.number += len(data.get("nodes", []))
        elif kind == "progress" and data.get("max", 0) > 1:
            self.step(data["value"], data["max"])

    def node(self, key: str) -> None:
        """A node has begun."""
        self.number += 1
        elapsed = time.monotonic() - self.start
        say(f"  [{self.number:2}/{self.total}] {elapsed:6.1f} s  {title_of(self.graph, key)}")

    def step(self, value: float, maximum: float) -> None:
        """Part of a node is done; at most one line a second, and the last."""
        now = time.monotonic()
        if value >= maximum or now - self.last_step >= 1:
            self.last_step = now
            say(f"          {now - self.start:6.1f} s    step {value:.0f}/{maximum:.0f}")


def run_failed(data: dict[str, Any], graph: Graph) -> Problem:
    """The sentence for a node that raised."""
    key = str(data.get("node_id"))
    kind = str(data.get("exception_type", "")).rsplit(".", 1)[-1]
    lines = str(data.get("exception_message", "")).strip().splitlines() or ["no message"]
    message = "\n    ".join(lines[:MOST_LINES])
    if len(lines) > MOST_LINES:
        message += f"\n    ... and {len(lines) - MOST_LINES} more lines in the server's log"
    return Problem(f"Node {key} ({title_of(graph, key)}) failed with {kind}: {message}", code=1)


def next_message(server: Server, socket: WebSocket) -> dict[str, Any]:
    """The next text message of the server, however long that takes.

    Raises:
        Problem: the server ended, hung up or fell silent.
    """
    waited_since = time.monotonic()
    while time.monotonic() - waited_since < SILENCE_LIMIT_S:
        server.check_alive()
        try:
            text = socket.receive(1.0)
        except ConnectionError as error:
            time.sleep(1)
            server.check_alive()
            raise Problem(f"The connection to the ComfyUI server was lost: {error}") from None
        if text is not None:
            return json.loads(text)
    raise Problem(f"The ComfyUI server was silent for {SILENCE_LIMIT_S:.0f} s.", code=1)


def watch(server: Server, socket: WebSocket, prompt_id: str, progress: Progress) -> None:
    """Follow a prompt to its end.

    Raises:
        Problem: a node raised, the run was interrupted, or the server went away.
    """
    while True:
        message = next_message(server, socket)
        kind, data = message.get("type"), message.get("data") or {}
        if data.get("prompt_id") != prompt_id:
            continue
        if kind == "executing" and data.get("node") is None:
            return  # sent after the result is in the history, unlike execution_success
        if kind == "execution_error":
            raise run_failed(data, progress.graph)
        if kind == "execution_interrupted":
            raise Problem("The run was interrupted on the server.", code=1)
        progress.take(str(kind), data)


def run_prompt(server: Server, graph: Graph) -> dict[str, Any]:
    """Run a workflow.

    Returns:
        Node id -> what it put out, as in the server's history.

    Raises:
        Problem: the server did not accept it, or a node failed.
    """
    client = uuid.uuid4().hex
    socket = WebSocket(server.port, f"/ws?clientId={client}")
    try:
        answer = server.request("/prompt", {"prompt": graph, "client_id": client})
        rows = error_rows(answer, graph)
        if rows or "prompt_id" not in answer:
            raise Problem("ComfyUI did not accept the workflow:\n" + "\n".join(rows), code=1)
        watch(server, socket, answer["prompt_id"], Progress(graph))
    finally:
        socket.close()
    history = server.request(f"/history/{answer['prompt_id']}")
    return history[answer["prompt_id"]]["outputs"]
