"""OpenS2V-Eval's human domain: items, files, and scores that can be worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from video_files import write_video

from fantasyid.evaluation.protocol import command
from fantasyid.evaluation.protocol.opens2v import face_similarity, motion_fb, read_items

from .test_measuring import meter, models

__all__ = ["models"]  # a fixture

pytestmark = pytest.mark.slow


def items_file(folder, photos) -> str:
    path = folder / "items.json"
    items = {
        f"singleface_{n}": {"img_paths": [p], "prompt": "A person\nsmiles."} for n, p in photos
    }
    path.write_text(json.dumps(items), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "no list of OpenS2V-Eval items"),
        ('{"a": {"prompt": "x"}}', "no list of OpenS2V-Eval items"),
        ("{}", "no usable item ids"),
        ('{"../a": {"img_paths": ["ann.png"], "prompt": "x"}}', "no usable item ids"),
        ('{"a": {"img_paths": ["gone.png"], "prompt": "x"}}', "gone.png"),
    ],
)
def test_another_file_is_refused_by_name(people, tmp_path, content, words):
    path = tmp_path / "items.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        read_items(path, people)


def test_one_video_and_its_scores_per_item(server, people, tmp_path, capsys):
    """A tiny detector looks at one frame: without a face each is turned again and again."""
    pytest.importorskip("onnx", reason="onnx is not installed")
    from face.tiny_scrfd import write_scrfd

    pack = tmp_path / "models" / "insightface" / "models" / "antelopev2"
    pack.mkdir(parents=True)
    write_scrfd(pack / "scrfd_10g_bnkps.onnx")
    items = items_file(tmp_path, [(1, "ann.png"), (2, "bea.png")])
    arguments = [
        "--protocol", "opens2v-human", "--references", str(people), "--prompts", items,
        "--out", str(tmp_path / "out"), "--host", server.host.url, "--recogniser", "none: FM only",
        "--models", str(tmp_path / "models"), "--detector", "scrfd",
        "--width", "96", "--height", "64", "--length", "1", "--steps", "2",
    ]  # fmt: skip
    assert command.main(arguments) == command.DONE
    words = capsys.readouterr().out
    folder = tmp_path / "out" / "opens2v"
    assert {p.name for p in folder.glob("*.mp4")} == {"singleface_1.mp4", "singleface_2.mp4"}
    scores = {p.stem: json.loads(p.read_text("utf-8")) for p in (folder / "scores").glob("*.json")}
    assert set(scores) == {"motionscore", "faces_found"}, "nothing stands for a score that is none"
    assert scores["faces_found"]["singleface_1"]["frames"] == 32
    assert "cur_score" in words
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.mp4")}
    assert command.main(arguments) == command.DONE
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*.mp4")} == before


def test_the_likeness_is_the_mean_over_frames_with_a_face(people, models, tmp_path):
    photo = np.array(Image.open(people / "ann.png"))
    blank = np.full_like(photo[:304, 60:380], 128)
    shown = photo[:304, 60:380]
    path = write_video(tmp_path / "video.mp4", [shown] * 4 + [blank] * 4, crf="10")
    score, faces, frames = face_similarity(path, people / "ann.png", meter(tmp_path, models))
    assert (faces, frames) == (18, 32), "31 even steps over 8 frames, rounded down"
    assert score is not None
    assert score > 0.9, "frames without a face are skipped, not counted as zero"


def test_motion_is_the_mean_of_the_flow_not_of_its_length(people, tmp_path):
    """It is a signed mean over both components: there and back is nothing."""
    photo = np.array(Image.open(people / "ann.png"))
    away = [photo[:304, 60 + 4 * i : 380 + 4 * i] for i in range(4)]
    once = motion_fb(write_video(tmp_path / "away.mp4", away, crf="8"))
    both = motion_fb(write_video(tmp_path / "back.mp4", away + away[-2::-1], crf="8"))
    assert 1.0 < once < 2.2, "4 pixels across, none down; less where nothing is to be seen"
    assert both < 0.2 * once
