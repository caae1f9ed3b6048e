"""What a running ComfyUI answers: errors, the files and the end of a prompt, refusals in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

Graph = dict[str, dict[str, Any]]
Message = dict[str, Any]


class HostError(OSError):
    """The host does not do what it is asked; the message is a sentence for people."""


class HostUnreachable(HostError):
    """It does not answer, or hung up."""


class HostRefused(HostError):
    """It answered with an error status.

    Attributes:
        status: Of HTTP.
        body: The answer, JSON where it is JSON, else text.
    """

    def __init__(self, words: str, status: int, body: Any) -> None:
        super().__init__(words)
        self.status, self.body = status, body


class WorkflowRefused(HostRefused):
    """It does not accept a workflow; the message has a line for each input."""


class Ending(str, Enum):
    """What became of a prompt; the last three are the host's own words."""

    UNKNOWN = "unknown"
    WAITING = "waiting"
    SUCCESS = "execution_success"
    ERROR = "execution_error"
    INTERRUPTED = "execution_interrupted"


@dataclass(frozen=True, slots=True)
class HostFile:
    """A file of the host, as its `/view` finds it."""

    filename: str
    subfolder: str = ""
    kind: str = "output"

    @property
    def query(self) -> dict[str, str]:
        """For the address."""
        return {"filename": self.filename, "subfolder": self.subfolder, "type": self.kind}


@dataclass(slots=True)
class Result:
    """What became of a prompt."""

    ending: Ending  # success, error, ...; a prompt that is not over has no outputs
    outputs: dict[str, Any] = field(default_factory=dict)  # node id -> its `ui` values
    # What the host says of the node that failed: `node_id`, `node_type`, `exception_type`,
    # `exception_message`, `traceback`; else empty.
    error: dict[str, Any] = field(default_factory=dict)
    # Ids of the nodes that ran, in order (only from `Host.run`).
    executed: list[str] = field(default_factory=list)
    # Ids of the nodes that came from the host's cache (only from `Host.run`).
    cached: list[str] = field(default_factory=list)

    @property
    def failure(self) -> str:
        """Why it has no outputs, in a sentence; "" where it has."""
        if self.ending is Ending.INTERRUPTED:
            return "it was stopped on the host"
        if self.ending is Ending.ERROR and not self.error:
            return "it failed on the host without a message"
        if self.ending is Ending.ERROR:
            message = str(self.error.get("exception_message", "")).strip() or "no message"
            return f"{self.error.get('node_type', '')}: {message}"
        return ""

    @property
    def error_type(self) -> str:
        """The class of the exception that ended it, without its module; "" for none."""
        return str(self.error.get("exception_type", "")).rpartition(".")[2]

    def files(self, node: str) -> list[HostFile]:
        """The files that a saving node of the workflow wrote."""
        return [
            HostFile(value["filename"], value.get("subfolder", ""), value.get("type", "output"))
            for values in (self.outputs.get(node) or {}).values()
            for value in (values if isinstance(values, list) else [])
            if isinstance(value, dict) and value.get("filename")
        ]


def title_of(graph: Graph, key: str) -> str:
    """What a node is called: its title in the workflow, else its class."""
    node = graph.get(key, {})
    return node.get("_meta", {}).get("title") or node.get("class_type", "?")


def refusal(answer: Any, graph: Graph) -> list[str]:
    """A line for each input that the host did not accept.

    Args:
        answer: The host's answer, JSON or text.
        graph: What it was sent.
    """
    if not isinstance(answer, dict):
        return [f"    {str(answer)[:300]}"]
    lines = []
    for key, node in (answer.get("node_errors") or {}).items():
        for error in node.get("errors", []):
            name = (error.get("extra_info") or {}).get("input_name")
            where = f"node {key} ({title_of(graph, key)})" + (f", input {name}" if name else "")
            words = ": ".join(filter(None, (error.get("message"), error.get("details"))))
            lines.append(f"    {where}: {words}")
    error = answer.get("error")
    if not lines and error:
        error = error if isinstance(error, dict) else {"message": str(error)}
        lines.append("    " + ": ".join(filter(None, map(error.get, ("message", "details")))))
    return lines or ["    it does not say why"]


def read_history(entry: dict[str, Any]) -> Result:
    """The host's record of a prompt that ended."""
    status, outputs = entry.get("status") or {}, entry.get("outputs") or {}
    for kind, data in status.get("messages", []):
        if kind == Ending.ERROR:
            return Result(Ending.ERROR, outputs, data)
        if kind == Ending.INTERRUPTED:
            return Result(Ending.INTERRUPTED, outputs)
    failed = status.get("status_str") == "error"
    return Result(Ending.ERROR if failed else Ending.SUCCESS, outputs)
