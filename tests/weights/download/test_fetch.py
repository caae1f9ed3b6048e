"""One file over a bad line: resumed, checked, renamed; nothing that was there is touched."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weights.download.file_server import FileServer, Served, good, redirect, status
from weights.download.one_file import CONTENT, HASH, PART, begin, fetch, left

from fantasyid.weights.download.hubs import Remote
from fantasyid.weights.download.retry import DownloadError, Retry


def test_a_file_arrives_whole_and_leaves_nothing_else(web, remote, target):
    assert fetch(remote, target)
    assert target.read_bytes() == CONTENT
    assert left(target) == []
    assert web.ranges() == [None]
    assert web.asked[0].headers["Accept-Encoding"] == "identity"
    assert web.asked[0].headers["Authorization"] is None


def test_a_file_that_is_there_is_never_touched(web, remote, target):
    target.parent.mkdir()
    target.write_bytes(b"mine")
    before = target.stat()
    assert not fetch(remote, target)
    assert (target.stat().st_mtime_ns, target.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert web.asked == []


def test_a_file_that_appears_meanwhile_wins(remote, target):
    assert not fetch(remote, target, validate=lambda _: target.write_bytes(b"mine"))
    assert target.read_bytes() == b"mine"
    assert left(target) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (good(send=1000), "bytes=1000-"),
        (good(send=1000, stall=True), "bytes=1000-"),
        (status(429, Retry_After="0"), None),
        (status(500), None),
        (status(503), None),
        (lambda handler: handler.wfile.write(b"\0\1garbage\r\n\r\n"), None),
        (lambda handler: handler.server.over.wait(1), None),
    ],
    ids=["cut", "stalled", "429", "500", "503", "garbage", "silent"],
)
def test_what_may_pass_is_tried_again(web, remote, target, first, second):
    web.script = [first]
    assert fetch(remote, target)
    assert target.read_bytes() == CONTENT
    assert web.ranges() == [None, second]


@pytest.mark.parametrize(
    "second", [good(ranges=False), good(shift=10), status(416)], ids=["no", "other", "none"]
)
def test_a_server_that_gives_another_range_starts_over(web, remote, target, second):
    web.script = [good(send=1000), second]
    assert fetch(remote, target)
    assert target.read_bytes() == CONTENT


def test_bytes_that_drip_do_not_keep_it_forever(web, remote, target):
    def drip(handler) -> None:
        handler.head(200, {"Content-Length": str(len(CONTENT))})
        while not handler.server.over.wait(0.05):
            handler.wfile.write(b"x")

    web.script = [drip] * 3
    with pytest.raises(DownloadError, match=r"or too slowly; gave up after 3"):
        fetch(remote, target)


@pytest.mark.usefixtures("remote")
def test_another_mirror_goes_on_with_the_same_hash(web, target):
    begin(target, CONTENT[:7000])
    web.files["/other"] = Served(CONTENT)
    assert fetch(Remote(f"{web.url}/other", len(CONTENT), HASH), target)
    assert web.ranges() == ["bytes=7000-"]
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("content", "sha256", "ranges"),
    [
        (CONTENT[:7000], "0" * 64, [None]),
        (CONTENT, HASH, []),
        (CONTENT + b"more", HASH, [None]),
        (b"x" * 7000, HASH, ["bytes=7000-", None]),
    ],
    ids=["another file", "finished", "too long", "damaged"],
)
def test_what_an_earlier_run_left(web, remote, target, content, sha256, ranges):
    begin(target, content, sha256)
    assert fetch(remote, target)
    assert web.ranges() == ranges
    assert target.read_bytes() == CONTENT


def test_without_a_hash_nothing_is_kept(web, remote, target):
    web.script = [good(send=1000)]
    assert fetch(Remote(remote.url, remote.size), target)
    assert web.ranges() == [None, None]
    assert target.read_bytes() == CONTENT


def test_wrong_bytes_are_deleted_and_both_hashes_said(web, remote, target):
    wrong = bytes(len(CONTENT))
    web.files["/w"] = Served(wrong)
    with pytest.raises(DownloadError, match="has wrong bytes, which were deleted") as caught:
        fetch(remote, target)
    assert HASH in str(caught.value)
    assert hashlib.sha256(wrong).hexdigest() in str(caught.value)
    assert left(target) == []
    assert not target.exists()
    assert len(web.asked) == 1


def test_content_of_the_wrong_kind_is_deleted(remote, target):
    def refuse(_: Path) -> None:
        raise ValueError("it is a page")

    with pytest.raises(DownloadError, match=r"not what it should be.*a page"):
        fetch(remote, target, validate=refuse)
    assert left(target) == []
    assert not target.exists()


@pytest.mark.parametrize("length", [len(CONTENT) - 5, len(CONTENT) + 5, 12])
def test_a_size_that_is_not_the_expected_one_is_refused(web, remote, target, length):
    web.script = [good(length=length)]
    with pytest.raises(DownloadError, match=f"has {length} bytes on the server, expected 300000"):
        fetch(remote, target)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (401, "HF_TOKEN"),
        (403, "accept the license"),
        (404, "moved or renamed"),
        (410, "is not there"),
        (418, "answers 418"),
    ],
)
def test_final_refusals_are_sentences_and_asked_once(web, remote, target, code, words):
    web.script = [status(code)]
    with pytest.raises(DownloadError, match=words):
        fetch(remote, target)
    assert len(web.asked) == 1


@pytest.mark.parametrize(
    "place", ["file:///etc/hostname", "ftp://x/y", "http://[", "x:" + "y" * 900]
)
def test_a_redirect_that_leaves_the_web_is_refused_in_a_short_sentence(web, remote, target, place):
    web.script = [redirect(place)]
    with pytest.raises(DownloadError, match="leads to something that is no address") as caught:
        fetch(remote, target)
    assert len(str(caught.value)) < 400
    assert not target.exists()


def test_nobody_waits_for_an_hour(web, remote, target):
    web.script = [status(503, Retry_After="3600")]
    with pytest.raises(DownloadError, match="answers 503 and asks to wait 3600 seconds"):
        fetch(remote, target)


def test_attempts_without_a_byte_gained_are_counted(web, remote, target):
    web.script = [good(send=1000), *[good(send=0)] * 9]
    with pytest.raises(DownloadError, match=r"broke.*gave up after 3"):
        fetch(remote, target)
    assert web.ranges() == [None, "bytes=1000-", "bytes=1000-"]
    assert left(target) == [PART]


def test_as_long_as_bytes_come_it_goes_on(web, remote, target):
    web.script = [good(send=1000)] * 8
    assert fetch(remote, target)
    assert len(web.asked) == 9


def test_without_network_there_is_a_sentence(target):
    with pytest.raises(DownloadError, match=r"offline, or needs a proxy .* work without network"):
        fetch(Remote("http://127.0.0.1:1/file", 7), target)


def test_the_token_goes_to_its_host_alone(web, remote, target):
    elsewhere = remote.url.replace("127.0.0.1", "localhost")
    web.script = [redirect("/renamed"), redirect(elsewhere)]
    assert fetch(Remote(remote.url, remote.size, HASH, "secret"), target)
    seen = [asked.headers["Authorization"] for asked in web.asked]
    assert seen == ["Bearer secret", "Bearer secret", None]
    assert "secret" not in repr(Remote(remote.url, 1, "", "secret"))


@pytest.mark.usefixtures("remote")
def test_the_proxy_of_the_environment_is_used(web, target, monkeypatch):
    monkeypatch.setenv("http_proxy", web.url)
    assert fetch(Remote("http://models.invalid/w", len(CONTENT), HASH), target)
    assert web.asked[0].path == "http://models.invalid/w"


REPLIES = st.one_of(
    st.builds(good, send=st.integers(0, 2500), ranges=st.booleans()),
    st.sampled_from([500, 503]).map(status),
)


@pytest.mark.usefixtures("small_pieces")
@settings(max_examples=25)
@given(size=st.integers(1, 2000), script=st.lists(REPLIES, max_size=8), known=st.booleans())
def test_however_it_is_cut_the_bytes_are_right(
    running: FileServer, tmp_path_factory, size, script, known
):
    running.reset()
    running.files["/w"] = Served(CONTENT[:size])
    running.script = list(script)
    digest = hashlib.sha256(CONTENT[:size]).hexdigest() if known else ""
    target = tmp_path_factory.mktemp("cut") / "file"
    remote = Remote(f"{running.url}/w", size, digest)
    assert fetch(remote, target, retry=Retry(timeout=5, attempts=20, backoff=0.0))
    assert target.read_bytes() == CONTENT[:size]
    assert left(target) == []
    assert not [name for name in left(target) if re.search("part|lock", name)]
