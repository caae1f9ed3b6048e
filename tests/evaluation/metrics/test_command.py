"""`python -m fantasyid.metrics`: files in; words, JSON, CSV and pictures out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from video_files import write_video

from fantasyid.evaluation.metrics.command import main

FRAMES = 4


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face that slides two pixels per frame."""
    data = pytest.importorskip("skimage.data", reason="scikit-image is absent")
    pictures = [data.astronaut()[:300, 60 + 2 * i : 380 + 2 * i] for i in range(FRAMES)]
    return write_video(tmp_path_factory.mktemp("clips") / "face.mp4", pictures)


def test_a_clip_is_measured_without_any_model_file(clip: Path, tmp_path: Path, capsys) -> None:
    arguments = [str(clip), "--detector", "cascade", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    words = capsys.readouterr().out
    assert f"Faces found in {FRAMES} of {FRAMES} frames" in words
    assert "name ComfyUI's folder models with --models" in words
    content = json.loads((tmp_path / "out" / "face.json").read_text("utf-8"))
    assert content["mean"]["fm"] > 0
    assert content["mean"]["rs"] is None
    assert content["damaged_parts"] == 0
    rows = (tmp_path / "out" / "face.csv").read_text("utf-8").splitlines()
    assert len(rows) == FRAMES + 1
    for name in ("face_plot.png", "face_worst.png"):
        assert (tmp_path / "out" / name).stat().st_size > 500


def test_a_damaged_clip_says_so_in_words_and_numbers(clip: Path, tmp_path: Path, capsys) -> None:
    av = pytest.importorskip("av", reason="PyAV is absent")
    raw = bytearray(clip.read_bytes())
    with av.open(str(clip)) as container:
        place, size = [(p.pos, p.size) for p in container.demux(video=0) if p.size][1]
    raw[place : place + size] = bytes(size)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(raw)
    assert main([str(broken), "--detector", "cascade", "--out", str(tmp_path / "out")]) == 0
    assert "DAMAGED CLIP: " in capsys.readouterr().out
    content = json.loads((tmp_path / "out" / "broken.json").read_text("utf-8"))
    assert content["damaged_parts"] > 0
    assert content["frames"] < FRAMES


def test_a_missing_recogniser_is_told_and_the_rest_is_measured(
    clip: Path, tmp_path: Path, capsys
) -> None:
    assert main([str(clip), "--detector", "cascade", "--models", str(tmp_path)]) == 0
    words = capsys.readouterr().out
    assert "No RS and IFS" in words
    assert "FM" in words


def test_what_is_not_there_is_named(clip: Path, tmp_path: Path, capsys) -> None:
    assert main([str(tmp_path / "gone.mp4"), "--detector", "cascade"]) == 2
    assert "there is no video" in capsys.readouterr().err
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    assert main([str(text), "--detector", "cascade"]) == 2
    assert "text.mp4 cannot be decoded" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(clip), "--detector", "nobody"])
