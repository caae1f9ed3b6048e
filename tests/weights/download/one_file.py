"""One file of random bytes on the server, and `fetch` with the defaults of the tests."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest
from weights.download.file_server import Served

from fantasyid.weights.download import fetch as module
from fantasyid.weights.download.fetch import part_of
from fantasyid.weights.download.hubs import Remote
from fantasyid.weights.download.retry import Retry

CONTENT = random.Random(0).randbytes(300_000)
HASH = hashlib.sha256(CONTENT).hexdigest()
PART = f"weights.pt.{HASH[:12]}.part"
QUICK = Retry(timeout=0.4, attempts=3, backoff=0.0)


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(module, "PIECE_BYTES", 1000)


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "models" / "weights.pt"


@pytest.fixture
def remote(web, small_pieces) -> Remote:
    del small_pieces
    web.files["/w"] = Served(CONTENT)
    return Remote(f"{web.url}/w", len(CONTENT), HASH)


def fetch(remote, target, validate=lambda _: None, report=lambda _: None, retry=QUICK) -> bool:
    return module.fetch(remote, target, validate, report, retry)


def left(target: Path) -> list[str]:
    """Names beside the target."""
    return sorted(path.name for path in target.parent.iterdir() if path != target)


def begin(target: Path, content: bytes, sha256: str = HASH) -> None:
    """What an earlier run has left."""
    target.parent.mkdir()
    part_of(target, sha256).write_bytes(content)
