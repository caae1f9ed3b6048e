"""A conversion that ends early: what is left is gone on with, and never taken for the file."""

from __future__ import annotations

import signal
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from fantasyid.weights.convert import command, split_model, write
from fantasyid.weights.convert.sources import in_memory
from fantasyid.weights.convert.write import Plan, write_files
from fantasyid.weights.keys import sort_released_keys
from fantasyid.weights.read import read_model
from miniature.checkpoints import transformer_files

pytestmark = pytest.mark.slow


class Stop(Exception):
    """Stands for a kill."""


def stop_after(count: int):
    steps = iter(range(count))

    def report(_):
        if next(steps, None) is None:
            raise Stop

    return report


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory) -> bytes:
    """The adapter's file of a conversion that nothing stops."""
    path = tmp_path_factory.mktemp("whole") / "a.safetensors"
    split_model(folder, None, path)
    return path.read_bytes()


@settings(max_examples=12)
@given(stops=st.lists(st.integers(0, 500), min_size=1, max_size=3))
def test_stopped_anywhere_it_goes_on_and_gives_the_same_file(
    folder, whole, tmp_path_factory, stops
):
    two = tmp_path_factory.mktemp("out") / "a.safetensors"
    for count in stops:
        try:
            split_model(folder, None, two, report=stop_after(count))
        except Stop:
            assert not two.exists()
        else:
            assert two.exists()
    split_model(folder, None, two)
    assert two.read_bytes() == whole


def test_done_work_is_not_repeated(folder, files, monkeypatch):
    with pytest.raises(Stop):
        split_model(folder, files.base, None, report=stop_after(100))
    written = []
    original = write._write_tensor
    monkeypatch.setattr(
        write, "_write_tensor", lambda f, data: written.append(1) or original(f, data)
    )
    split_model(folder, files.base, None)
    # The hundredth report was the last, and the one after it stopped: 101 tensors are there.
    assert len(written) == len(load_file(files.base)) - 101


def test_the_stop_key_says_that_it_can_go_on(folder, files, capsys, monkeypatch):
    monkeypatch.setattr(command.Lines, "__call__", lambda *_: signal.raise_signal(signal.SIGINT))
    assert command.main(["split", str(folder), "--base", str(files.base)]) == 130
    assert "goes on from here" in capsys.readouterr().err


def test_bytes_lost_by_a_power_cut_are_written_again(folder, files):
    """The file has its length, but not the bytes of its first tensors."""
    with pytest.raises(Stop):
        split_model(folder, files.base, None, report=stop_after(60))
    part = files.base.with_name(files.base.name + ".part")
    with part.open("r+b") as file:
        content = file.read()
        length = 8 + int.from_bytes(content[:8], "little")
        file.seek(length)
        file.write(b"\0" * 4000)
    split_model(folder, files.base, None)
    again = files.base.with_name("again.safetensors")
    split_model(folder, again, None)
    assert again.read_bytes() == files.base.read_bytes()


def test_a_disk_that_returns_other_bytes_is_reported_and_the_name_is_not_given(
    folder, files, monkeypatch
):
    real = write._write_tensor
    with monkeypatch.context() as broken:
        broken.setattr(
            write, "_write_tensor", lambda f, data: real(f, memoryview(bytes(len(data))))
        )
        with pytest.raises(ValueError, match="gives back other bytes than were written"):
            split_model(folder, files.base, None)
    assert not files.base.exists()
    split_model(folder, files.base, None)  # a passing fault is repaired by the next run
    assert load_file(files.base)


def test_a_part_of_another_source_is_not_continued(folder, files, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for name, content in transformer_files(dtype=torch.bfloat16, seed=1).items():
        (other / name).write_bytes(content)
    with pytest.raises(Stop):
        split_model(folder, files.base, None, report=stop_after(60))
    split_model(other, files.base, None)
    keys = sort_released_keys(expected := read_model(other))
    got = load_file(files.base)
    assert all(torch.equal(got[ours], expected[key]) for ours, key in keys.base.items())


def test_a_full_disk_is_known_before_anything_is_written(folder, files, monkeypatch):
    monkeypatch.setattr(write.shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    with pytest.raises(OSError, match=r"0\.02 GB are needed, 0\.00 GB are free"):
        split_model(folder, files.base, files.adapter)
    assert list(files.base.parent.iterdir()) == []


def test_a_file_held_open_is_named_and_the_work_is_kept(folder, files, monkeypatch):
    """As Windows does with a mapped file."""

    def refuse(*_):
        raise PermissionError("sharing violation")

    files.base.write_bytes(b"old")
    with monkeypatch.context() as windows:
        windows.setattr(write.os, "replace", refuse)
        with pytest.raises(PermissionError, match="another program has it open"):
            split_model(folder, files.base, None, overwrite=True)
    assert files.base.read_bytes() == b"old"
    written = []
    monkeypatch.setattr(write, "_write_tensor", lambda *_: written.append(1))
    split_model(folder, files.base, None, overwrite=True)
    assert not written
    assert load_file(files.base)


def test_two_conversions_at_a_time_do_not_mix(tmp_path):
    """The second refuses; and what changes under the first is seen by its check."""
    plan = Plan(tmp_path / "a.safetensors", in_memory({"a": torch.ones(3)}), {})

    def second(_step) -> None:
        with pytest.raises(FileExistsError, match="is being written by another conversion"):
            write_files([plan], overwrite=False, report=lambda _: None)

    write_files([plan], overwrite=False, report=second)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]

    other = Plan(tmp_path / "b.safetensors", in_memory({"a": torch.ones(3)}), {})

    def meddle(step) -> None:
        if step.words.startswith("writing"):
            content = other.part.read_bytes()
            other.part.write_bytes(content.replace(b'"pt"', b'"tp"'))

    with pytest.raises(ValueError, match="its header was changed"):
        write_files([other], overwrite=False, report=meddle)
    assert not other.path.exists()
