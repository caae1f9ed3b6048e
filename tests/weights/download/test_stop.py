"""What ends a download early: the stop button, a full disk, another process."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import namedtuple

import filelock
import pytest
from weights.download.file_server import dripping, good, status
from weights.download.one_file import CONTENT, HASH, PART, fetch, left

from fantasyid.weights.download.fetch import SPARE_BYTES, part_of
from fantasyid.weights.download.retry import DownloadError, Retry
from fantasyid.weights.progress import Step


def test_stopped_it_goes_on_where_it_was(web, remote, target):
    web.script = [good(send=5000, stall=True)]

    def stop(step: Step) -> None:
        if step.done >= 5000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(remote, target, report=stop)
    assert left(target) == [PART]
    assert fetch(remote, target)
    assert web.ranges() == [None, "bytes=5000-"]
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "answer",
    [
        lambda handler: handler.server.over.wait(20),
        good(send=3000, stall=True),
        status(503, Retry_After="60"),
        dripping,
    ],
    ids=["no answer", "stalled", "waiting", "dripping headers"],
)
def test_the_stop_button_works_within_two_seconds(web, remote, target, answer):
    web.script, begun = [answer], time.monotonic()

    def stop(_: Step) -> None:
        if web.asked and time.monotonic() - begun > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(remote, target, report=stop, retry=Retry())
    assert time.monotonic() - begun < 2.5
    web.over.set()
    left_behind = [t for t in threading.enumerate() if t.daemon and "_read" in t.name]
    for thread in left_behind:
        thread.join(5)
        assert not thread.is_alive()


def test_headers_that_drip_are_given_up(web, remote, target):
    web.script, begun = [dripping] * 3, time.monotonic()
    with pytest.raises(DownloadError, match="sends nothing, or too slowly; gave up after 3"):
        fetch(remote, target)
    assert time.monotonic() - begun < 10
    web.over.set()


def test_space_is_needed_for_what_is_missing(remote, target, monkeypatch):
    free = [1000, SPARE_BYTES + 49_999, SPARE_BYTES + 50_000]
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(free.pop(0)))
    with pytest.raises(DownloadError, match=r"not enough space on the disk of .*67\.\d MB.*1 kB"):
        fetch(remote, target)
    part_of(target, HASH).write_bytes(CONTENT[:250_000])
    with pytest.raises(DownloadError, match="not enough space"):
        fetch(remote, target)
    assert fetch(remote, target)


def test_two_at_once_are_one(remote, target):
    target.parent.mkdir()
    lock = part_of(target, HASH).with_suffix(".lock")
    busy = pytest.raises(DownloadError, match=r"weights\.pt is being fetched by another process")
    with filelock.FileLock(lock), busy:
        fetch(remote, target)
    lock.touch()  # as a killed process leaves it
    assert fetch(remote, target)
    assert left(target) == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind here")
def test_a_folder_that_cannot_be_written_is_an_error(remote, target):
    target.parent.mkdir(mode=0o500)
    with pytest.raises(PermissionError):
        fetch(remote, target)
