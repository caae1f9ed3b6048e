"""One prompt on the server: sent, watched node by node, its failure in one sentence."""

from __future__ import annotations

import time
from typing import Any

from fantasyid.evaluation.answers import (
    Ending,
    Graph,
    HostUnreachable,
    Message,
    Result,
    WorkflowRefused,
    refusal,
    title_of,
)

from .console import Problem, say
from .server import Server

MOST_LINES = 6  # of a node's error message


class Progress:
    """Prints what the server is at, from its messages."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.start = graph, time.monotonic()
        self.number, self.last_step = 0, 0.0

    def __call__(self, message: Message) -> None:
        """Print what one message says; most say nothing of interest."""
        kind, data = message["type"], message.get("data") or {}
        elapsed = time.monotonic() - self.start
        if kind == "execution_cached":
            self.number += len(data.get("nodes", []))
        elif kind == "executing" and data.get("node"):
            self.number += 1
            title = title_of(self.graph, str(data["node"]))
            say(f"  [{self.number:2}/{len(self.graph)}] {elapsed:6.1f} s  {title}")
        elif kind == "progress" and data.get("max", 0) > 1:
            value, maximum = data["value"], data["max"]
            if value >= maximum or elapsed - self.last_step >= 1:  # one line a second, and the last
                self.last_step = elapsed
                say(f"          {elapsed:6.1f} s    step {value:.0f}/{maximum:.0f}")


def node_failed(error: dict[str, Any], graph: Graph) -> Problem:
    """The sentence for a node that raised."""
    key = str(error.get("node_id"))
    kind = str(error.get("exception_type", "")).rpartition(".")[2]
    lines = str(error.get("exception_message", "")).strip().splitlines() or ["no message"]
    message = "\n    ".join(lines[:MOST_LINES])
    if len(lines) > MOST_LINES:
        message += f"\n    ... and {len(lines) - MOST_LINES} more lines in the server's log"
    return Problem(f"Node {key} ({title_of(graph, key)}) failed with {kind}: {message}", code=1)


def run_prompt(server: Server, graph: Graph) -> Result:
    """Run a workflow to its good end.

    Raises:
        Problem: the server did not accept it, a node failed, or the server went away.
    """
    try:
        result = server.host.run(graph, Progress(graph), server.check_alive)
    except WorkflowRefused as refused:
        rows = refusal(refused.body, graph)
        log = server.log.read_text(encoding="utf-8", errors="replace").splitlines()
        failed = [line for line in log if "IMPORT FAILED" in line and "custom_nodes" in line]
        rows += [f"    {line.strip()} (see {server.log})" for line in failed]
        words = "\n".join(rows)
        raise Problem(f"ComfyUI did not accept the workflow:\n{words}", code=1) from refused
    except HostUnreachable as error:
        time.sleep(1)
        server.check_alive()
        raise Problem(f"The connection to the ComfyUI server was lost: {error}") from error
    if result.ending is Ending.ERROR:
        raise node_failed(result.error, graph)
    if result.ending is not Ending.SUCCESS:
        raise Problem("The run was interrupted on the server.", code=1)
    return result
