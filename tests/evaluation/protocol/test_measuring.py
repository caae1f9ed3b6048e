"""A video file measured against a photo: values, contact sheet, and what is missing in words."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from video_files import write_video

from fantasyid.evaluation.metrics.inception import FILE, build_network
from fantasyid.evaluation.protocol.journal import Journal
from fantasyid.evaluation.protocol.measuring import Meter, MeterSettings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def video(people, tmp_path_factory):
    """The astronaut, who goes 4 pixels to the left with every frame."""
    photo = np.array(Image.open(people / "ann.png"))
    pictures = [photo[:304, 60 + 4 * i : 380 + 4 * i] for i in range(3)]
    return write_video(tmp_path_factory.mktemp("video") / "video.mp4", pictures, crf="10")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder `models` with a tiny recogniser and an Inception of random weights."""
    pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    from face.tiny_arcface import write_arcface

    folder = tmp_path_factory.mktemp("models")
    write_arcface(folder / "insightface" / "models" / "auraface" / "glintr100.onnx")
    torch.manual_seed(0)
    state = {k: v for k, v in build_network().state_dict().items() if "num_batches" not in k}
    (folder / "fantasyid").mkdir()
    torch.save(state, folder / "fantasyid" / FILE)
    return folder


def meter(tmp_path, models=None, real=None, recogniser="auto"):
    settings = MeterSettings(models, recogniser, "cascade", "largest", real, "cpu")
    return Meter(settings, Journal(tmp_path / "journal.jsonl"))


@pytest.fixture(scope="module")
def full(models, people, video, tmp_path_factory):
    """A meter with everything, and what it measures of the video."""
    made = meter(tmp_path_factory.mktemp("full"), models, people)
    return made, made.measure(video, people / "ann.png")


def test_all_columns_are_measured(tmp_path, models, people, video, full):
    assert full[0].missing == []
    assert "licence unknown" in full[0].words
    own = full[1].values
    other = meter(tmp_path, models).measure(video, people / "bea.png").values
    assert (own["faces"], own["frames"], own["note"]) == (3, 3, "")
    assert own["rs"] > other["rs"] + 0.1
    assert own["ifs"] == other["ifs"] > 0.8
    assert own["fm"] == other["fm"] > 1
    assert own["fid"] > 0
    assert own["rs_frontal"] is None, "the cascade knows boxes alone"
    assert other["fid"] is None


def test_the_sheet_is_a_picture_and_the_values_of_all_frames_are_kept(tmp_path, people, video):
    found = meter(tmp_path).measure(video, people / "ann.png")
    with Image.open(io.BytesIO(found.sheet)) as sheet:
        assert sheet.format == "JPEG"
        assert sheet.size == (3 * 164 + 4, 152 + 8)
        green = np.array(sheet).astype(int)
    assert (green[..., 1] - green[..., [0, 2]].max(-1) > 80).sum() > 200
    assert len(json.loads(found.json)["per_frame"]) == 3


def test_a_reference_without_a_face_has_no_rs_and_the_reason(tmp_path, models, video):
    Image.new("RGB", (200, 200), (90, 90, 90)).save(tmp_path / "blank.png")
    values = meter(tmp_path, models).measure(video, tmp_path / "blank.png").values
    assert values["rs"] is None
    assert values["note"].startswith("no RS: no face found in the 200x200 photo")
    assert values["ifs"] > 0.8


def test_what_is_missing_is_named(tmp_path, people):
    assert meter(tmp_path).missing == [
        "No RS and IFS: name ComfyUI's folder models with --models.",
        "No FID: name a folder of photos of real faces with --real.",
    ]
    (tmp_path / "models").mkdir()
    recogniser, fid = meter(tmp_path, tmp_path / "models", people).missing
    assert recogniser.startswith("No RS and IFS: no face recogniser file; looked for: ")
    assert f"No FID: {FILE} is not in " in fid
    chosen = meter(tmp_path, recogniser="none: FM only").missing[0]
    assert chosen == "No RS and IFS: no face recogniser was chosen."


def test_the_id_changes_with_what_measures(tmp_path, models, people):
    ids = [
        meter(tmp_path).id,
        meter(tmp_path, models).id,
        meter(tmp_path, models, people).id,
        meter(tmp_path, models, people, "none: FM only").id,
    ]
    assert len(set(ids)) == 4
    assert meter(tmp_path, models).id == ids[1]


def test_fid_is_pooled_over_the_features_that_are_kept(tmp_path, full):
    full, found = full
    assert found.features is not None
    assert found.features.shape == (3, 2048)
    files = [tmp_path / f"{n}.safetensors" for n in range(2)]
    save_file({"features": found.features}, files[0])
    assert full.pooled_fid(files) == pytest.approx(found.values["fid"], rel=1e-6)
    save_file({"features": found.features + 1.0}, files[1])
    assert full.pooled_fid(files) != pytest.approx(found.values["fid"], rel=1e-2)
    assert full.pooled_fid([tmp_path / "gone.safetensors"]) is None
