"""Curation on drawn clips whose verdict is known: reasons, reruns, kills, engines."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest
from training.drawn_clips import BROKEN, KINDS, Verdict, draw_clips, reasons

from fantasyid.face.pose import Pose
from fantasyid.training.__main__ import main
from fantasyid.training.config import Config, Curate, Train, Weights
from fantasyid.training.config_file import ConfigError
from fantasyid.training.curate import run
from fantasyid.training.curate.captions import read_sidecar
from fantasyid.training.curate.run import run_curation
from fantasyid.training.curate.stages import MissingPackage, need
from fantasyid.training.curate.verdict import Reason
from fantasyid.training.manifest import DataError, decode_frames, read_manifest, read_views

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
RULES: dict = {
    "frames": 9, "sizes": ((320, 240),), "min_shot_s": 1.0, "min_face_px": 48.0,
    "detector": "yunet", "workers": 2,
    "min_face_share": 0.6,  # two of the three looks that nine frames give
}  # fmt: skip


def config_of(clips: Path, work: Path, models: Path, **changes) -> Config:
    """A configuration of which curation reads its part alone."""
    rules = Curate(clips, **{**RULES, "face_models": (models,), **changes})
    return Config(work, rules, Weights(*[work] * 7), Train(work / "run"))


def write_toml(folder: Path, rules: Curate) -> Path:
    """The file of `config_of`, which curates into `folder / "work"`."""
    weights = [name for name in Weights.__dataclass_fields__ if name != "adapter"]
    values = {**RULES, "clips": str(rules.clips), "face_models": list(map(str, rules.face_models))}
    lines = ['work = "work"', "[train]", 'out = "run"', "[weights]"]
    lines += [f'{name} = "x"' for name in weights]
    lines += ["[curate]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
    path = folder / "training.toml"
    path.write_text("\n".join(lines), "utf-8")
    return path


def quiet(_text: str) -> None:
    """Says nothing."""


def state(folder: Path) -> dict[str, int]:
    """Every file and when it was written."""
    return {str(p): p.stat().st_mtime_ns for p in sorted(folder.rglob("*")) if p.is_file()}


def results(work: Path) -> dict[str, bytes]:
    """What curation hands on."""
    files = sorted((work / "curated").glob("*.*"))
    return {path.name: path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def models(shared: Path) -> Path:
    for package in ("onnxruntime", "scenedetect", "rapidocr", "skimage"):
        pytest.importorskip(package)
    return shared / "data"


@pytest.fixture(scope="module")
def drawn(
    tmp_path_factory: pytest.TempPathFactory, models: Path
) -> tuple[Config, dict[str, Verdict], run.Report]:
    """One clip of every kind, curated."""
    folder = tmp_path_factory.mktemp("curate")
    truth = draw_clips(folder / "clips", models / "faces", len(KINDS) + len(BROKEN) + 2)
    config = config_of(folder / "clips", folder / "work", models)
    return config, truth, run_curation(config, "pool", quiet)


@pytest.fixture(scope="module")
def few(drawn: tuple, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Three of these clips, not curated yet."""
    folder = tmp_path_factory.mktemp("few")
    (folder / "clips").mkdir()
    for kind in ("good", "cut_short", "empty"):
        for path in drawn[0].curate.clips.glob(f"*_{kind}.*"):
            (folder / "clips" / path.name).symlink_to(path)
    return config_of(folder / "clips", folder / "whole", drawn[0].curate.face_models[0])


@pytest.fixture(scope="module")
def whole(few: Config) -> dict[str, bytes]:
    """What an unbroken run makes of them."""
    run_curation(few, "pool", quiet)
    return results(few.work)


def test_every_clip_lands_where_it_belongs(drawn: tuple) -> None:
    config, truth, report = drawn
    folder = config.work / "curated"
    found: dict[str, Verdict] = defaultdict(tuple)
    for path, reason in reasons((folder / "clips.jsonl").read_text().splitlines()):
        found[path] += (reason,)
    assert found == truth
    rows = read_manifest(folder)
    assert report.kept == len(rows) == sum(v.count(None) for v in truth.values())
    assert report.rejected == sum(len(v) for v in truth.values()) - report.kept
    for row in rows:
        views = read_views(row, folder)
        assert views.shape[1:] == (512, 512, 3)
        assert 2 <= len(views) == len(row.yaw_deg) <= 6
        turned = [
            Pose(*a).turned for a in zip(row.yaw_deg, row.pitch_deg, row.roll_deg, strict=True)
        ]
        assert turned[0] == min(turned)
        assert max(row.yaw_deg) - min(row.yaw_deg) > 15
        assert row.caption.startswith("A person turns their head")
        assert row.person == row.clip
        assert len(row.face_boxes) == 9
        assert all(0 < right - left < 160 for left, _, right, _ in row.face_boxes)
        frames = list(decode_frames(Path(row.path), row.start_s, 8, 9, (row.width, row.height)))
        assert len(frames) == 9


def test_the_page_shows_what_was_dropped_and_needs_no_server(drawn: tuple) -> None:
    _, truth, report = drawn
    page = report.page.read_text("utf-8")
    for reason in {r for verdict in truth.values() for r in verdict if r}:
        assert Reason[reason].value in page
    assert f"{report.kept} of {report.kept + report.rejected} clips kept" in page
    assert page.count("data:image/jpeg;base64,") == report.rejected - len(BROKEN)
    assert "http" not in page
    assert "<script" not in page


def test_a_rerun_does_nothing(drawn: tuple) -> None:
    config, _, report = drawn
    before = state(config.work)
    assert run_curation(config, "pool", quiet) == report
    assert state(config.work) == before


def test_a_threshold_recomputes_no_pixels(drawn: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine runs at all, and going back gives the same bytes."""
    config, _, report = drawn
    store, before = state(config.work / "curated/store"), results(config.work)
    monkeypatch.setattr(run, "ENGINES", {})
    loose = {"min_face_px": 20.0, "max_people": 2, "max_text_share": 1.0, "min_views": 1}
    loose["min_face_score"] = 0.85
    for changes, more in (
        (loose, 4),
        ({"min_face_score": 0.99}, -report.kept),
        ({}, 0),
    ):
        rules = dataclasses.replace(config.curate, **changes)
        found = run_curation(dataclasses.replace(config, curate=rules), "pool", quiet)
        assert found.kept == report.kept + more
    assert state(config.work / "curated/store") == store
    assert results(config.work) == before


def test_a_captioner_and_json_sidecars(
    drawn: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, _, report = drawn
    (tmp_path / "my_words.py").write_text(
        "calls = []\n"
        "def describe(path):\n    calls.append(path)\n    return ' A  person\\n turns. '\n"
        "def fail(path):\n    raise RuntimeError('no card')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def curated(captioner: str) -> run.Report:
        rules = dataclasses.replace(config.curate, captioner=captioner)
        return run_curation(dataclasses.replace(config, curate=rules), "pool", quiet)

    assert curated("my_words:fail").kept == report.kept
    assert "RuntimeError: no card" in report.page.read_text()
    for _ in range(2):
        assert curated("my_words:describe").kept == report.kept + 1
    assert len(sys.modules["my_words"].calls) == 1
    assert "A person turns." in {row.caption for row in read_manifest(config.work / "curated")}
    with pytest.raises(ConfigError, match="expected module:function"):
        curated("my_words:nothing")
    clip = tmp_path / "clip.mp4"
    for text, expected in (
        ('{"caption": " one\\ntwo ", "person": "p"}', ("one two", "p")),
        ("[1]", ("", "")),
        ("{", ("", "")),
        ('{"caption": null}', ("", "")),
    ):
        clip.with_suffix(".json").write_text(text)
        assert read_sidecar(clip) == expected
    clip.with_suffix(".txt").write_text("from the text")
    assert read_sidecar(clip) == ("from the text", "")


def test_killed_at_any_moment_it_ends_with_the_same_bytes(
    few: Config, whole: dict[str, bytes], tmp_path: Path
) -> None:
    """The parent alone is killed, after more and more results; workers go with it."""
    toml = write_toml(tmp_path, few.curate)
    store = tmp_path / "work/curated/store"
    for enough in (1, 6):
        process = subprocess.Popen(
            [sys.executable, "-m", "fantasyid.training", "curate", str(toml)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ,
        )  # fmt: skip
        while len(list(store.rglob("*.json"))) < enough and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        # The pipe is at its end when the last worker is gone.
        process.communicate(timeout=60)
    run_curation(dataclasses.replace(few, work=tmp_path / "work"), "pool", quiet)
    assert results(tmp_path / "work") == whole


def test_ray_gives_the_same_bytes(few: Config, whole: dict[str, bytes], tmp_path: Path) -> None:
    """A local cluster of two workers, in a process of its own as a person starts it."""
    pytest.importorskip("ray", reason="Ray is not installed: .[training-cluster]")
    toml = write_toml(tmp_path, few.curate)
    done = subprocess.run(
        [sys.executable, "-m", "fantasyid.training", "curate", str(toml), "--engine", "ray"],
        cwd=ROOT, capture_output=True, text=True, timeout=900, env=os.environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert results(tmp_path / "work") == whole


@pytest.mark.skipif(
    "FANTASYID_TEST_TRUTH" not in os.environ,
    reason="200 clips take ten minutes: set FANTASYID_TEST_TRUTH to a seed",
)
def test_of_many_drawn_clips_nearly_all_land_where_they_belong(
    models: Path, tmp_path: Path
) -> None:
    """The rules were chosen on seeds 0 and 100; they hold for others."""
    seed = int(os.environ["FANTASYID_TEST_TRUTH"])
    truth = draw_clips(tmp_path / "clips", models / "faces", 200, seed)
    config = config_of(tmp_path / "clips", tmp_path / "work", models)
    found: dict[str, Verdict] = defaultdict(tuple)
    run_curation(config, "pool", quiet)
    for path, reason in reasons((tmp_path / "work/curated/clips.jsonl").read_text().splitlines()):
        found[path] += (reason,)
    wrong = {path: found[path] for path in truth if found[path] != truth[path]}
    assert len(wrong) <= 0.02 * len(truth), wrong


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    code = (
        "import sys, fantasyid.training.curate.run as r\n"
        "print([m for m in ('scenedetect', 'rapidocr', 'ray', 'cv2', 'av') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(MissingPackage, match=r"pip install \.\[training\]"):
        need("rapidocr", "rapidocr")
    with pytest.raises(DataError, match="is no folder"):
        run_curation(config_of(tmp_path / "no", tmp_path, tmp_path), "pool", quiet)
    with pytest.raises(DataError, match="holds no video"):
        run_curation(config_of(tmp_path, tmp_path, tmp_path), "pool", quiet)
    (tmp_path / "a.mp4").touch()
    monkeypatch.undo()
    pytest.importorskip("scenedetect")
    pytest.importorskip("rapidocr")
    with pytest.raises(DataError, match="no YuNet file"):
        run_curation(config_of(tmp_path, tmp_path, tmp_path), "pool", quiet)


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["curate", str(write_toml(tmp_path, Curate(tmp_path / "nowhere")))]) == 1
    assert "is no folder" in capsys.readouterr().err
