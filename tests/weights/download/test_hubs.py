"""What the hubs say that a repository holds, and who is asked with which token."""

from __future__ import annotations

import time

import pytest
from weights.download.file_server import dripping, endless, publish, redirect, serve_lists, status

from fantasyid.weights.download import hubs
from fantasyid.weights.download.hubs import endpoint_of, list_files, token_for
from fantasyid.weights.download.retry import DownloadError, Retry

QUICK = Retry(timeout=2.0, attempts=2, backoff=0.0)
HASH = "ab" * 32


@pytest.fixture(params=["huggingface", "modelscope"])
def mirror(request, web, monkeypatch) -> str:
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    monkeypatch.setattr(hubs, "MODELSCOPE", web.url)
    return request.param


def listed(mirror: str):
    return list_files(mirror, "a/b", lambda _: None, QUICK)


def test_the_mirrors_have_their_addresses(web, monkeypatch):
    assert web.asked == []
    assert endpoint_of("huggingface") == "https://huggingface.co"
    assert endpoint_of("modelscope") == "https://www.modelscope.cn"
    monkeypatch.setenv("HF_ENDPOINT", "https://x.org/")
    assert endpoint_of("huggingface") == "https://x.org"
    assert endpoint_of("hf-mirror") == "https://hf-mirror.com"
    with pytest.raises(ValueError, match='no mirror "ftp"; there are: huggingface, hf-mirror'):
        endpoint_of("ftp")
    monkeypatch.setenv("HF_ENDPOINT", "x.org")
    with pytest.raises(ValueError, match=r"HF_ENDPOINT is 'x\.org', expected an address"):
        endpoint_of("huggingface")


@pytest.mark.parametrize("mirror", ["huggingface", "modelscope"])
def test_offline_is_respected(monkeypatch, mirror):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set: nothing is fetched"):
        listed(mirror)


def test_a_list_has_sizes_hashes_and_addresses(web, mirror):
    publish(web, "a/b", {"config.json": b"{}", "vae/w 1.pt": b"content"})
    found = listed(mirror)
    assert set(found) == {"config.json", "vae/w 1.pt"}
    file = found["vae/w 1.pt"]
    place = "models/a/b/resolve/master" if mirror == "modelscope" else "a/b/resolve/main"
    assert file.url == f"{web.url}/{place}/vae/w%201.pt"
    assert (file.size, len(file.sha256)) == (7, 64)
    assert bool(found["config.json"].sha256) == (mirror == "modelscope")


def test_a_list_that_drips_or_never_ends_is_stopped_and_given_up(web, mirror):
    publish(web, "a/b", {"config.json": b"{}"})

    def stop(_: object) -> None:
        if time.monotonic() - begun > 0.5:
            raise KeyboardInterrupt

    web.script, begun = [dripping], time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list_files(mirror, "a/b", stop, Retry())
    assert time.monotonic() - begun < 2.5
    for answer in [dripping] if mirror == "modelscope" else [dripping, endless]:
        web.script, begun = [answer], time.monotonic()
        with pytest.raises(DownloadError, match="too slowly; gave up after 1 attempts"):
            list_files(mirror, "a/b", lambda _: None, Retry(timeout=1.0, attempts=1))
        assert time.monotonic() - begun < 8
    web.script = []
    web.over.set()
    asked = -1
    while asked < len(web.asked):  # what was given up may still ask once, and not in the next test
        asked = len(web.asked)
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("mirror", "host", "token"),
    [("huggingface", "127.0.0.1", "secret"), ("hf-mirror", "", ""), ("modelscope", "", "")],
)
def test_the_token_is_for_hugging_face(web, monkeypatch, mirror, host, token):
    publish(web, "a/b", {"w.pt": b"content"})
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    monkeypatch.setattr(hubs, "MODELSCOPE", web.url)
    monkeypatch.setattr(hubs, "HF_MIRROR", web.url if mirror == "hf-mirror" else "https://x")
    assert listed(mirror)["w.pt"].token == token
    sent = web.asked[0].headers["Authorization"]
    assert sent == ("Bearer secret" if host else None)


def test_a_token_is_never_sent_in_the_clear(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert token_for("https://x.org") == token_for("http://localhost:80") == "secret"
    assert token_for("http://x.org") == ""


@pytest.mark.parametrize("content", [{"error": "x"}, [1], [{"type": "file"}], "x"])
def test_something_else_is_no_list(web, mirror, content):
    serve_lists(web, "a/b", content, {"Data": {"Files": content}})
    with pytest.raises(DownloadError, match="gives no list of files"):
        listed(mirror)


def test_names_that_lead_out_of_a_folder_are_left_out(web, mirror):
    publish(web, "a/b", {"x.pt": b"1", "transformer/..\\..\\x.json": b"1", "c:x.pt": b"1"})
    assert set(listed(mirror)) == {"x.pt"}


def test_an_empty_list_is_said(web, mirror):
    serve_lists(web, "a/b", [], {"Data": {"Files": []}})
    with pytest.raises(DownloadError, match="lists no files: the repository is empty"):
        listed(mirror)


@pytest.mark.parametrize(
    ("code", "words"), [(401, "HF_TOKEN"), (403, "license"), (404, "moved or renamed")]
)
def test_refusals_are_sentences(web, mirror, code, words):
    web.script = [status(code)]
    with pytest.raises(DownloadError, match=words):
        listed(mirror)


@pytest.mark.parametrize("code", [429, 500])
def test_a_busy_hub_is_asked_again_and_a_renamed_one_followed(web, mirror, code):
    publish(web, "a/b", {"w.pt": b"content"})
    path = (
        "/api/v1/models/a/b/repo/files" if mirror == "modelscope" else "/api/models/a/b/tree/main"
    )
    web.script = [status(code, Retry_After="0"), redirect(path, 307)]
    assert set(listed(mirror)) == {"w.pt"}
    assert len(web.asked) >= 3


@pytest.mark.usefixtures("web")
def test_a_hub_that_cannot_be_reached_is_a_sentence(monkeypatch, mirror):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(hubs, "MODELSCOPE", "http://127.0.0.1:1")
    with pytest.raises(DownloadError, match=r"offline, or needs a proxy.*gave up after 2"):
        listed(mirror)


def test_a_hub_that_is_silent_is_given_up(web, mirror):
    web.script = [lambda handler: handler.server.over.wait(20)] * 2
    with pytest.raises(DownloadError, match=r"sends nothing.*gave up after 2"):
        list_files(mirror, "a/b", lambda _: None, Retry(timeout=0.3, attempts=2, backoff=0.0))
