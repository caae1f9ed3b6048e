"""The command on the real server: killed, crashed, run again; every video made once."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from fantasyid.evaluation.client import Host
from fantasyid.evaluation.protocol import command, making
from fantasyid.evaluation.protocol import run as running
from fantasyid.evaluation.protocol.journal import Journal

ROOT = Path(__file__).resolve().parents[3]


class Crash(BaseException):
    """As if the process were gone."""


def contents(out: Path) -> dict[str, str]:
    """All that a run leaves, but for the date and what tells prompts apart."""
    files = [p for p in out.rglob("*") if p.is_file() and not p.name.startswith("journal")]
    texts = {p.relative_to(out).as_posix(): p.read_bytes().decode("latin-1") for p in files}
    return {name: re.sub(r"Written [^<]*", "", text) for name, text in texts.items()}


def executed(server, out: Path) -> list[str]:
    """The prompts of a run that the host ran, by its history; and none is there twice."""
    lines = (out / "journal.jsonl").read_text("utf-8").splitlines()
    ids = [e["prompt_id"] for e in map(json.loads, lines) if "prompt_id" in e]
    history = server.host.get("/history")
    return [prompt_id for prompt_id in dict.fromkeys(ids) if prompt_id in history]


def test_however_little_each_run_gets_done_nothing_is_lost_or_done_twice(
    arguments, made, server, tmp_path, monkeypatch, capsys
):
    """Each run crashes after one to four steps: before a line, after one, with a prompt sent..."""
    monkeypatch.setattr(making, "_LOOKS_BEFORE_LOST", 2)
    originals = (Journal.add, Host.queue, Host.fetch, Host.upload)
    crashes, steps = 0, 0

    def crashing(function):
        def call(*args, **kwargs):
            nonlocal steps
            steps -= 1
            if steps == 0 and crashes % 2:
                raise Crash
            result = function(*args, **kwargs)
            if steps == 0:
                raise Crash
            return result

        return call

    for name, function in zip(("queue", "fetch", "upload"), originals[1:], strict=True):
        monkeypatch.setattr(Host, name, crashing(function))
    monkeypatch.setattr(Journal, "add", crashing(originals[0]))
    out = tmp_path / "crashed"
    while True:
        steps = crashes // 2 % 5 + 1
        try:
            assert command.main(arguments(out, "--seeds", "11")) == 0
        except Crash:
            crashes += 1
            assert crashes < 60
            continue
        break
    assert crashes >= 6
    assert made(out) == [1, 1]
    assert len(executed(server, out)) == 2
    steps = 10_000
    before = contents(out)
    asked = server.host.get("/history")
    assert command.main(arguments(out, "--seeds", "11")) == 0
    assert contents(out) == before
    assert server.host.get("/history") == asked
    capsys.readouterr()


def test_killed_again_and_again_it_ends_as_if_nothing_had_happened(
    arguments, made, server, tmp_path, monkeypatch
):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    line = [sys.executable, "-m", "fantasyid.evaluate"]
    # Lines of the journal at which to kill, and how long after.
    for lines, pause in ((1, 0.3), (4, 0.0)):
        process = subprocess.Popen(
            [*line, *arguments(killed, "--seeds", "12")],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        journal, deadline = killed / "journal.jsonl", time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if journal.exists() and journal.read_bytes().count(b"\n") >= lines:
                break
            time.sleep(0.01)
        time.sleep(pause)
        process.kill()
        process.communicate()
    assert command.main(arguments(killed, "--seeds", "12")) == 0
    assert made(killed) == [1, 1]
    assert len(executed(server, killed)) == 2
    fetch = Host.fetch

    def fetch_same_video(host, file, target):
        """Decoding twice differs in the last bits, which the encoder makes visible."""
        fetch(host, file, target)
        if target.suffix == ".mp4":
            shutil.copyfile(killed / "videos" / target.name, target)

    monkeypatch.setattr(Host, "fetch", fetch_same_video)
    assert command.main(arguments(whole, "--seeds", "12")) == 0
    left, expected = contents(killed), contents(whole)
    assert [n for n in {**left, **expected} if left.get(n) != expected.get(n)] == []


def test_a_host_that_forgot_is_asked_for_its_files(
    arguments, alone, made, server, tmp_path, monkeypatch
):
    """The host was started anew after it made a video and before anybody fetched it."""
    out = tmp_path / "out"

    def crash(*_):
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(Host, "fetch", crash)
        with pytest.raises(Crash):
            command.main(arguments(out, "--seeds", "13", *alone))
    while server.host.get("/prompt")["exec_info"]["queue_remaining"]:
        time.sleep(0.1)
    server.host.request("POST", "/history", json={"clear": True})
    assert command.main(arguments(out, "--seeds", "13", *alone)) == 0
    assert made(out) == [1]
    assert server.host.get("/history") == {}


def test_all_ablations_run_and_differ(arguments, alone, tmp_path, capsys):
    out = tmp_path / "out"
    more = ["--ablations", "--share-layer", "2", *alone]
    assert command.main(arguments(out, "--seeds", "14", *more)) == 0
    table = capsys.readouterr().out
    assert "| without the face latent |" in table
    assert "Difference to the full model, same photo, prompt and seed:" in table
    with (out / "videos.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len({row["video_sha256"] for row in rows}) == 5
    assert len({row["latent_sha256"] for row in rows}) == 5
    assert all((out / "videos" / f"{row['job']}.mp4").is_file() for row in rows)
    assert all((out / "latents" / f"{row['job']}.latent").is_file() for row in rows)
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert report["variants"][0]["differences"] == {}
    assert "share_layer" not in json.dumps(report["workflow"])
    assert "--share-layer 2" in report["command"]


def test_a_reference_without_a_face_is_counted_and_kept(arguments, people, made, tmp_path, capsys):
    folder, out = tmp_path / "people", tmp_path / "out"
    folder.mkdir()
    (folder / "ann.png").write_bytes((people / "ann.png").read_bytes())
    Image.new("RGB", (256, 256), (90, 90, 90)).save(folder / "blank.png")
    for _ in range(2):  # and it is not tried again
        more = ("--seeds", "15", "--references", str(folder))
        assert command.main(arguments(out, *more)) == 1
        printed = capsys.readouterr().out
        assert "blank.png, prompt 1, seed 15: no video: FantasyIDAlignFace: no face f" in printed
        assert "| 1 (1 failed) |" in printed
    journal = (out / "journal.jsonl").read_text("utf-8")
    assert journal.count('"state": "queued"') == 2
    rows = json.loads((out / "report.json").read_text("utf-8"))["videos"]
    assert (rows[1]["fm"], rows[1]["frames"]) == (None, 0)
    assert made(out) == [1, 0]
    assert "no video: FantasyIDAlignFace" in (out / "report.html").read_text("utf-8")


def test_a_workflow_that_is_refused_is_told_in_words(arguments, tmp_path, capsys):
    more = ["--set", "VAELoader.vae_name=absent.safetensors"]
    assert command.main(arguments(tmp_path / "out", *more)) == 1
    words = capsys.readouterr().err
    assert "the host refuses the workflow:" in words
    assert "(VAELoader), input vae_name: Value not in list" in words
    assert not any((tmp_path / "out").glob("videos/*"))


def test_what_fails_on_the_host_is_told_and_tried_again(arguments, alone, tmp_path, capsys):
    out, more = tmp_path / "out", ["--variants", "shared-layer", "--share-layer", "50", *alone]
    for _ in range(2):
        assert command.main(arguments(out, *more)) == 1
        words = "no video: FantasyIDApply: share_layer is 50, the adapter has layers 0 to 3"
        assert words in capsys.readouterr().out
    assert (out / "journal.jsonl").read_text("utf-8").count('"state": "queued"') == 2


def test_a_full_disk_is_told_in_words_and_loses_nothing(
    arguments, alone, made, tmp_path, monkeypatch, capsys
):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(running, "write_whole", full)
        assert command.main(arguments(out, "--seeds", "16", *alone)) == 1
    words = capsys.readouterr().err
    assert f"the disk of {out} is full: free some space" in words
    assert "the same command goes on from here" in words
    assert command.main(arguments(out, "--seeds", "16", *alone)) == 0
    assert made(out) == [1]


def test_without_a_host_the_report_can_still_be_written(arguments, alone, tmp_path, capsys):
    out = tmp_path / "out"
    assert command.main(arguments(out, "--seeds", "18", *alone)) == 0
    away = ["--host", "http://127.0.0.1:9"]
    assert command.main(arguments(out, "--seeds", "18", *alone, *away)) == 0
    capsys.readouterr()
    assert command.main(arguments(out, "--seeds", "17", *alone, *away)) == 1
    words = capsys.readouterr().err
    assert "the host at http://127.0.0.1:9 does not answer" in words
    assert "start ComfyUI, or name its address with --host" in words


def test_a_damaged_video_is_named_and_made_anew_when_deleted(
    arguments, alone, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        write = making.Maker._copy

        def damage(runner, job, video, latent):
            fetch = Host.fetch
            with monkeypatch.context() as inner:
                inner.setattr(Host, "fetch", lambda _s, _f, path: path.write_bytes(b"no video"))
                (out / "videos").mkdir(exist_ok=True)
                (out / "latents").mkdir(exist_ok=True)
                write(runner, job, video, latent)
            assert Host.fetch is fetch

        patch.setattr(making.Maker, "_copy", damage)
        assert command.main(arguments(out, "--seeds", "18", *alone)) == 1
    (video,) = (out / "videos").iterdir()
    assert f"{video} cannot be decoded" in capsys.readouterr().err
    video.unlink()
    assert command.main(arguments(out, "--seeds", "18", *alone)) == 0
    assert video.stat().st_size > 1000


def test_ctrl_c_says_how_to_go_on(arguments, tmp_path, monkeypatch, capsys):
    def stop(*_):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(making.Maker, "_wait", stop)
    assert command.main(arguments(tmp_path / "out", "--seeds", "11")) == 130
    assert "the same command goes on from here" in capsys.readouterr().err


def test_hosts_share_the_work_and_one_that_is_lost_loses_nothing(
    arguments, server, another_server, tmp_path, monkeypatch, capsys
):
    out, queue, second = tmp_path / "out", Host.queue, another_server()
    kill = psutil.Process(second.process.pid).kill
    more = ["--seeds", "31", "--host", second.host.url]
    assert command.main(arguments(out, *more)) == 0
    lines = [json.loads(x) for x in (out / "journal.jsonl").read_text("utf-8").splitlines()]
    sent = {x["key"]: x["server"] for x in lines if x.get("state") == "queued"}
    assert set(sent.values()) == {server.host.url, second.host.url}
    assert len(sent) == 2

    def lost_with_a_video_in_it(host, *rest):
        queue(host, *rest)
        if host.url == second.host.url:
            kill()

    monkeypatch.setattr(Host, "queue", lost_with_a_video_in_it)
    more[1] = "33"
    assert command.main(arguments(out, *more)) == 0
    assert "The other hosts go on without it" in capsys.readouterr().err
    rows = json.loads((out / "report.json").read_text("utf-8"))["videos"]
    assert [row["frames"] for row in rows] == [9, 9]
    assert all((out / "videos" / f"{row['job']}.mp4").is_file() for row in rows)
