"""A server on this machine that misbehaves as it is told."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

SETTINGS = ("HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE", "http_proxy", "https_proxy", "no_proxy")


@dataclass
class Served:
    """A file on the server."""

    content: bytes


@dataclass
class Asked:
    """A request as it arrived."""

    path: str
    headers: Message


Reply = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers with the next reply of the script, or as a good server does."""

    server: FileServer

    def do_GET(self) -> None:
        if re.match("/api/(?!models/|v1/)", self.path):  # what the hub's library asks beside
            self.head(404, {"Content-Length": "0"})
            return
        self.server.asked.append(Asked(self.path, self.headers))
        script = self.server.script
        reply = script.pop(0) if script else good()
        reply(self)
        self.close_connection = True

    def served(self) -> Served | None:
        # A proxy is asked for whole addresses.
        path = re.sub(r"^http://[^/]+", "", self.path).partition("?")[0]
        return self.server.files.get(path)

    def head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # the base class's names
        del format, args


@dataclass(eq=False)
class FileServer(ThreadingHTTPServer):
    """Serves `files` by path; `script` holds the replies to the next requests.

    Attributes:
        asked: The requests so far.
        sent: Set when a reply that stalls has sent what it sends.
        over: Set when everything that stalls may end.
    """

    files: dict[str, Served] = field(default_factory=dict)
    script: list[Reply] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    sent: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    daemon_threads = True

    def __post_init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, *_: object) -> None:
        """A client that went away is what these tests are about."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def ranges(self) -> list[str | None]:
        """The Range header of each request."""
        return [asked.headers["Range"] for asked in self.asked]

    def reset(self) -> None:
        self.over.set()
        self.over = threading.Event()
        self.sent = threading.Event()
        self.files, self.script, self.asked = {}, [], []


def good(
    *,
    send: int | None = None,
    stall: bool = False,
    ranges: bool = True,
    length: int | None = None,
    shift: int = 0,
    more: dict[str, str] | None = None,
) -> Reply:
    """An answer with the file, or with something wrong in exactly one way.

    Args:
        send: Bytes after which the connection ends.
        stall: Whether it stays open then, silent.
        ranges: Whether ranges are understood.
        length: A Content-Length that is not the true one.
        shift: Bytes by which a range begins too early.
        more: Further headers.
    """

    def reply(handler: Handler) -> None:
        served = handler.served()
        if served is None:
            handler.head(404, {"Content-Length": "0"})
            return
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        start = int(asked[1]) if asked and ranges else 0
        if start and start >= len(served.content):
            handler.head(416, {"Content-Range": f"bytes */{len(served.content)}"})
            return
        start = max(0, start - shift)
        body = served.content[start:]
        headers = {"Content-Length": str(len(body) if length is None else length)}
        if start:
            end = len(served.content) - 1
            headers["Content-Range"] = f"bytes {start}-{end}/{len(served.content)}"
        handler.head(206 if start else 200, headers | (more or {}))
        handler.wfile.write(body[:send])
        handler.wfile.flush()
        if stall:
            handler.server.sent.set()
            handler.server.over.wait(20)

    return reply


def dripping(handler: Handler) -> None:
    """One byte at a time, of the headers, for as long as anyone waits."""
    handler.wfile.write(b"HTTP/1.0 200 OK\r\nX-Drip: ")
    while not handler.server.over.wait(0.05):
        handler.wfile.write(b"a")


def endless(handler: Handler) -> None:
    """A page of a list that names itself as the next one."""
    path = f"{handler.server.url}{handler.path}"
    handler.server.script.append(endless)
    good(more={"Link": f'<{path}>; rel="next"'})(handler)


def status(code: int, **headers: str) -> Reply:
    """An answer without the file."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.head(code, {"Content-Length": "0", **named})


def redirect(location: str, code: int = 302) -> Reply:
    """Sends the client elsewhere."""
    return status(code, Location=location)


def publish(web: FileServer, repo: str, contents: Mapping[str, bytes]) -> None:
    """Serve a repository as Hugging Face and as ModelScope do: the list, and the files."""
    hub, modelscope = [], []
    for path, content in contents.items():
        size, sha256 = len(content), hashlib.sha256(content).hexdigest()
        entry = {"type": "file", "path": path, "size": size, "oid": "0" * 40}
        if not path.endswith(".json"):  # small files are not in LFS and have no such hash
            entry["lfs"] = {"oid": sha256, "size": size, "pointerSize": 100}
        hub.append(entry)
        modelscope.append({"Type": "blob", "Path": path, "Size": size, "Sha256": sha256})
        web.files[f"/{repo}/resolve/main/{path}"] = Served(content)
        web.files[f"/models/{repo}/resolve/master/{path}"] = Served(content)
    hub.append({"type": "directory", "path": "vae", "oid": "0" * 40, "size": 0})
    modelscope.append({"Type": "tree", "Path": "vae", "Size": 0})
    serve_lists(web, repo, hub, {"Data": {"Files": modelscope}})


def serve_lists(web: FileServer, repo: str, hub: object, modelscope: object) -> None:
    """Serve what the two hubs say that a repository holds."""
    web.files[f"/api/models/{repo}/tree/main"] = Served(json.dumps(hub).encode())
    web.files[f"/api/v1/models/{repo}/repo/files"] = Served(json.dumps(modelscope).encode())


@pytest.fixture(scope="session")
def running() -> Iterator[FileServer]:
    """A server, started once."""
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def web(running: FileServer, monkeypatch: pytest.MonkeyPatch) -> FileServer:
    """A server without files and without a script, and no proxy before it."""
    for name in (*SETTINGS, *(n.upper() for n in SETTINGS), "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    running.reset()
    return running
