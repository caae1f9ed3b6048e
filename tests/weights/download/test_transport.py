"""One request: where redirects may lead, who sees the token, which failures may pass."""

from __future__ import annotations

import email.utils
import io
import time
import urllib.request
from contextlib import closing
from email.message import Message

import pytest
from weights.download.file_server import Served, good, redirect, status

from fantasyid.weights.download.transport import (
    DownloadError,
    Patience,
    RangeRefused,
    Trouble,
    _Redirects,
    open_url,
    persist,
    read_some,
)


def body(url: str, **options) -> bytes:
    with closing(open_url(url, 2.0, **options)) as answer:
        found = b""
        while chunk := read_some(answer, 1000, url):
            found += chunk
        return found


@pytest.fixture
def file(web) -> str:
    web.files["/file"] = Served(b"content")
    return f"{web.url}/file"


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_followed_with_the_range(web, file, code):
    web.script = [redirect("/file", code)]
    assert body(f"{web.url}/old", headers={"Range": "bytes=3-"}) == b"tent"
    assert [asked.path for asked in web.asked] == ["/old", "/file"]
    assert file


def test_the_token_goes_to_its_host_alone(web, file):
    elsewhere = file.replace("127.0.0.1", "localhost")
    web.script = [redirect("/renamed"), redirect(elsewhere), redirect(file)]
    assert body(f"{web.url}/old", token="secret") == b"content"
    secret = "Bearer secret"
    assert [a.headers["Authorization"] for a in web.asked] == [secret, secret, None, None]


def test_redirects_in_circles_end(web):
    web.script = [redirect("/a")] * 30
    with pytest.raises(DownloadError, match=r"redirects .* in circles or nowhere"):
        body(f"{web.url}/a")
    web.script = [redirect(f"/{n}") for n in range(30)]
    with pytest.raises(DownloadError, match=r"redirects .* in circles or nowhere"):
        body(f"{web.url}/a")


@pytest.mark.parametrize(
    ("first", "second"),
    [("https://a/x", "http://a/x"), ("https://a/x", "file:///x"), ("http://a/x", "ftp://a/x")],
)
def test_unsafe_redirects_are_refused(first, second):
    request = urllib.request.Request(first)
    with pytest.raises(DownloadError, match="a redirects to an unsafe address"):
        _Redirects().redirect_request(request, io.BytesIO(), 302, "", Message(), second)


def test_a_proxy_password_stays_with_the_proxy():
    request = urllib.request.Request("http://a/x", headers={"Range": "bytes=1-"})
    request.add_header("Proxy-authorization", "Basic secret")
    new = _Redirects().redirect_request(request, io.BytesIO(), 302, "", Message(), "http://b/y")
    assert new is not None
    assert new.headers == {"Range": "bytes=1-"}


def test_only_http_is_spoken(tmp_path):
    (tmp_path / "secret").write_text("x")
    with pytest.raises(DownloadError):
        body((tmp_path / "secret").as_uri())


def test_the_proxy_of_the_environment_is_used(web, monkeypatch):
    web.files["/file"] = Served(b"content")
    monkeypatch.setenv("http_proxy", web.url)
    assert body("http://models.invalid/file") == b"content"
    assert web.asked[0].path == "http://models.invalid/file"


def test_no_proxy_is_respected(web, file, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert body(file) == b"content"
    assert web.asked[0].path == "/file"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (401, "HF_TOKEN"),
        (403, "accept the licence"),
        (404, "moved or renamed"),
        (410, "is not there"),
        (418, "answers 418"),
        (204, "expected the file"),
    ],
)
def test_final_refusals_are_sentences(web, code, words):
    web.script = [status(code)]
    with pytest.raises(DownloadError, match=words) as caught:
        body(f"{web.url}/file")
    assert not isinstance(caught.value, Trouble)


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_others_may_pass(web, code):
    web.script = [status(code, Retry_After="7")]
    with pytest.raises(Trouble, match=f"answers {code}") as caught:
        body(f"{web.url}/file")
    assert caught.value.pause == 7


def test_a_pause_may_be_a_date_or_nonsense(web):
    in_a_minute = email.utils.formatdate(time.time() + 60, usegmt=True)
    web.script = [status(503, Retry_After=in_a_minute), status(503, Retry_After="soon")]
    pauses = []
    for _ in range(2):
        with pytest.raises(Trouble) as caught:
            body(f"{web.url}/file")
        pauses.append(caught.value.pause)
    assert 50 < pauses[0] <= 60
    assert pauses[1] is None


def test_an_empty_range_says_how_long_the_file_is(web, file):
    with pytest.raises(RangeRefused) as caught:
        body(file, headers={"Range": "bytes=7-"})
    assert caught.value.size == 7
    web.script = [status(416)]
    with pytest.raises(RangeRefused) as caught:
        body(file)
    assert caught.value.size is None


def test_without_network_there_is_a_sentence():
    with pytest.raises(Trouble, match=r"offline, or needs a proxy .* work without network"):
        body("http://models.invalid/file")
    with pytest.raises(Trouble, match=r"the connection to 127\.0\.0\.1:1 failed"):
        body("http://127.0.0.1:1/file")


def test_silence_before_the_answer_is_trouble(web, file):
    web.script = [lambda handler: handler.server.over.wait(5)]
    with pytest.raises(Trouble, match="does not answer"):
        open_url(file, 0.2)
    web.over.set()


def test_silence_inside_the_answer_is_trouble(web, file):
    web.script = [good(send=3, stall=True)]
    with closing(open_url(file, 0.2)) as answer:
        assert read_some(answer, 10, file) == b"con"
        with pytest.raises(Trouble, match="stalls"):
            read_some(answer, 10, file)


def test_garbage_is_trouble(web, file):
    web.script = [lambda handler: handler.wfile.write(b"\0\1garbage\r\n\r\n")]
    with pytest.raises(Trouble, match="failed"):
        body(file)


def test_pauses_grow_and_the_stop_button_works_in_them():
    seen = []

    def attempt() -> None:
        raise Trouble("busy")

    with pytest.raises(DownloadError, match="busy; gave up after 3 attempts"):
        persist(attempt, Patience(attempts=3, backoff=0.01), report=seen.append)
    assert len(seen) >= 2
    assert {step.words for step in seen} == {"busy; trying again"}

    def stop(step) -> None:
        raise InterruptedError(step.words)

    with pytest.raises(InterruptedError):
        persist(attempt, Patience(backoff=60.0), report=stop)


def test_nobody_waits_for_an_hour():
    def attempt() -> None:
        raise Trouble("busy", 3600)

    with pytest.raises(DownloadError, match="busy and asks to wait 3600 seconds"):
        persist(attempt, Patience())
    with pytest.raises(DownloadError, match="busy"):
        persist(attempt, Patience(attempts=1))
