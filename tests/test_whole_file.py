"""Files appear whole or not at all, and never in the place of another one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest
from conftest import ROOT

from fantasyid.whole_file import ABANDONED_SECONDS, PART, write_numbered, write_whole


def test_many_writers_at_a_time_lose_nothing(tmp_path):
    def write(number: int) -> None:
        write_numbered(tmp_path, "head", 1, {".json": b"%d" % number, ".csv": b"%d" % number})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = sorted(int(path.read_bytes()) for path in tmp_path.glob("*.json"))
    assert kept == list(range(20))
    for path in tmp_path.glob("*.json"):
        assert path.with_suffix(".csv").read_bytes() == path.read_bytes()
    assert list(tmp_path.glob(f"*{PART}")) == []


def test_an_older_file_of_any_of_the_endings_is_left_alone(tmp_path):
    (tmp_path / "a_00001_.csv").write_text("mine")
    path = write_numbered(tmp_path, "a", 1, {".json": b"1", ".csv": b"2"})
    assert path.name == "a_00002_.json"
    assert (tmp_path / "a_00001_.csv").read_text() == "mine"
    with pytest.raises(FileExistsError):
        write_whole(path, lambda file: file.write(b"3"), replace=False)
    assert path.read_bytes() == b"1"


def test_a_failure_in_the_middle_leaves_nothing_and_names_the_file(tmp_path):
    def full(file) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"a\.bin cannot be written: No space left"):
        write_whole(tmp_path / "a.bin", full)
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_left_is_removed_by_a_later_save_but_not_a_living_one(tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from fantasyid.whole_file import write_whole\n"
        "write_whole(Path(sys.argv[1]), lambda file: (file.write(b'half'), os._exit(9)))"
    )
    target = tmp_path / "a.bin"
    run = subprocess.run([sys.executable, "-c", script, str(target)], cwd=ROOT, timeout=120)
    assert run.returncode == 9
    (left,) = tmp_path.iterdir()  # nothing under the final name
    assert left.name.endswith(PART)
    machine, _, unique = left.name.split("-", 2)
    living = tmp_path / f"{machine}-{os.getpid()}-{unique}"
    elsewhere = tmp_path / f"another{left.name}"
    for part in (living, elsewhere):
        part.write_bytes(b"half")
    write_whole(target, lambda file: file.write(b"whole"))
    assert set(tmp_path.iterdir()) == {target, living, elsewhere}
    old = time.time() - ABANDONED_SECONDS - 1
    for part in (living, elsewhere):
        os.utime(part, (old, old))
    write_whole(target, lambda file: file.write(b"whole"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
