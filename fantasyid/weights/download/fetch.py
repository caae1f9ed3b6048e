"""One file: resumed, checked, and only then given its name.

Bytes go to `NAME.part`. They are kept when anything stops the download, and gone on with where the
server still has the same version. Only a file whose size, hash and content are right takes the
final name, in one step; a file that is there is never touched.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path

from .files import in_words
from .part import Note, Part, alone
from .transport import (
    DownloadError,
    Patience,
    RangeRefused,
    Report,
    Step,
    Trouble,
    ignore,
    open_url,
    persist,
    read_some,
)

CHUNK_BYTES = 1024**2
SPARE_BYTES = 64 * 1024**2  # left free on the disk beside the file itself
CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class Remote:
    """A file on a server.

    Attributes:
        url: Its address.
        size: Bytes, None where nobody said.
        sha256: In hexadecimal digits, "" where nobody said.
        token: For the host of `url` alone.
    """

    url: str
    size: int | None = None
    sha256: str = ""
    token: str = field(default="", repr=False)


def free_bytes(folder: Path) -> int:
    """Free space on the disk of a folder."""
    return shutil.disk_usage(folder).free


def disk_of(folder: Path) -> Path:
    """Where the disk of a folder is mounted."""
    folder = folder.resolve()
    return next(path for path in (folder, *folder.parents) if os.path.ismount(path))


@dataclass(frozen=True, slots=True)
class _Job:
    remote: Remote
    target: Path
    part: Part
    report: Report
    patience: Patience
    free: Callable[[Path], int]


def fetch(
    remote: Remote,
    target: Path,
    *,
    why_wrong: Callable[[Path], str | None] = lambda _: None,
    report: Report = ignore,
    patience: Patience | None = None,
    free: Callable[[Path], int] = free_bytes,
) -> bool:
    """Fetch a file, going on where an earlier run was stopped.

    Args:
        remote: What to fetch.
        target: Its final path; folders are made.
        why_wrong: Reads the finished bytes; gives what is wrong with them, or None.
        report: Called often; an exception that it raises stops the download, which can be resumed.
        patience: Timeouts and retries.
        free: Free bytes in a folder.

    Returns:
        Whether it was fetched; False where a file of that name was there.

    Raises:
        DownloadError: It cannot be had; says why and what to do.
        OSError: The disk refuses.
    """
    if target.exists():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Part(target)
    with alone(part.lock_path):
        part.check_ours()
        job = _Job(remote, target, part, report, patience or Patience(), free)
        persist(lambda: _attempt(job), job.patience, report=report, gained=part.length)
        problem = why_wrong(part.path)
        if problem:
            part.discard()
            raise DownloadError(
                f"{remote.url} is not what it should be, and was deleted: {problem}"
            )
        if target.exists():
            part.discard()
            return False
        os.rename(part.path, target)
        part.discard()
    return True


def _attempt(job: _Job) -> None:
    """Receive what is missing, and compare; wrong bytes in pieces get one more go."""
    pieced = _receive(job)
    expected = job.remote.sha256
    found = _hash(job) if expected else ""
    if found == expected:
        return
    job.part.discard()
    words = (
        f"{job.remote.url} has wrong bytes, which were deleted: SHA-256 is {found}, expected "
        f"{expected}"
    )
    raise Trouble(words) if pieced else DownloadError(words)


def _kept(job: _Job) -> tuple[int, str]:
    """How many bytes of the part belong to this file, and the ETag that must still hold."""
    note, length = job.part.note(), job.part.length()
    if note is None or (job.remote.size is not None and length > job.remote.size):
        return 0, ""
    same_hash = bool(note.sha256) and note.sha256 == job.remote.sha256
    if note.url == job.remote.url and note.strong_etag() and (same_hash or not job.remote.sha256):
        return length, note.strong_etag()
    # From another mirror, or without a version: only the hash can say that it is the same file.
    return (length, "") if same_hash else (0, "")


def _receive(job: _Job) -> bool:
    """Fill the part; whether it stands on bytes of an earlier answer."""
    start, etag = _kept(job)
    if start and start == job.remote.size:
        return True
    headers = {"Range": f"bytes={start}-"} if start else {}
    if etag:
        headers["If-Range"] = etag
    try:
        answer = open_url(job.remote.url, job.patience.timeout, headers, job.remote.token)
    except RangeRefused as refused:
        if start and start == refused.size:
            return True
        job.part.discard()
        raise Trouble(f"{job.remote.url} became shorter on the server", 0.0) from None
    with closing(answer):
        resumed = answer.status == 206 and start > 0
        total = _total(job, answer, start, etag)
        if not resumed:
            now = answer.headers.get("ETag", "")
            job.part.begin(Note(job.remote.url, now, job.remote.sha256))
            start = 0
        if total is not None:
            check_space(job.target, total - start, job.free)
        _copy(job, answer, start, total)
    return resumed


def _total(job: _Job, answer: HTTPResponse, start: int, etag: str) -> int | None:
    """The size of the whole file as this answer has it.

    Raises:
        Trouble: The answer is a part of another version.
        DownloadError: The size is not the expected one.
    """
    length = answer.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else None
    if answer.status == 206:
        match = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        changed = etag and answer.headers.get("ETag", etag) != etag
        if match is None or int(match[1]) != start or changed:
            job.part.discard()
            raise Trouble(f"{job.remote.url} changed on the server: starting over", 0.0)
        total = None if match[2] == "*" else int(match[2])
    if job.remote.size is not None and total not in (None, job.remote.size):
        raise DownloadError(
            f"{job.remote.url} has {total} bytes on the server, expected {job.remote.size}: it was "
            "replaced, or a page was sent instead of the file"
        )
    return job.remote.size if total is None else total


def check_space(target: Path, missing: int, free: Callable[[Path], int] = free_bytes) -> None:
    """There must be room for what is missing, and some to spare.

    Raises:
        DownloadError: Names the disk and both numbers.
    """
    folder = next(path for path in target.parents if path.is_dir())
    there = free(folder)
    if there < missing + SPARE_BYTES:
        raise DownloadError(
            f"not enough space on the disk {disk_of(folder)} for {target}: "
            f"{in_words(missing + SPARE_BYTES)} are needed, {in_words(there)} are free"
        )


def _copy(job: _Job, answer: HTTPResponse, start: int, total: int | None) -> None:
    done = start
    with job.part.path.open("r+b", buffering=0) as file:  # what came is there, even if killed
        file.seek(start)
        while True:
            job.report(Step(f"fetching {job.target.name}", done, total or 0))
            chunk = read_some(answer, CHUNK_BYTES, job.remote.url)
            if not chunk:
                break
            left = memoryview(chunk)
            while left:
                left = left[file.write(left) :]
            done += len(chunk)
            if total is not None and done > total:
                job.part.discard()
                raise DownloadError(f"{job.remote.url} sends more than its {total} bytes")
        os.fsync(file.fileno())
    if total is not None and done < total:
        raise Trouble(f"{job.remote.url} broke off after {done} of {total} bytes")


def _hash(job: _Job) -> str:
    """SHA-256 of the part, read back from the disk."""
    digest, done, total = hashlib.sha256(), 0, job.part.length()
    with job.part.path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            job.report(Step(f"checking {job.target.name}", done, total))
            digest.update(chunk)
            done += len(chunk)
    return digest.hexdigest()
