"""Trying again, waiting, and stopping: what every request here has in common."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from ..progress import Report, Step

T = TypeVar("T")
TICK = 0.2  # seconds between two looks at the stop button
PASSING = (408, 425, 429, 500, 502, 503, 504)


class DownloadError(OSError):
    """A download that will not succeed by itself; its message is a sentence for people."""


class TransientError(DownloadError):
    """A failure that may pass.

    Attributes:
        pause: Seconds that the server asks to wait, or None.
    """

    def __init__(self, words: str, pause: float | None = None) -> None:
        super().__init__(words)
        self.pause = pause


@dataclass(frozen=True, slots=True)
class Retry:
    """How long to wait for what."""

    # Seconds within which the next piece must come, however slowly its bytes drip.
    timeout: float = 60.0
    attempts: int = 5  # failures in a row, without a byte gained, after which to give up
    backoff: float = 1.0  # seconds before the second attempt; each further pause is twice as long
    longest_pause: float = 120.0  # seconds; a server that asks for more is not waited for


def refusal(status: int, url: str, retry_after: str | None = None) -> DownloadError:
    """What an answer without the file means.

    Args:
        status: HTTP status.
        url: What was asked for.
        retry_after: The header of that name, which counts if it is a number of seconds.
    """
    if status in PASSING:
        pause = float(retry_after) if retry_after and retry_after.strip().isdecimal() else None
        return TransientError(f"{url}: the server answers {status}", pause)
    if status in (401, 403):
        return DownloadError(
            f"{url} is refused ({status}): where its page asks for it, accept the license there "
            "and put your token into HF_TOKEN; or fetch the file with a browser"
        )
    if status in (404, 410):
        return DownloadError(
            f"{url} is not there ({status}): it was moved or renamed; choose another mirror or "
            "fetch the file with a browser"
        )
    return DownloadError(f"{url}: the server answers {status}")


def unreachable(error: Exception, url: str) -> TransientError:
    """What a connection that fails means."""
    return TransientError(
        f"no connection to {url} ({type(error).__name__}): this machine is offline, or needs a "
        "proxy (HTTPS_PROXY) or another mirror. Files that are there work without network"
    )


def retried(
    attempt: Callable[[], T],
    retry: Retry,
    report: Report,
    gained: Callable[[], int] = lambda: 0,
) -> T:
    """Try until it works, or until it failed too often without a byte gained.

    Args:
        attempt: Raises `TransientError` where trying again may help.
        retry: How often and how long.
        report: Called while waiting; an exception that it raises stops everything.
        gained: How many bytes there are; more than ever before is progress.

    Raises:
        DownloadError: It will not work, or did not for too long.
    """
    failures, best = 0, gained()
    while True:
        try:
            return attempt()
        except TransientError as error:
            failures = 1 if gained() > best else failures + 1
            best = max(best, gained())
            pause = retry.backoff * 2 ** (failures - 1) if error.pause is None else error.pause
            if failures >= retry.attempts:
                raise DownloadError(f"{error}; gave up after {failures} attempts") from error
            if pause > retry.longest_pause:
                raise DownloadError(
                    f"{error} and asks to wait {pause:.0f} seconds: try again later"
                ) from error
            end = time.monotonic() + pause
            while (left := end - time.monotonic()) > 0:
                report(Step(f"{error}; trying again"))
                time.sleep(min(left, TICK))


_END = object()


def _read(
    pieces: Callable[[], Iterable[object]], ready: queue.Queue[object], stopped: threading.Event
) -> None:
    try:
        for piece in pieces():
            ready.put(piece)
            if stopped.is_set():
                return
        ready.put(_END)
    except Exception as error:  # noqa: BLE001 (raised again by the caller's side)
        ready.put(error)


def watched(
    pieces: Callable[[], Iterable[T]],
    timeout: float,
    tick: Callable[[], object],
    url: str,
    *,
    together: bool = False,
) -> Iterator[T]:
    """Yield what a blocking iterator yields, and look at the stop button while it blocks.

    A read from a socket cannot be interrupted. So a thread reads, and when the caller stops it is
    left behind: it writes nothing, and ends with its next piece or its own timeout.

    Args:
        pieces: Makes the iterator, in the thread.
        timeout: Seconds within which each piece must come.
        tick: Called between pieces and every `TICK` seconds; may raise to stop.
        together: The timeout is that of all pieces together: what is small and may have no end.

    Raises:
        TransientError: No piece came in time.
    """
    ready: queue.Queue[Any] = queue.Queue(maxsize=8)
    stopped = threading.Event()
    threading.Thread(target=_read, args=(pieces, ready, stopped), daemon=True).start()
    try:
        due = time.monotonic() + timeout
        while True:
            tick()
            if time.monotonic() > due:
                raise TransientError(f"{url} sends nothing, or too slowly")
            try:
                piece = ready.get(timeout=TICK)
            except queue.Empty:
                continue
            if piece is _END:
                return
            if isinstance(piece, Exception):
                raise piece
            yield piece
            if not together:
                due = time.monotonic() + timeout
    finally:
        stopped.set()
        while not ready.empty():  # the thread may wait for room
            ready.get_nowait()
