"""The one HTTP client for a running ComfyUI: used by the evaluation, the demo and the tests."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import requests
from yarl import URL

from ..whole_file import write_whole
from .answers import (
    Ending,
    Graph,
    HostError,
    HostFile,
    HostRefused,
    HostUnreachable,
    Message,
    Result,
    WorkflowRefused,
    read_history,
    refusal,
)
from .answers import (
    title_of as title_of,
)

TIMEOUT_S = 60.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Host:
    """A running ComfyUI.

    Args:
        url: Such as `http://127.0.0.1:8188`.

    Raises:
        ValueError: It is no http address.
    """

    def __init__(self, url: str) -> None:
        parts = URL(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.host:
            raise ValueError(f'the host "{url}" is no address: write http://NAME:PORT')
        self.url = f"{parts.scheme}://{parts.authority}{parts.path.rstrip('/')}"
        self._session = requests.Session()
        # Whatever the environment says of proxies: this machine is reached without one.
        self._session.trust_env = parts.host not in _LOOPBACK
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

    async def _run(self, graph: Graph, on_message: Any, on_wait: Any, silence_s: float) -> Result:
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
        self, socket: Any, on_wait: Any, silence_s: float
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
