"""The one HTTP client for a running ComfyUI: used by the evaluation, the demo and the tests."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.parse
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import aiohttp
import requests

from .protocol.journal import write_whole

Graph = dict[str, dict[str, Any]]
Message = dict[str, Any]

TIMEOUT_S = 60.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


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
    """What became of a prompt.

    Attributes:
        ending: Success, error, ...; a prompt that is not over has no outputs.
        outputs: Node id -> its `ui` values.
        error: What the host says of the node that failed: `node_id`, `node_type`,
            `exception_type`, `exception_message`, `traceback`; else empty.
        executed: Ids of the nodes that ran, in order (only from `Host.run`).
        cached: Ids of the nodes that came from the host's cache (only from `Host.run`).
    """

    ending: Ending
    outputs: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)
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

    def files(self, node: str) -> list[HostFile]:
        """The files that a saving node of the workflow wrote."""
        return [
            HostFile(value["filename"], value.get("subfolder", ""), value.get("type", "output"))
            for values in (self.outputs.get(node) or {}).values()
            for value in (values if isinstance(values, list) else [])
            if isinstance(value, dict) and value.get("filename")
        ]


class Host:
    """A running ComfyUI.

    Args:
        url: Such as `http://127.0.0.1:8188`.

    Raises:
        ValueError: It is no http address.
    """

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f'the host "{url}" is no address: write http://NAME:PORT')
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._session = requests.Session()
        # Whatever the environment says of proxies: this machine is reached without one.
        self._session.trust_env = parts.hostname not in _LOOPBACK
        self._session.headers["Connection"] = "close"  # an idle connection dies with its host

    def run(
        self,
        graph: Graph,
        on_message: Callable[[Message], None] | None = None,
        on_wait: Callable[[], None] | None = None,
        silence_s: float = 3600.0,
    ) -> Result:
        """Run a workflow and wait for its end; an error of a node is in the result, not raised.

        Args:
            graph: API format.
            on_message: Called with every message `{"type", "data"}` about the prompt as it comes:
                `executing`, `execution_cached`, `progress`, `executed`...
            on_wait: Called each second without a message; what it raises ends the waiting.
            silence_s: Without a word for so long, the host is taken for lost.

        Raises:
            WorkflowRefused: The host does not accept it.
            HostUnreachable: It does not answer, hangs up, or falls silent.
        """
        return asyncio.run(self._run(graph, on_message, on_wait, silence_s))

    async def _run(
        self,
        graph: Graph,
        on_message: Callable[[Message], None] | None,
        on_wait: Callable[[], None] | None,
        silence_s: float,
    ) -> Result:
        client_id, prompt_id = uuid.uuid4().hex, str(uuid.uuid4())
        executed: list[str] = []
        cached: list[str] = []
        try:
            async with (
                aiohttp.ClientSession(trust_env=self._session.trust_env) as session,
                session.ws_connect(
                    f"{self.url}/ws", params={"clientId": client_id}, max_msg_size=0
                ) as socket,
            ):
                self.queue(graph, prompt_id, client_id)
                async for message in self._messages(socket, on_wait, silence_s):
                    kind, data = message["type"], message.get("data") or {}
                    about = data.get("prompt_id")
                    if about in (None, prompt_id) and on_message is not None:
                        on_message(message)
                    if about != prompt_id:
                        continue
                    if kind == "execution_cached":
                        cached += data["nodes"]
                    elif kind == "executing" and data.get("node"):
                        executed.append(data["node"])
                    elif kind in ("executing", Ending.ERROR, Ending.INTERRUPTED):
                        break
        except aiohttp.ClientError as error:
            raise self._unreachable(error) from error
        result = self.result(prompt_id)
        while result.ending is Ending.WAITING:  # the history is written a moment later
            time.sleep(0.05)
            result = self.result(prompt_id)
        result.executed, result.cached = executed, cached
        return result

    async def _messages(
        self,
        socket: Any,
        on_wait: Callable[[], None] | None,
        silence_s: float,
    ) -> AsyncIterator[Message]:
        """The messages of the host; its preview pictures are left out."""
        heard = time.monotonic()
        while True:
            try:
                frame = await socket.receive(timeout=1.0)
            except asyncio.TimeoutError:  # another class than TimeoutError before Python 3.11
                if on_wait is not None:
                    on_wait()
                if time.monotonic() - heard > silence_s:
                    raise HostUnreachable(
                        f"the host at {self.url} was silent for {silence_s:.0f} s"
                    ) from None
                continue
            heard = time.monotonic()
            if frame.type is aiohttp.WSMsgType.TEXT:
                yield json.loads(frame.data)
            elif frame.type is not aiohttp.WSMsgType.BINARY:
                raise HostUnreachable(f"the host at {self.url} hung up")

    def queue(self, graph: Graph, prompt_id: str, client_id: str = "") -> None:
        """Put a workflow into the host's queue.

        Args:
            graph: API format.
            prompt_id: A UUID, under which it is found again.
            client_id: Of the websocket that is told of its progress.

        Raises:
            WorkflowRefused: With what the host says of each input.
            HostUnreachable: It does not answer.
        """
        body = {"prompt": graph, "prompt_id": prompt_id, "client_id": client_id}
        try:
            answer = self.request("POST", "/prompt", json=body).json()
        except HostRefused as refused:
            words = "\n".join(refusal(refused.body, graph))
            raise WorkflowRefused(
                f"the host refuses the workflow:\n{words}", refused.status, refused.body
            ) from refused
        if answer.get("node_errors"):  # it took the outputs that are well and left out others
            words = "\n".join(refusal(answer, graph))
            raise WorkflowRefused(f"the host refuses the workflow:\n{words}", 200, answer)
        if answer.get("prompt_id") != prompt_id:
            raise HostError(
                f"the host calls the prompt {answer.get('prompt_id')} where {prompt_id} was asked "
                "for: it is older than ComfyUI 0.30.0; update it"
            )

    def result(self, prompt_id: str) -> Result:
        """What became of a prompt so far.

        Raises:
            HostError: The host is not reachable.
        """
        for look in range(2):
            found = self.get(f"/history/{prompt_id}", attempts=5)
            if prompt_id in found:
                return read_history(found[prompt_id])
            queue = {} if look else self.get("/queue", attempts=5)
            if any(item[1] == prompt_id for items in queue.values() for item in items):
                return Result(Ending.WAITING)
        return Result(Ending.UNKNOWN)  # neither there, nor ended between the looks

    def describe(self) -> str:
        """Versions and device, in words.

        Raises:
            HostError: It cannot be reached, or is no ComfyUI.
        """
        try:
            answer = self.get("/system_stats")
            system, devices = answer["system"], [d["name"] for d in answer["devices"]]
        except (KeyError, TypeError, ValueError) as error:
            raise HostError(f"{self.url} answers, but is no ComfyUI") from error
        return (
            f"ComfyUI {system.get('comfyui_version', '(version unknown)')}, torch "
            f"{system.get('pytorch_version', '(version unknown)')}, {', '.join(devices)}"
        )

    def object_info(self, class_type: str = "") -> dict[str, Any]:
        """Node class -> its inputs and outputs, of one class or of all; {} for an unknown one."""
        return self.get(f"/object_info/{class_type}".rstrip("/"))

    def interrupt(self) -> None:
        """Press the stop button."""
        self.request("POST", "/interrupt", json={})

    def free(self) -> None:
        """Have the host unload its models and empty its cache before the next prompt."""
        self.request("POST", "/free", json={"unload_models": True, "free_memory": True})

    def upload(self, name: str, folder: str, content: bytes) -> None:
        """Put a photo into the host's input folder, unless it is there.

        Args:
            name: Of the file; it must tell the content, so that nothing else has it.
            folder: Below the input folder.
            content: A PNG.

        Raises:
            HostError: It was not accepted.
        """
        stored = None
        for overwrite in ("false", "true"):  # what was left half-written is written over
            fields = {"subfolder": folder, "type": "input", "overwrite": overwrite}
            files = {"image": (name, content, "image/png")}
            stored = self.request("POST", "/upload/image", data=fields, files=files).json()["name"]
            if stored == name:
                return
        raise HostError(f"the host stores the photo {name} as {stored}")

    def exists(self, file: HostFile) -> bool:
        """Whether the host has a file.

        Raises:
            HostUnreachable: It does not answer.
        """
        try:
            self.request("HEAD", "/view", params=file.query)
        except HostRefused:
            return False
        return True

    def fetch(self, file: HostFile, target: Path) -> None:
        """Copy a file of the host; the target is there whole or not at all.

        Raises:
            FileNotFoundError: The host has it no more.
            HostUnreachable: It does not answer, or hangs up.
        """
        try:
            content = self.request("GET", "/view", params=file.query).content
        except HostRefused as refused:
            raise FileNotFoundError(
                f"the host has no file {file.subfolder}/{file.filename} ({refused.status})"
            ) from refused
        write_whole(target, lambda opened: opened.write(content))

    def get(self, path: str, attempts: int = 1) -> Any:
        """JSON of a GET request, which may be repeated: a busy host is slow to answer.

        Raises:
            HostRefused: It answers with an error status.
            HostUnreachable: It does not answer.
        """
        for attempt in range(1, attempts):
            try:
                return self.request("GET", path).json()
            except HostUnreachable:
                time.sleep(2.0**attempt / 4)
        return self.request("GET", path).json()

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """One request, as `requests` makes it.

        Raises:
            HostRefused: It answers with an error status.
            HostUnreachable: It does not answer.
        """
        try:
            answer = self._session.request(
                method, self.url + path, **{"timeout": TIMEOUT_S, **options}
            )
        except requests.RequestException as error:
            raise self._unreachable(error) from error
        if answer.ok:
            return answer
        try:
            body = answer.json()
        except ValueError:
            body = answer.text
        raise HostRefused(
            f"{self.url}{path} answers {answer.status_code}", answer.status_code, body
        )

    def _unreachable(self, error: Exception) -> HostUnreachable:
        while error.args and isinstance(error.args[0], Exception):  # urllib3's layers
            error = error.args[0]
        reason = getattr(error, "reason", error)
        return HostUnreachable(
            f"the host at {self.url} does not answer ({str(reason) or type(reason).__name__}): "
            "start ComfyUI, or name its address with --host; then run the same command again"
        )


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
