"""What the host's answers mean, in words; and a host that is none."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from fantasyid.evaluation.client import (
    Ending,
    Graph,
    Host,
    HostError,
    HostFile,
    HostUnreachable,
    WorkflowRefused,
    read_history,
    refusal,
)


@pytest.mark.parametrize("url", ["", "ftp://here", "http://", "file:///etc/passwd"])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ValueError, match=r"is no address: write http://NAME:PORT"):
        Host(url)


def test_an_address_is_completed():
    assert Host("127.0.0.1:8188").url == "http://127.0.0.1:8188"
    assert Host("https://box:1/comfy/").url == "https://box:1/comfy"


@pytest.fixture
def stranger():
    """A web server that is no ComfyUI."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>" if self.path == "/system_stats" else b"{}")

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_stranger_is_recognised(stranger):
    with pytest.raises(HostError, match="answers, but is no ComfyUI"):
        Host(stranger).describe()


def test_a_running_host_says_what_it_is(server):
    words = server.host.describe()
    assert words.startswith("ComfyUI 0.")
    assert ", torch 2." in words


def test_files_that_are_not_there(server, tmp_path):
    host = server.host
    absent = HostFile("absent.mp4", "fantasyid_evaluate")
    assert not host.exists(absent)
    with pytest.raises(FileNotFoundError, match=r"has no file fantasyid_evaluate/absent\.mp4"):
        host.fetch(absent, tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_a_half_written_upload_is_written_over(server, host_base):
    host = server.host
    folder = host_base / "input" / "fantasyid_evaluate"
    for content in (b"half", b"whole", b"whole"):
        host.upload("photo of a test.png", "fantasyid_evaluate", content)
        assert [p.read_bytes() for p in folder.glob("photo of a test.png")] == [content]


def test_a_refusal_names_node_input_and_reason():
    graph = {"5": {"class_type": "VAELoader", "inputs": {}}}
    details = {"message": "Value not in list", "details": "vae_name: 'x' not in ['a']"}
    errors = [{**details, "extra_info": {"input_name": "vae_name"}}]
    assert refusal({"error": "x", "node_errors": {"5": {"errors": errors}}}, graph) == [
        "    node 5 (VAELoader), input vae_name: Value not in list: vae_name: 'x' not in ['a']"
    ]
    whole = {"error": {"message": "Prompt has no outputs", "details": ""}}
    assert refusal(whole, graph) == ["    Prompt has no outputs"]
    assert refusal("<html>", graph) == ["    <html>"]
    assert refusal({}, graph) == ["    it does not say why"]


ERROR = {"node_type": "VAEDecodeTiled", "exception_message": "out of memory\n"}


@pytest.mark.parametrize(
    ("messages", "words", "error"),
    [
        ([["execution_error", ERROR]], "VAEDecodeTiled: out of memory", ERROR),
        ([["execution_interrupted", {}]], "it was stopped on the host", {}),
        ([], "it failed on the host without a message", {}),
    ],
)
def test_how_prompts_fail(messages, words, error):
    result = read_history({"status": {"status_str": "error", "messages": messages}})
    assert (result.failure, result.error) == (words, error)


def test_what_a_prompt_saved():
    outputs = {"9": {"images": [{"filename": "a.mp4", "subfolder": "b", "type": "output"}]}}
    result = read_history({"status": {"status_str": "success"}, "outputs": outputs})
    assert (result.ending, result.failure) == (Ending.SUCCESS, "")
    assert result.files("9") == [HostFile("a.mp4", "b", "output")]
    assert result.files("8") == []


EMPTY = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1}},
    "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
}


def with_color(color: int) -> Graph:
    return {**EMPTY, "1": {**EMPTY["1"], "inputs": {**EMPTY["1"]["inputs"], "color": color}}}


def test_a_prompt_is_followed_node_by_node(server, tmp_path):
    host, told = server.host, []
    first = host.run(with_color(77_001), told.append)
    assert (first.ending, first.executed, first.cached) == ("execution_success", ["1", "2"], [])
    assert [m["data"]["node"] for m in told if m["type"] == "executing"] == ["1", "2", None]
    (picture,) = first.files("2")
    host.fetch(picture, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    again = host.run(with_color(77_001))
    assert "1" in again.cached
    assert again.executed == []


def test_a_refused_workflow_names_the_node(server):
    graph = with_color(1)
    graph["1"]["inputs"]["width"] = -1
    graph["1"]["_meta"] = {"title": "Nothing"}
    with pytest.raises(WorkflowRefused, match=r"node 1 \(Nothing\), input width: Value -1"):
        server.host.run(graph)


def test_what_the_caller_raises_ends_the_waiting(server):
    class Enough(Exception):
        pass

    def enough(_):
        raise Enough

    with pytest.raises(Enough):
        server.host.run(with_color(77_002), enough)


def test_nobody_there():
    with pytest.raises(HostUnreachable, match=r"does not answer .*: start ComfyUI"):
        Host("http://127.0.0.1:9").run(EMPTY)


def test_what_the_host_knows(server):
    host = server.host
    assert list(host.object_info("EmptyImage")) == ["EmptyImage"]
    assert host.object_info("NobodyHasThis") == {}
    assert host.result("nobody").ending is Ending.UNKNOWN
    host.interrupt()
    host.free()
