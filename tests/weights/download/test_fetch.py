"""One file over a bad line: resumed, checked, renamed; nothing that was there is touched."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from weights.download.file_server import FileServer, Served, good, status

from fantasyid.weights.download.fetch import SPARE_BYTES, Remote, fetch
from fantasyid.weights.download.part import Note, Part, alone
from fantasyid.weights.download.transport import DownloadError, Patience, Step

CONTENT = random.Random(0).randbytes(300_000)
HASH = hashlib.sha256(CONTENT).hexdigest()
QUICK = Patience(timeout=0.3, attempts=3, backoff=0.0)


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "models" / "weights.pt"


@pytest.fixture
def remote(web) -> Remote:
    web.files["/w"] = Served(CONTENT)
    return Remote(f"{web.url}/w", len(CONTENT), HASH)


def left(target: Path) -> list[str]:
    """Names beside the target."""
    return sorted(path.name for path in target.parent.iterdir() if path != target)


def begin(target: Path, remote: Remote, content: bytes, etag: str = '"one"') -> Part:
    """What an earlier run has left."""
    target.parent.mkdir()
    part = Part(target)
    part.begin(Note(remote.url, etag, remote.sha256))
    part.path.write_bytes(content)
    return part


def test_a_file_arrives_whole_and_leaves_nothing_else(web, remote, target):
    assert fetch(remote, target, patience=QUICK)
    assert target.read_bytes() == CONTENT
    assert left(target) == []
    assert web.ranges() == [None]
    assert web.asked[0].headers["Accept-Encoding"] == "identity"
    assert web.asked[0].headers["Authorization"] is None


def test_a_file_that_is_there_is_never_touched(web, remote, target):
    target.parent.mkdir()
    target.write_bytes(b"mine")
    before = target.stat()
    assert not fetch(remote, target, patience=QUICK)
    assert (target.stat().st_mtime_ns, target.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert web.asked == []


def test_a_file_that_appears_meanwhile_wins(remote, target):
    def meanwhile(_: Path) -> None:
        target.write_bytes(b"mine")

    assert not fetch(remote, target, why_wrong=meanwhile, patience=QUICK)
    assert target.read_bytes() == b"mine"
    assert left(target) == []


@pytest.mark.parametrize("broken", [good(send=1000), good(send=1000, stall=True)])
def test_what_stalls_or_breaks_off_is_gone_on_with(web, remote, target, broken):
    web.script = [broken]
    assert fetch(remote, target, patience=QUICK)
    assert target.read_bytes() == CONTENT
    assert web.ranges() == [None, "bytes=1000-"]
    assert web.asked[1].headers["If-Range"] == '"one"'


def test_a_server_without_ranges_starts_over(web, remote, target):
    web.script = [good(send=1000), good(ranges=False)]
    assert fetch(remote, target, patience=QUICK)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("if_range", [True, False], ids=["If-Range", "ETag alone"])
def test_a_file_that_changes_midway_is_fetched_anew(web, remote, target, if_range):
    new = CONTENT[::-1]
    remote = Remote(remote.url)  # nobody knows the hash: only the ETag tells
    web.script = [good(send=1000), good(if_range=if_range)]

    def change(step: Step) -> None:
        if step.done == 1000:
            web.files["/w"] = Served(new, '"two"')

    assert fetch(remote, target, report=change, patience=QUICK)
    assert target.read_bytes() == new


def test_without_hash_and_version_nothing_is_kept(web, target):
    web.files["/w"] = Served(CONTENT, "")
    web.script = [good(send=1000)]
    assert fetch(Remote(f"{web.url}/w"), target, patience=QUICK)
    assert web.ranges() == [None, None]
    assert target.read_bytes() == CONTENT


def test_a_weak_version_is_not_relied_on(web, target):
    web.files["/w"] = Served(CONTENT, 'W/"one"')
    web.script = [good(send=1000)]
    assert fetch(Remote(f"{web.url}/w"), target, patience=QUICK)
    assert web.ranges() == [None, None]


def test_the_same_hash_lets_another_mirror_go_on(web, remote, target):
    begin(target, Remote("http://elsewhere/w", sha256=HASH), CONTENT[:7000], '"other"')
    assert fetch(remote, target, patience=QUICK)
    assert web.ranges() == ["bytes=7000-"]
    assert web.asked[0].headers["If-Range"] is None
    assert target.read_bytes() == CONTENT


def test_bytes_of_another_file_are_not_gone_on_with(web, remote, target):
    begin(target, Remote(remote.url, sha256="0" * 64), CONTENT[:7000])
    assert fetch(remote, target, patience=QUICK)
    assert web.ranges() == [None]


def test_a_finished_part_needs_no_network(web, remote, target):
    begin(target, remote, CONTENT)
    assert fetch(remote, target, patience=QUICK)
    assert web.asked == []
    assert target.read_bytes() == CONTENT


def test_a_finished_part_of_unknown_size_is_believed_on_416(web, remote, target):
    remote = Remote(remote.url)
    begin(target, remote, CONTENT)
    assert fetch(remote, target, patience=QUICK)
    assert web.ranges() == [f"bytes={len(CONTENT)}-"]
    assert target.read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_started_over(remote, target):
    remote = Remote(remote.url)
    begin(target, remote, CONTENT + b"more")
    assert fetch(remote, target, patience=QUICK)
    assert target.read_bytes() == CONTENT


def test_a_part_longer_than_the_list_says_is_not_gone_on_with(web, remote, target):
    begin(target, remote, CONTENT + b"more")
    assert fetch(remote, target, patience=QUICK)
    assert web.ranges() == [None]


def test_another_range_than_the_one_asked_for_is_not_taken(web, remote, target):
    remote = Remote(remote.url)
    web.script = [good(send=1000), good(shift=10)]
    assert fetch(remote, target, patience=QUICK)
    assert web.ranges() == [None, "bytes=1000-", None]
    assert target.read_bytes() == CONTENT


def test_damaged_bytes_of_an_earlier_run_get_one_more_go(web, remote, target):
    begin(target, remote, b"x" * 7000)
    assert fetch(remote, target, patience=QUICK)
    assert web.ranges() == ["bytes=7000-", None]
    assert target.read_bytes() == CONTENT


def test_wrong_bytes_are_deleted_and_both_hashes_said(web, remote, target):
    wrong = bytes(len(CONTENT))
    web.files["/w"] = Served(wrong)
    with pytest.raises(DownloadError, match="has wrong bytes, which were deleted") as caught:
        fetch(remote, target, patience=QUICK)
    assert HASH in str(caught.value)
    assert hashlib.sha256(wrong).hexdigest() in str(caught.value)
    assert left(target) == []
    assert not target.exists()
    assert len(web.asked) == 1


def test_content_of_the_wrong_kind_is_deleted(remote, target):
    with pytest.raises(DownloadError, match=r"not what it should be.*a page"):
        fetch(remote, target, why_wrong=lambda _: "a page", patience=QUICK)
    assert left(target) == []
    assert not target.exists()


@pytest.mark.parametrize("length", [len(CONTENT) - 5, len(CONTENT) + 5, 12])
def test_a_size_that_is_not_the_expected_one_is_refused(web, remote, target, length):
    web.script = [good(length=length)]
    with pytest.raises(DownloadError, match=f"has {length} bytes on the server, expected 300000"):
        fetch(remote, target, patience=QUICK)


def test_compressed_bytes_are_refused(web, remote, target):
    web.script = [good(more={"Content-Encoding": "gzip"})]
    with pytest.raises(DownloadError, match="encoded as gzip"):
        fetch(remote, target, patience=QUICK)


def test_busy_servers_are_asked_again(web, remote, target):
    web.script = [status(429, Retry_After="0"), status(500), status(503)]
    assert fetch(remote, target, patience=Patience(attempts=4, backoff=0.0))
    assert len(web.asked) == 4


def test_attempts_without_a_byte_gained_are_counted(web, remote, target):
    web.script = [good(send=1000), *[good(send=0)] * 9]
    with pytest.raises(DownloadError, match=r"broke off after 1000 of 300000.*gave up after 3"):
        fetch(remote, target, patience=QUICK)
    assert web.ranges() == [None, "bytes=1000-", "bytes=1000-"]
    assert left(target) == ["weights.pt.part", "weights.pt.part.json"]


def test_as_long_as_bytes_come_it_goes_on(web, remote, target):
    web.script = [good(send=1000)] * 8
    assert fetch(remote, target, patience=QUICK)
    assert len(web.asked) == 9


def test_a_file_that_changes_every_time_ends(web, remote, target):
    # It never has more bytes than ever before, so this is no progress.
    web.script = [good(send=1000 - 500 * (n % 2), etag=f'"{n}"', ranges=False) for n in range(20)]
    with pytest.raises(DownloadError, match="gave up"):
        fetch(remote, target, patience=QUICK)


def test_stopped_it_goes_on_where_it_was(web, remote, target):
    web.script = [good(send=5000, stall=True)]

    def stop(step: Step) -> None:
        if step.done >= 5000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(remote, target, report=stop, patience=QUICK)
    assert left(target) == ["weights.pt.part", "weights.pt.part.json"]
    assert fetch(remote, target, patience=QUICK)
    assert web.ranges() == [None, "bytes=5000-"]
    assert target.read_bytes() == CONTENT


def test_too_little_space_is_said_before_anything_comes(remote, target):
    with pytest.raises(DownloadError, match=r"not enough space on the disk /.*67\.\d MB.*1 kB are"):
        fetch(remote, target, patience=QUICK, free=lambda _: 1000)
    assert Part(target).length() == 0


def test_what_is_there_already_needs_no_space(remote, target):
    begin(target, remote, CONTENT[:250_000])
    with pytest.raises(DownloadError, match="not enough space"):
        fetch(remote, target, patience=QUICK, free=lambda _: SPARE_BYTES + 49_999)
    assert fetch(remote, target, patience=QUICK, free=lambda _: SPARE_BYTES + 50_000)


def test_two_at_once_are_one(remote, target):
    target.parent.mkdir()
    busy = pytest.raises(DownloadError, match=r"weights\.pt is being fetched by another process")
    with alone(Part(target).lock_path), busy:
        fetch(remote, target, patience=QUICK)
    assert fetch(remote, target, patience=QUICK)


def test_the_lock_of_a_killed_process_holds_nobody(remote, target):
    target.parent.mkdir()
    Part(target).lock_path.touch()
    assert fetch(remote, target, patience=QUICK)
    assert left(target) == []


def test_a_part_of_another_program_survives(web, remote, target):
    target.parent.mkdir()
    Part(target).path.write_bytes(b"a browser's")
    with pytest.raises(DownloadError, match="was not begun by this downloader"):
        fetch(remote, target, patience=QUICK)
    assert Part(target).path.read_bytes() == b"a browser's"
    assert web.asked == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind here")
def test_a_folder_that_cannot_be_written_is_an_error(remote, target):
    target.parent.mkdir(mode=0o500)
    with pytest.raises(PermissionError):
        fetch(remote, target, patience=QUICK)


REPLIES = st.one_of(
    st.builds(good, send=st.integers(0, 2500), ranges=st.booleans(), if_range=st.booleans()),
    st.builds(good, send=st.integers(0, 2500), etag=st.sampled_from(['"two"', 'W/"x"', ""])),
    st.sampled_from([500, 503]).map(status),
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(size=st.integers(1, 2000), script=st.lists(REPLIES, max_size=8), known=st.booleans())
def test_however_it_is_cut_the_bytes_are_right(
    running: FileServer, tmp_path_factory, size, script, known
):
    running.reset()
    running.files["/w"] = Served(CONTENT[:size])
    running.script = list(script)
    digest = hashlib.sha256(CONTENT[:size]).hexdigest() if known else ""
    remote = Remote(f"{running.url}/w", size if known else None, digest)
    target = tmp_path_factory.mktemp("cut") / "file"
    assert fetch(remote, target, patience=Patience(timeout=5, attempts=20, backoff=0.0))
    assert target.read_bytes() == CONTENT[:size]
    assert left(target) == []
