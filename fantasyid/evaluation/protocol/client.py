"""The only code here with network: talks to the host that the user named, over its HTTP routes."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .journal import write_whole
from .workflow import Graph

TIMEOUT_S = 60.0
# Between two looks at a prompt; the first are quick, for small models.
_PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0)
_ATTEMPTS = 5
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class HostError(OSError):
    """The host does not do what it is asked; the message is a sentence for people."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a prompt.

    Attributes:
        outputs: Node id -> its `ui` values.
        failure: Why it failed, in a sentence; "" where it did not.
        failed_node: Class of the node that failed, or "".
    """

    outputs: dict[str, Any]
    failure: str
    failed_node: str


@dataclass(frozen=True, slots=True)
class HostFile:
    """A file of the host, as its `/view` finds it."""

    filename: str
    subfolder: str
    kind: str = "output"

    @property
    def query(self) -> str:
        """For the address."""
        return urllib.parse.urlencode(
            {"filename": self.filename, "subfolder": self.subfolder, "type": self.kind}
        )


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
        # Whatever the environment says of proxies: this machine is reached without one.
        proxies = {} if parts.hostname in _LOOPBACK else None
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler(proxies)).open

    def describe(self) -> str:
        """Versions and device, in words.

        Raises:
            HostError: It cannot be reached, or is no ComfyUI.
        """
        try:
            answer = self._get("/system_stats", attempts=1)
            system, devices = answer["system"], [d["name"] for d in answer["devices"]]
        except (KeyError, TypeError, ValueError) as error:
            raise HostError(f"{self.url} answers, but is no ComfyUI") from error
        return (
            f"ComfyUI {system.get('comfyui_version', '(version unknown)')}, torch "
            f"{system.get('pytorch_version', '(version unknown)')}, {', '.join(devices)}"
        )

    def upload(self, name: str, folder: str, content: bytes) -> None:
        """Put a photo into the host's input folder, unless it is there.

        Args:
            name: Of the file; it must tell the content, so that nothing else has it.
            folder: Below the input folder.
            content: A PNG.

        Raises:
            HostError: It was not accepted.
        """
        for overwrite in ("false", "true"):  # what was left half-written is written over
            fields = {"subfolder": folder, "type": "input", "overwrite": overwrite}
            body, kind = _form(fields, name, content)
            answer = self._request("/upload/image", body, {"Content-Type": kind})
            stored = json.loads(answer)
            if stored.get("name") == name:
                return
        raise HostError(f"the host stores the photo {name} as {stored.get('name')}")

    def queue(self, graph: Graph, prompt_id: str) -> None:
        """Put a workflow into the host's queue.

        Args:
            graph: API format.
            prompt_id: A UUID, under which it is found again.

        Raises:
            HostError: It is refused, with what the host says of each input; or not reachable.
        """
        body = json.dumps({"prompt": graph, "prompt_id": prompt_id}).encode()
        try:
            answer = self._request("/prompt", body, {"Content-Type": "application/json"})
        except _Refused as refused:
            raise HostError(
                "the host refuses the workflow:\n" + "\n".join(refusal(refused.body, graph))
            ) from refused
        given = json.loads(answer).get("prompt_id")
        if given != prompt_id:
            raise HostError(
                f"the host calls the prompt {given} where {prompt_id} was asked for: it is older "
                "than ComfyUI 0.30.0; update it"
            )

    def result(self, prompt_id: str) -> Result | str:
        """What became of a prompt: a result, "waiting", or "unknown" where it is nowhere.

        Raises:
            HostError: The host is not reachable.
        """
        found = self._get(f"/history/{prompt_id}")
        if not found:
            queue = self._get("/queue")
            waiting = [*queue["queue_running"], *queue["queue_pending"]]
            if any(item[1] == prompt_id for item in waiting):
                return "waiting"
            found = self._get(f"/history/{prompt_id}")  # it may have ended just now
        if prompt_id not in found:
            return "unknown"
        return read_history(found[prompt_id])

    def exists(self, file: HostFile) -> bool:
        """Whether the host has a file.

        Raises:
            HostError: The host is not reachable.
        """
        try:
            self._request(f"/view?{file.query}", method="HEAD")
        except _Refused:
            return False
        return True

    def fetch(self, file: HostFile, target: Path) -> None:
        """Copy a file of the host; the target is there whole or not at all.

        Raises:
            FileNotFoundError: The host has it no more.
            HostError: The host is not reachable, or hangs up.
        """
        try:
            content = self._request(f"/view?{file.query}")
        except _Refused as refused:
            raise FileNotFoundError(
                f"the host has no file {file.subfolder}/{file.filename} ({refused.status})"
            ) from refused
        write_whole(target, lambda opened: opened.write(content))

    def _get(self, path: str, attempts: int = _ATTEMPTS) -> Any:
        """JSON of a GET request, which may be repeated: a busy host is slow to answer."""
        for attempt in range(attempts):
            try:
                return json.loads(self._request(path))
            except _Refused as refused:
                raise HostError(f"{self.url}{path} answers {refused.status}") from refused
            except HostError:
                if attempt + 1 == attempts:
                    raise
                time.sleep(2.0**attempt / 2)
        raise AssertionError("no attempt")

    def _request(
        self,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        method: str | None = None,
    ) -> bytes:
        request = urllib.request.Request(self.url + path, body, headers or {}, method=method)
        try:
            with self._open(request, timeout=TIMEOUT_S) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            with error:
                raise _Refused(error.code, error.read()) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise HostError(
                f"the host at {self.url} does not answer ({str(reason) or type(reason).__name__}): "
                "start ComfyUI, or name its address with --host; then run the same command again"
            ) from error


class _Refused(Exception):
    """An answer with an error status."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status)
        self.status, self.body = status, body


def pauses() -> Any:
    """How long to wait between looks at a prompt, in seconds, without end."""
    yield from _PAUSES_S
    while True:
        yield _PAUSES_S[-1]


def refusal(body: bytes, graph: Graph) -> list[str]:
    """A line for each input that the host did not accept.

    Args:
        body: The host's answer.
        graph: What it was sent.
    """
    try:
        answer = json.loads(body)
    except ValueError:
        return [f"    {body[:300].decode(errors='replace')}"]
    lines = []
    for key, node in (answer.get("node_errors") or {}).items():
        for error in node.get("errors", []):
            name = (error.get("extra_info") or {}).get("input_name")
            where = f"node {key} ({graph.get(key, {}).get('class_type', '?')})"
            where += f", input {name}" if name else ""
            words = ": ".join(filter(None, (error.get("message"), error.get("details"))))
            lines.append(f"    {where}: {words}")
    error = answer.get("error")
    if not lines and error:
        parts = (error.get("message"), error.get("details")) if isinstance(error, dict) else error
        lines.append("    " + (parts if isinstance(parts, str) else ": ".join(filter(None, parts))))
    return lines or ["    it does not say why"]


def read_history(entry: dict[str, Any]) -> Result:
    """The host's record of a prompt that ended."""
    status = entry.get("status") or {}
    for kind, data in status.get("messages", []):
        if kind == "execution_error":
            node = str(data.get("node_type", ""))
            text = str(data.get("exception_message", "")).strip() or "no message"
            return Result({}, f"{node}: {text}", node)
        if kind == "execution_interrupted":
            return Result({}, "it was stopped on the host", "")
    if status.get("status_str") == "error":
        return Result({}, "it failed on the host without a message", "")
    return Result(entry.get("outputs") or {}, "", "")


def saved_file(result: Result, node: str) -> HostFile | None:
    """The first file that a saving node of a workflow wrote, or None."""
    for values in (result.outputs.get(node) or {}).values():
        for value in values if isinstance(values, list) else []:
            if isinstance(value, dict) and value.get("filename"):
                kind = value.get("type", "output")
                return HostFile(value["filename"], value.get("subfolder", ""), kind)
    return None


def _form(fields: dict[str, str], name: str, content: bytes) -> tuple[bytes, str]:
    """A multipart form with one file, and its content type."""
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode()
        for k, v in fields.items()
    ]
    head = f'Content-Disposition: form-data; name="image"; filename="{name}"\r\n'
    parts.append(f"--{boundary}\r\n{head}Content-Type: image/png\r\n\r\n".encode() + content)
    parts.append(f"\r\n--{boundary}--\r\n".encode())
    return b"".join(parts), f"multipart/form-data; boundary={boundary}"
