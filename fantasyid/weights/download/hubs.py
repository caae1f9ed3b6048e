"""What the repositories of Hugging Face, its mirrors and ModelScope hold.

Source: Both hubs list a repository's files with size and, for large files, SHA-256. Hugging Face is
asked through its own library, which also finds the token (HF_TOKEN, or a login on this machine).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..progress import Report, Step
from .files import MIRRORS
from .retry import DownloadError, Retry, refusal, retried, unreachable, watched

MODELSCOPE = "https://www.modelscope.cn"
HF_MIRROR = "https://hf-mirror.com"
HUGGING_FACE = "https://huggingface.co"
CONNECT_TIMEOUT = 10.0  # seconds
ADDRESS = re.compile(r"https?://[^/\s]+(/\S*)?")
# Where a token does not travel in the clear: encrypted, or to this machine.
SAFE_ADDRESS = re.compile(r"https://.*|http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?(/.*)?")


@dataclass(frozen=True, slots=True)
class Remote:
    """A file on a server."""

    url: str  # its address
    size: int  # bytes
    sha256: str = ""  # in hexadecimal digits, "" where nobody said
    token: str = field(default="", repr=False)  # for the host of `url` alone


def endpoint_of(mirror: str) -> str:
    """The address of a mirror; HF_ENDPOINT replaces huggingface.co.

    Raises:
        ValueError: No such mirror, or HF_ENDPOINT is no address.
        DownloadError: HF_HUB_OFFLINE is set.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise DownloadError("HF_HUB_OFFLINE is set: nothing is fetched. Files that are there work")
    if mirror not in MIRRORS:
        raise ValueError(f'there is no mirror "{mirror}"; there are: {", ".join(MIRRORS)}')
    if mirror != "huggingface":
        return MODELSCOPE if mirror == "modelscope" else HF_MIRROR
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or HUGGING_FACE
    if not ADDRESS.fullmatch(endpoint):
        raise ValueError(f"HF_ENDPOINT is {endpoint!r}, expected an address like https://HOST")
    return endpoint


def list_files(mirror: str, repo: str, report: Report, retry: Retry) -> dict[str, Remote]:
    """All files of a repository by path.

    Raises:
        ValueError: No such mirror, or HF_ENDPOINT is no address.
        DownloadError: The repository cannot be listed.
    """
    endpoint = endpoint_of(mirror)
    url, reader = f"{endpoint}/{repo}", _modelscope if mirror == "modelscope" else _hugging_face

    def attempt() -> dict[str, Remote]:
        step = Step(f"listing {repo}")
        found = watched(
            lambda: _translated(reader(endpoint, repo), url),
            retry.timeout,
            lambda: report(step),
            url,
            together=True,
        )
        # A name with a drive or a backslash could lead out of the folder on Windows.
        return {path: remote for path, remote in found if not set(path) & set("\\:")}

    files = retried(attempt, retry, report)
    if not files:
        raise DownloadError(f"{url} lists no files: the repository is empty, or asks for a token")
    return files


def _translated(entries: Iterator[tuple[str, Remote]], url: str) -> Iterator[tuple[str, Remote]]:
    """The same entries; failures of either hub's client in our words."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield from entries
    except HfHubHTTPError as error:
        answer = error.response
        if answer is None:
            raise unreachable(error, url) from error
        raise refusal(answer.status_code, url, answer.headers.get("Retry-After")) from error
    except DownloadError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DownloadError(
            f"{url} gives no list of files ({type(error).__name__}): a page of a proxy or a login "
            "may have been sent instead"
        ) from error
    except Exception as error:  # requests' before the library's 1.0, then httpx's
        raise unreachable(error, url) from error


def token_for(endpoint: str) -> str:
    """The token of this machine; "" for another's mirror and where it would go in the clear."""
    from huggingface_hub import get_token

    safe = SAFE_ADDRESS.fullmatch(endpoint) and endpoint != HF_MIRROR
    return (get_token() if safe else None) or ""


def _hugging_face(endpoint: str, repo: str) -> Iterator[tuple[str, Remote]]:
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.hf_api import RepoFile

    token = token_for(endpoint)
    for entry in HfApi(endpoint, token=token or False).list_repo_tree(repo, recursive=True):
        if isinstance(entry, RepoFile):
            size, sha256 = (entry.lfs.size, entry.lfs.sha256) if entry.lfs else (entry.size, "")
            url = hf_hub_url(repo, entry.path, endpoint=endpoint)
            yield entry.path, Remote(url, size, sha256, token)


def _modelscope(endpoint: str, repo: str) -> Iterator[tuple[str, Remote]]:
    import requests

    url = f"{endpoint}/api/v1/models/{repo}/repo/files"
    answer = requests.get(url, {"Revision": "master", "Recursive": "true"}, timeout=CONNECT_TIMEOUT)
    if answer.status_code != 200:
        raise refusal(answer.status_code, url, answer.headers.get("Retry-After"))
    for entry in answer.json()["Data"]["Files"]:
        if entry["Type"] != "tree":
            address = f"{endpoint}/models/{repo}/resolve/master/{entry['Path']}"
            address = requests.utils.requote_uri(address)
            yield entry["Path"], Remote(address, int(entry["Size"]), entry.get("Sha256") or "")
