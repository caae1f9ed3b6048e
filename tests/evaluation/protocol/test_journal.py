"""The journal cut at every byte, damaged, held; files that are whole or not there."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fantasyid.evaluation.protocol.journal import (
    Journal,
    parse_lines,
    write_text,
)
from fantasyid.whole_file import locked, write_whole

ROOT = Path(__file__).resolve().parents[3]


def test_the_last_word_is_remembered_over_runs(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.add("job", "a", state="queued")
    journal.add("job", "b", state="queued", words='"ü"\n')
    journal.add("job", "a", state="made")
    again = Journal(tmp_path / "journal.jsonl")
    for known in (journal, again):
        assert known.last("job", "a") == {"about": "job", "key": "a", "state": "made"}
        assert (known.last("job", "b") or {})["words"] == '"ü"\n'
        assert known.last("job", "c") is None
        assert known.last("measured", "a") is None


@given(texts=st.lists(st.text(max_size=12), min_size=1, max_size=4), data=st.data())
def test_a_cut_at_any_byte_leaves_the_lines_before_it(tmp_path_factory, texts, data):
    path = tmp_path_factory.mktemp("cut") / "journal.jsonl"
    journal, ends = Journal(path), [0]
    for number, text in enumerate(texts):
        journal.add("job", str(number), text=text)
        ends.append(path.stat().st_size)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    left = sum(end <= cut for end in ends[1:])
    again = Journal(path)
    assert [again.last("job", str(i)) is not None for i in range(len(texts))] == [
        i < left for i in range(len(texts))
    ]
    again.add("job", "new", text="ü")
    assert path.read_bytes().startswith(whole[: ends[left]])
    assert len(parse_lines(path.read_bytes(), path)[0]) == left + 1


@pytest.mark.parametrize("line", ["nonsense", "[]", "{}", '{"about": 1, "key": "a"}'])
def test_a_damaged_line_in_the_middle_is_named(tmp_path, line):
    path = tmp_path / "journal.jsonl"
    path.write_text(f'{{"about": "job", "key": "a"}}\n{line}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 2 of .*journal\.jsonl is damaged"):
        Journal(path)


def test_a_number_that_is_none_is_never_written(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    with pytest.raises(ValueError, match="not JSON compliant"):
        journal.add("job", "a", value=float("nan"))
    assert not journal.path.exists()


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "file"

    def fail(file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_whole(path, fail)
    assert list(path.parent.iterdir()) == []
    write_text(path, "old")
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, fail)
    assert path.read_text("utf-8") == "old"
    assert list(path.parent.iterdir()) == [path]


def test_two_runs_do_not_share_a_folder_and_a_killed_one_holds_nothing(tmp_path):
    lock = tmp_path / "journal.lock"
    code = (
        "import sys, time; from pathlib import Path\n"
        "from fantasyid.whole_file import locked\n"
        f"with locked(Path({str(lock)!r}), ValueError()):\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match="busy"), locked(lock, ValueError("busy")):
            pass
    finally:
        other.kill()
        other.communicate()
    with locked(lock, ValueError()):
        pass
