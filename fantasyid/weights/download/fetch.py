"""One file: resumed, checked, and only then given its name.

Bytes go to `NAME.HASH.part`, beside the target. They are kept when anything stops the download, and
gone on with from any server that has the file with that hash. Only a file whose size, hash and
content are right takes the final name, in one step; a file that is there is never touched.

The hub's library tells what to fetch, but does not fetch: before its version 1.0 it has no callback
within a file and reads in pieces of 10 MB, so the stop button would wait for it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from ...whole_file import locked
from ..describe import in_print
from ..fingerprint import sha256_of_file
from ..progress import Report, Step, in_words
from .hubs import CONNECT_TIMEOUT, Remote
from .retry import (
    DownloadError,
    Retry,
    TransientError,
    refusal,
    retried,
    unreachable,
    watched,
)

PIECE_BYTES = 64 * 1024  # of a slow line, too, one must come within the timeout
SPARE_BYTES = 64 * 1024**2  # left free on the disk beside the file itself


def part_of(target: Path, sha256: str) -> Path:
    """Where the bytes of an unfinished file with that hash are."""
    return target.with_name(f"{target.name}.{sha256[:12] or 'unknown'}.part")


def size_of(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    return path.stat().st_size if path.is_file() else 0


def check_space(target: Path, missing: int) -> None:
    """There must be room for what is missing, and some to spare.

    Raises:
        DownloadError: Names the folder and both numbers.
    """
    folder = next(path for path in target.parents if path.is_dir())
    free = shutil.disk_usage(folder).free
    if free < missing + SPARE_BYTES:
        raise DownloadError(
            f"not enough space on the disk of {folder} for {target.name}: "
            f"{in_words(missing + SPARE_BYTES)} are needed, {in_words(free)} are free"
        )


def fetch(
    remote: Remote,
    target: Path,
    validate: Callable[[Path], object],
    report: Report,
    retry: Retry,
) -> bool:
    """Fetch a file, going on where an earlier run was stopped.

    Args:
        target: Its final path; folders are made.
        validate: Reads the finished bytes; raises ValueError or OSError where they are wrong.
        report: Called often; an exception that it raises stops the download, which can be resumed.

    Returns:
        Whether it was fetched; False where a file of that name was there.

    Raises:
        DownloadError: It cannot be had; says why and what to do.
        OSError: The disk refuses.
    """
    if target.exists():
        return False
    part = part_of(target, remote.sha256)
    busy = DownloadError(f"{target.name} is being fetched by another process: wait for it")
    with locked(part.with_suffix(".lock"), busy):
        try:
            retried(
                lambda: _attempt(remote, target, part, report, retry.timeout),
                retry,
                report,
                lambda: size_of(part),
            )
            return _finish(remote, target, part, validate)
        finally:
            if not size_of(part):
                part.unlink(missing_ok=True)


def _finish(remote: Remote, target: Path, part: Path, validate: Callable[[Path], object]) -> bool:
    try:
        validate(part)
    except (ValueError, OSError, RecursionError) as error:
        part.unlink(missing_ok=True)
        raise DownloadError(
            f"{remote.url} is not what it should be, and was deleted: {error}"
        ) from error
    if target.exists():
        part.unlink()
        return False
    os.replace(part, target)
    return True


def _attempt(remote: Remote, target: Path, part: Path, report: Report, timeout: float) -> None:
    """Receive what is missing, and compare; wrong bytes in pieces get one more go."""
    start = size_of(part)
    if start > remote.size or not remote.sha256:  # without a hash nobody could tell a mixture
        part.unlink(missing_ok=True)
        start = 0
    if start < remote.size:
        check_space(target, remote.size - start)
        _receive(remote, target, part, report, timeout)
    found = _hash(part, target, report) if remote.sha256 else ""
    if found != remote.sha256:
        part.unlink()
        words = (
            f"{remote.url} has wrong bytes, which were deleted: SHA-256 is {found}, expected "
            f"{remote.sha256}"
        )
        raise TransientError(words, 0.0) if start else DownloadError(words)


def _receive(remote: Remote, target: Path, part: Path, report: Report, timeout: float) -> None:
    with part.open("ab") as file:
        start = done = file.tell()

        def tick() -> None:
            report(Step(f"fetching {target.name}", done, remote.size))

        for piece in watched(lambda: _pieces(remote, start, timeout), timeout, tick, remote.url):
            if piece is None:
                done = file.truncate(0)
                continue
            file.write(piece)
            done += len(piece)
            if done > remote.size:
                raise _other_size(remote, f"more than {remote.size}")
        tick()
        file.flush()
        os.fsync(file.fileno())
    if done < remote.size:
        raise TransientError(f"{remote.url} broke off after {done} of {remote.size} bytes")


def _other_size(remote: Remote, found: str) -> DownloadError:
    return DownloadError(
        f"{remote.url} has {found} bytes on the server, expected {remote.size}: it was replaced, "
        "or a page was sent instead of the file"
    )


def _pieces(remote: Remote, start: int, timeout: float) -> Iterator[bytes | None]:
    """The bytes from `start` on; None first where the server begins at 0 again."""
    import requests

    headers = {"Accept-Encoding": "identity", "User-Agent": "ComfyUI-FantasyID"}
    if start:
        headers["Range"] = f"bytes={start}-"
    if remote.token:  # requests takes it off again where a redirect leads to another host
        headers["Authorization"] = f"Bearer {remote.token}"
    try:
        with requests.get(
            remote.url, headers=headers, stream=True, timeout=(CONNECT_TIMEOUT, timeout)
        ) as answer:
            status, length = answer.status_code, answer.headers.get("Content-Length", "")
            if status not in (200, 206, 416):
                raise refusal(status, remote.url, answer.headers.get("Retry-After"))
            ranged, expected = status != 200, f"bytes {start}-{remote.size - 1}/{remote.size}"
            if ranged and answer.headers.get("Content-Range") != expected:
                yield None  # another version, or another place in it
                raise TransientError(f"{remote.url} changed on the server: starting over", 0.0)
            if not ranged and length.isdecimal() and int(length) != remote.size:
                raise _other_size(remote, length)
            if start and not ranged:
                yield None
            yield from answer.iter_content(PIECE_BYTES)
    except requests.exceptions.ChunkedEncodingError as error:
        raise TransientError(f"the connection to {remote.url} broke") from error
    except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
        raise unreachable(error, remote.url) from error
    except (requests.exceptions.RequestException, ValueError) as error:
        raise _no_answer(error, remote.url) from error


def _no_answer(error: Exception, url: str) -> DownloadError:
    if isinstance(error, ValueError):  # an address that requests cannot read, or of no web server
        return DownloadError(
            f"{url} leads to something that is no address of a web server, and nothing was read "
            f"from it ({in_print(error)}): choose another mirror"
        )
    return DownloadError(f"{url} cannot be fetched: {in_print(error)}")


def _hash(part: Path, target: Path, report: Report) -> str:
    """SHA-256 of the part, read back from the disk."""
    done, total = 0, size_of(part)

    def tick(count: int) -> None:
        nonlocal done
        done += count
        report(Step(f"checking {target.name}", done, total))

    return sha256_of_file(part, tick)
