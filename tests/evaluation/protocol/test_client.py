"""What the host's answers mean, in words; and a host that is none."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from fantasyid.evaluation.protocol.client import (
    Host,
    HostError,
    HostFile,
    read_history,
    refusal,
    saved_file,
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
    words = Host(f"http://127.0.0.1:{server.port}").describe()
    assert words.startswith("ComfyUI 0.")
    assert ", torch 2." in words


def test_files_that_are_not_there(server, tmp_path):
    host = Host(f"http://127.0.0.1:{server.port}")
    absent = HostFile("absent.mp4", "fantasyid_evaluate")
    assert not host.exists(absent)
    with pytest.raises(FileNotFoundError, match=r"has no file fantasyid_evaluate/absent\.mp4"):
        host.fetch(absent, tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_a_half_written_upload_is_written_over(server, host_base):
    host = Host(f"http://127.0.0.1:{server.port}")
    folder = host_base / "input" / "fantasyid_evaluate"
    for content in (b"half", b"whole", b"whole"):
        host.upload("photo of a test.png", "fantasyid_evaluate", content)
        assert [p.read_bytes() for p in folder.glob("photo of a test.png")] == [content]


def test_a_refusal_names_node_input_and_reason():
    graph = {"5": {"class_type": "VAELoader", "inputs": {}}}
    details = {"message": "Value not in list", "details": "vae_name: 'x' not in ['a']"}
    errors = [{**details, "extra_info": {"input_name": "vae_name"}}]
    body = json.dumps({"error": "x", "node_errors": {"5": {"errors": errors}}}).encode()
    assert refusal(body, graph) == [
        "    node 5 (VAELoader), input vae_name: Value not in list: vae_name: 'x' not in ['a']"
    ]
    whole = json.dumps({"error": {"message": "Prompt has no outputs", "details": ""}}).encode()
    assert refusal(whole, graph) == ["    Prompt has no outputs"]
    assert refusal(b"<html>", graph) == ["    <html>"]
    assert refusal(b"{}", graph) == ["    it does not say why"]


def test_how_prompts_end():
    error = {"node_type": "VAEDecodeTiled", "exception_message": "out of memory\n"}
    for messages, words, node in (
        ([["execution_error", error]], "VAEDecodeTiled: out of memory", "VAEDecodeTiled"),
        ([["execution_interrupted", {}]], "it was stopped on the host", ""),
        ([], "it failed on the host without a message", ""),
    ):
        result = read_history({"status": {"status_str": "error", "messages": messages}})
        assert (result.failure, result.failed_node) == (words, node)
    outputs = {"9": {"images": [{"filename": "a.mp4", "subfolder": "b", "type": "output"}]}}
    result = read_history({"status": {"status_str": "success"}, "outputs": outputs})
    assert result.failure == ""
    assert saved_file(result, "9") == HostFile("a.mp4", "b", "output")
    assert saved_file(result, "8") is None
