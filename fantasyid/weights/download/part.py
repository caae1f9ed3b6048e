"""The unfinished file beside a target: what of it may be kept, and who may write it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from .transport import DownloadError


@dataclass(frozen=True, slots=True)
class Note:
    """Which file the bytes in a part belong to.

    Attributes:
        url: Where they came from.
        etag: The server's name for that version; "" without one.
        sha256: The hash that the whole file will have; "" where nobody knows it.
    """

    url: str
    etag: str = ""
    sha256: str = ""

    def strong_etag(self) -> str:
        """The ETag, if it names bytes rather than a meaning."""
        return "" if self.etag.startswith("W/") else self.etag


class Part:
    """`NAME.part` with its bytes and `NAME.part.json` with its note."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(f"{target.name}.part")
        self.note_path = target.with_name(f"{target.name}.part.json")
        self.lock_path = target.with_name(f"{target.name}.part.lock")

    def length(self) -> int:
        """Bytes that are there."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def note(self) -> Note | None:
        """The note, or None where there is none that can be read."""
        try:
            content = json.loads(self.note_path.read_text("utf-8"))
            note = Note(**content)
        except (OSError, ValueError, TypeError):
            return None
        return note if all(isinstance(v, str) for v in asdict(note).values()) else None

    def begin(self, note: Note) -> None:
        """Start over, for another version of the file."""
        self.path.write_bytes(b"")
        written = self.note_path.with_name(f"{self.note_path.name}.new")
        written.write_text(json.dumps(asdict(note)), "utf-8")
        os.replace(written, self.note_path)

    def discard(self) -> None:
        """Forget everything."""
        self.path.unlink(missing_ok=True)
        self.note_path.unlink(missing_ok=True)

    def check_ours(self) -> None:
        """A part that somebody else has begun is not touched.

        Raises:
            DownloadError: It is there.
        """
        if self.length() and self.note() is None:
            raise DownloadError(
                f"{self.path} is there and was not begun by this downloader: move it away"
            )


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a lock file; the system lets go of it when this process ends, however it ends.

    Raises:
        DownloadError: Another process holds it.
    """
    busy = DownloadError(
        f"{path.name.removesuffix('.part.lock')} is being fetched by another process: wait for it"
    )
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _lock(file) or not _is_still(file, path):
            raise busy
        try:
            yield
        finally:
            if os.name != "nt":  # here others may open it, and must find it gone
                path.unlink(missing_ok=True)
    finally:
        os.close(file)
        if os.name == "nt":
            with contextlib.suppress(OSError):  # held by another process by now
                path.unlink(missing_ok=True)


def _lock(file: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # A file system without locks (some network drives) must not stop a download.
        return error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
    return True


def _is_still(file: int, path: Path) -> bool:
    """Whether the lock file was not deleted by its last holder in between."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
