"""One HTTP request, and what its failures mean: may pass, or final.

Proxies are those of the environment (HTTPS_PROXY, NO_PROXY, ...). A redirect may lead to another
host, but never from https to http, and a token goes to the host that it was meant for alone.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")
PASSING = (408, 425, 429, 500, 502, 503, 504)
MAX_REDIRECTS = 8
TICK = 0.2  # seconds between two looks at the stop button while waiting
PROXY_SECRET = "proxy-authorization"


class DownloadError(OSError):
    """A download that will not succeed by itself; its message is a sentence for people."""


class Trouble(DownloadError):
    """A failure that may pass.

    Attributes:
        pause: Seconds that the server asks to wait, or None.
    """

    def __init__(self, words: str, pause: float | None = None) -> None:
        super().__init__(words)
        self.pause = pause


class RangeRefused(Exception):
    """The server has nothing from that byte on.

    Attributes:
        size: The size of the file, where the server says it.
    """

    def __init__(self, size: int | None) -> None:
        super().__init__()
        self.size = size


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for what.

    Attributes:
        timeout: Seconds without a byte after which a connection counts as dead.
        attempts: Failures in a row, without a byte gained, after which to give up.
        backoff: Seconds before the second attempt; each further pause is twice as long.
        longest_pause: Seconds; a server that asks for more is not waited for.
    """

    timeout: float = 30.0
    attempts: int = 5
    backoff: float = 1.0
    longest_pause: float = 120.0


@dataclass(frozen=True, slots=True)
class Step:
    """How far a download is.

    Attributes:
        words: What is done now, and to which file.
        done: Bytes.
        total: Bytes in all, 0 where nobody said.
    """

    words: str
    done: int
    total: int


Report = Callable[[Step], None]


def ignore(step: Step) -> None:
    """Takes note of nothing."""
    del step


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = MAX_REDIRECTS
    max_repeats = 2

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        del fp, code, msg, headers
        old, new = (urllib.parse.urlsplit(url) for url in (req.full_url, newurl))
        if new.scheme not in ("http", "https") or (old.scheme, new.scheme) == ("https", "http"):
            raise DownloadError(
                f"{host_of(req.full_url)} redirects to an unsafe address ({newurl[:80]}): refused"
            )
        kept = {k: v for k, v in req.headers.items() if k.lower() != PROXY_SECRET}
        request = urllib.request.Request(newurl, headers=kept, unverifiable=True)
        # The token is not among the headers that are kept: it stays with its host.
        token = req.unredirected_hdrs.get("Authorization")
        if token and (old.scheme, old.netloc) == (new.scheme, new.netloc):
            request.add_unredirected_header("Authorization", token)
        return request

    # Older Pythons know no 308, with which hubs answer for renamed repositories.
    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302


def _opener() -> urllib.request.OpenerDirector:
    """An opener for http and https alone: no files, no ftp, no cookies."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


def host_of(url: str) -> str:
    """The host of an address, with its port if it names one."""
    return urllib.parse.urlsplit(url).netloc.rpartition("@")[2] or url


def open_url(
    url: str, timeout: float, headers: dict[str, str] | None = None, token: str = ""
) -> http.client.HTTPResponse:
    """Send a GET request and follow its redirects.

    Args:
        url: http or https.
        timeout: Seconds without a byte.
        headers: Sent to every host on the way.
        token: Sent to the first host alone.

    Returns:
        An answer with status 200 or 206, its body as the file has it.

    Raises:
        Trouble: It may work later.
        RangeRefused: A range was asked for and there is nothing in it.
        DownloadError: It will not work.
    """
    # The library itself asks for the plain bytes (Accept-Encoding: identity).
    request = urllib.request.Request(
        url, headers={"User-Agent": "ComfyUI-FantasyID"} | (headers or {})
    )
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        answer = _opener().open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        _refused(error, url)
    except urllib.error.URLError as error:
        raise _unreachable(error.reason, url) from error
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, DownloadError):
            raise
        raise _unreachable(error, url) from error
    problem = _strange(answer, url)
    if problem:
        answer.close()
        raise problem
    return answer


def _strange(answer: Any, url: str) -> DownloadError | None:
    if answer.status not in (200, 206):
        return DownloadError(f"{host_of(url)} answers {answer.status} for {url}, expected the file")
    encoding = answer.headers.get("Content-Encoding", "identity").lower()
    if encoding not in ("", "identity"):
        return DownloadError(
            f"{host_of(url)} sends {url} encoded as {encoding}, though the plain bytes were asked "
            "for: a proxy changes it on the way; choose another mirror"
        )
    return None


def _refused(error: urllib.error.HTTPError, url: str) -> NoReturn:
    host, code = host_of(url), error.code
    if code == 416:
        size = error.headers.get("Content-Range", "").rpartition("/")[2]
        raise RangeRefused(int(size) if size.isdecimal() else None)
    if code in PASSING:
        raise Trouble(f"{host} answers {code}", _retry_after(error.headers.get("Retry-After", "")))
    if code in (401, 403):
        raise DownloadError(
            f"{host} refuses {url} ({code}): where the page asks for it, accept the licence there "
            "and put your token into HF_TOKEN; or fetch the file with a browser"
        )
    if code in (404, 410):
        raise DownloadError(
            f"{url} is not there ({code}): it was moved or renamed; choose another mirror or fetch "
            "the file with a browser"
        )
    if 300 <= code < 400:
        raise DownloadError(f"{host} redirects {url} in circles or nowhere ({code})")
    raise DownloadError(f"{host} answers {code} for {url}")


def _retry_after(text: str) -> float | None:
    """Seconds from a Retry-After header: a number or a date."""
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _unreachable(reason: Any, url: str) -> DownloadError:
    host = host_of(url)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return DownloadError(f"the certificate of {host} is not valid: {reason.verify_message}")
    if isinstance(reason, socket.gaierror):
        return Trouble(
            f"{host} cannot be found: this machine is offline, or needs a proxy (HTTPS_PROXY) or "
            "another mirror. Files that are there work without network"
        )
    if isinstance(reason, TimeoutError):
        return Trouble(f"{host} does not answer")
    return Trouble(f"the connection to {host} failed: {str(reason) or type(reason).__name__}")


def read_some(answer: http.client.HTTPResponse, count: int, url: str) -> bytes:
    """The next bytes of an answer, as they come; b"" at its end.

    Raises:
        Trouble: The connection stalls or breaks.
    """
    try:
        return answer.read1(count)
    except TimeoutError as error:
        raise Trouble(f"{host_of(url)} stalls") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Trouble(f"the connection to {host_of(url)} broke: {error}") from error


def persist(
    attempt: Callable[[], T],
    patience: Patience,
    *,
    report: Report = ignore,
    gained: Callable[[], int] = lambda: 0,
) -> T:
    """Try until it works, or until it failed too often without a byte gained.

    Args:
        attempt: Raises `Trouble` where trying again may help.
        patience: How often and how long.
        report: Called while waiting; an exception that it raises stops everything.
        gained: How many bytes there are; more than ever before is progress.

    Raises:
        DownloadError: It will not work, or did not for too long.
    """
    failures, best = 0, gained()
    while True:
        try:
            return attempt()
        except Trouble as trouble:
            failures = 1 if gained() > best else failures + 1
            best = max(best, gained())
            if failures >= patience.attempts:
                raise DownloadError(f"{trouble}; gave up after {failures} attempts") from trouble
            pause = patience.backoff * 2 ** (failures - 1)
            if trouble.pause is not None:
                pause = trouble.pause
            if pause > patience.longest_pause:
                raise DownloadError(
                    f"{trouble} and asks to wait {pause:.0f} seconds: try again later"
                ) from trouble
            _wait(pause, f"{trouble}; trying again", report)


def _wait(seconds: float, words: str, report: Report) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        report(Step(words, 0, 0))
        time.sleep(min(left, TICK))
