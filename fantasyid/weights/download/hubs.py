"""Hugging Face, its mirrors, and ModelScope: addresses, and the list of a repository's files.

Source: Both hubs list a repository's files with size and, for large files, SHA-256. Hugging Face:
`lfs.oid` of `/api/models/REPO/tree/main`; ModelScope: `Sha256` of `/api/v1/models/REPO/repo/files`.
"""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from .fetch import CHUNK_BYTES, Remote
from .files import MIRRORS
from .transport import DownloadError, Patience, Report, ignore, open_url, persist, read_some

MAX_LIST_BYTES = 16 * 1024**2
ON = ("1", "true", "yes", "on")
LOCAL = ("localhost", "127.0.0.1", "::1")
MODELSCOPE = "https://www.modelscope.cn"


@dataclass(frozen=True, slots=True)
class Hub:
    """A server with repositories.

    Attributes:
        endpoint: Its address, without a slash at the end.
        is_modelscope: Whether it speaks ModelScope's language instead of Hugging Face's.
        token: Sent to it, and to no other host.
    """

    endpoint: str
    is_modelscope: bool = False
    token: str = field(default="", repr=False)

    def url(self, repo: str, path: str) -> str:
        """The address of a file."""
        models, revision = ("models/", "master") if self.is_modelscope else ("", "main")
        return f"{self.endpoint}/{models}{repo}/resolve/{revision}/{urllib.parse.quote(path)}"

    def list_url(self, repo: str) -> str:
        """The address of the list of all files."""
        if self.is_modelscope:
            query = "repo/files?Revision=master&Recursive=true"
            return f"{self.endpoint}/api/v1/models/{repo}/{query}"
        return f"{self.endpoint}/api/models/{repo}/tree/main?recursive=true"


def choose_hub(mirror: str, environment: Mapping[str, str]) -> Hub:
    """The hub behind a mirror's name.

    Args:
        mirror: One of `MIRRORS`.
        environment: HF_ENDPOINT replaces huggingface.co; HF_TOKEN goes to that endpoint alone;
            HF_HUB_OFFLINE forbids all of it.

    Raises:
        ValueError: No such mirror, or HF_ENDPOINT is no address.
        DownloadError: HF_HUB_OFFLINE is set.
    """
    if environment.get("HF_HUB_OFFLINE", "").lower() in ON:
        raise DownloadError("HF_HUB_OFFLINE is set: nothing is fetched. Files that are there work")
    if mirror == "modelscope":
        return Hub(MODELSCOPE, is_modelscope=True)
    if mirror == "hf-mirror":
        return Hub("https://hf-mirror.com")
    if mirror != "huggingface":
        raise ValueError(f'there is no mirror "{mirror}"; there are: {", ".join(MIRRORS)}')
    endpoint = environment.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"
    parts = urllib.parse.urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"HF_ENDPOINT is {endpoint!r}, expected an address like https://HOST")
    safe = parts.scheme == "https" or parts.hostname in LOCAL
    return Hub(endpoint, token=environment.get("HF_TOKEN", "").strip() if safe else "")


def list_files(
    hub: Hub, repo: str, *, report: Report = ignore, patience: Patience | None = None
) -> dict[str, Remote]:
    """All files of a repository by path, with size and, where the hub knows it, SHA-256.

    Raises:
        DownloadError: The repository cannot be listed.
    """
    url, patience = hub.list_url(repo), patience or Patience()
    raw = persist(lambda: _read_all(hub, url, patience), patience, report=report)
    try:
        content = json.loads(raw.decode("utf-8"))
        entries = content["Data"]["Files"] if hub.is_modelscope else content
        found = dict(filter(None, (_entry(hub, repo, entry) for entry in entries)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DownloadError(
            f"{url} is no list of files ({type(error).__name__}): a page of a proxy or a login may "
            "have been sent instead"
        ) from error
    if not found:
        raise DownloadError(f"{url} lists no files: the repository is empty, or asks for a token")
    return found


def _read_all(hub: Hub, url: str, patience: Patience) -> bytes:
    raw = b""
    with closing(open_url(url, patience.timeout, token=hub.token)) as answer:
        while chunk := read_some(answer, CHUNK_BYTES, url):
            raw += chunk
            if len(raw) > MAX_LIST_BYTES:
                raise DownloadError(f"{url} is longer than any list of files")
    return raw


def _entry(hub: Hub, repo: str, entry: Mapping[str, Any]) -> tuple[str, Remote] | None:
    """Path and file of one entry of a list; None for a folder."""
    if hub.is_modelscope:
        path, size, sha256 = entry["Path"], entry["Size"], entry.get("Sha256") or ""
        is_file = entry["Type"] != "tree"
    else:
        large = entry.get("lfs") or {}
        path, sha256 = entry["path"], large.get("oid", "")
        size = large.get("size", entry.get("size", 0))
        is_file = entry["type"] == "file"
    if not is_file:
        return None
    parts = path.split("/")
    if set(parts) & {"", ".", ".."} or "\\" in path or ":" in path:
        raise ValueError("a path leads out of the repository")
    if type(size) is not int or size < 0 or not re.fullmatch(r"([0-9a-f]{64})?", sha256):
        raise ValueError("a size or a hash is none")
    return path, Remote(hub.url(repo, path), size, sha256, hub.token)
