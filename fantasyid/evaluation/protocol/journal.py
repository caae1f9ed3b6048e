"""What was done, on disk: a command that is killed at any byte goes on where it stopped.

The journal is a file of JSON lines to which lines are only added. A line counts once its line
break is there; a half-written last one is cut off. Files appear whole or not at all.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

from ...whole_file import write_whole

Entry = dict[str, Any]


class Journal:
    """Remembers the last word about everything.

    Args:
        path: Of the file; it is made where it is missing.

    Raises:
        ValueError: A line in the middle is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, threading.Lock()
        data = path.read_bytes() if path.exists() else b""
        entries, whole = parse_lines(data, path)
        if whole < len(data):
            os.truncate(path, whole)
        self._last: dict[tuple[str, str], Entry] = {}
        for entry in entries:
            self._last[(entry["about"], entry["key"])] = entry

    def last(self, about: str, key: str) -> Entry | None:
        """The last word about something, or None."""
        return self._last.get((about, key))

    def add(self, about: str, key: str, **values: Any) -> None:
        """Write a line; it is on the disk when this returns."""
        entry = {"about": about, "key": key, **values}
        line = json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n"
        with self._lock, self.path.open("ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
            self._last[(about, key)] = entry


def parse_lines(data: bytes, path: Path) -> tuple[list[Entry], int]:
    """The entries of a journal, and how many of its bytes are whole lines.

    Args:
        path: Where they come from, for the error.

    Raises:
        ValueError: A whole line is no entry.
    """
    whole = data.rfind(b"\n") + 1
    entries = []
    for number, line in enumerate(data[:whole].split(b"\n")[:-1], 1):
        try:
            entry = json.loads(line)
            if not isinstance(entry["about"], str) or not isinstance(entry["key"], str):
                raise TypeError
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"line {number} of {path} is damaged: put back a copy of the file, or delete that "
                "line; what it told of is done again"
            ) from error
        entries.append(entry)
    return entries, whole


def write_text(path: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all."""
    write_whole(path, lambda file: file.write(text.encode()))
