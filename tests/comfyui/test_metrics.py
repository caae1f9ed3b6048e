"""The metrics node on the real host: VIDEO and IMAGE, with and without a recogniser, files."""

from __future__ import annotations

import csv
import json
import math
from fractions import Fraction

import pytest
import torch
from host_client import bundled, changed, node_of
from host_graph import align
from video_files import write_video

pytestmark = pytest.mark.slow

INPUTS = {"recogniser": "auto", "detector": "cascade", "choose": "largest"}
AURAFACE = "AuraFace-v1 (Apache-2.0: commercial use allowed)"


@pytest.fixture(scope="module")
def astronaut(photo_image):
    return photo_image[:, :300, 60:380]


@pytest.fixture(scope="module")
def moving(photo_image):
    """Five frames in which the picture goes 2 pixels to the left each, and one without a face."""
    frames = [photo_image[:, :300, 60 + 2 * i : 380 + 2 * i] for i in range(5)]
    return torch.cat([*frames, torch.full((1, 300, 320, 3), 0.5)])


def test_without_a_recogniser_there_is_motion_and_a_word_of_what_is_missing(host, moving):
    rs, ifs, fm, fid, plot, worst, summary, content = host.run(
        "FantasyIDMetrics", clip=moving, **INPUTS
    )
    assert math.isnan(rs)
    assert math.isnan(ifs)
    assert math.isnan(fid)
    assert json.loads(content)["mean"]["fm_px"] == pytest.approx(2, rel=0.1)
    assert 0 < fm < 5
    assert "Faces found in 5 of 6 frames" in summary
    assert "No RS and IFS: no face recogniser file; looked for: " in summary
    assert "huggingface.co/fal/AuraFace-v1" in summary
    assert plot.shape[0] == worst.shape[0] == 1
    chosen = host.run("FantasyIDMetrics", clip=moving, **INPUTS | {"recogniser": "none: FM only"})
    assert chosen[2] == fm
    assert "no face recogniser was chosen" in chosen[6]


@pytest.mark.usefixtures("arcface")
def test_rs_and_ifs_with_a_face_and_with_photos(host, moving, astronaut):
    moving = moving[3:]  # two frames with a face and the one without
    face = align(host, astronaut, choose="largest")[0]
    results = []
    for reference in (face, astronaut, torch.cat([astronaut, astronaut])):
        rs, ifs, _, _, _, _, summary, content = host.run(
            "FantasyIDMetrics", clip=moving, reference=reference, **INPUTS
        )
        values = json.loads(content)
        assert values["counts"]["rs"] == 2
        assert values["counts"]["ifs"] == 1
        assert values["per_frame"][2]["rs"] is None
        assert "glintr100.onnx (licence unknown: check where the file came from)" in summary
        assert ifs == pytest.approx(values["mean"]["ifs"])
        results.append(rs)
    assert results[1] == pytest.approx(results[2])
    assert results[0] == pytest.approx(results[1], abs=0.1)
    assert results[0] > 0.7
    summary = host.run("FantasyIDMetrics", clip=moving, **INPUTS)[6]
    assert "No RS: connect a reference." in summary


@pytest.mark.usefixtures("arcface")
def test_a_reference_without_a_face_is_refused_or_named(host, moving):
    blank = torch.full((1, 256, 256, 3), 0.4)
    with pytest.raises(ValueError, match="no face found in the 256x256 photo"):
        host.run("FantasyIDMetrics", clip=moving, reference=blank, **INPUTS)
    face = align(host, blank, no_face="continue without identity")[0]
    summary = host.run("FantasyIDMetrics", clip=moving, reference=face, **INPUTS)[6]
    assert "No RS: the reference has no face: no face found" in summary


def test_a_video_gives_what_its_frames_give(host, moving):
    latest = __import__("comfy_api.latest", fromlist=["InputImpl", "Types"])
    parts = latest.Types.VideoComponents(images=moving, audio=None, frame_rate=Fraction(8))
    video = latest.InputImpl.VideoFromComponents(parts)
    of_video, of_images = (
        host.run("FantasyIDMetrics", clip=clip, **INPUTS) for clip in (video, moving)
    )
    assert of_video[2] == of_images[2]
    assert torch.equal(of_video[4], of_images[4])
    assert json.loads(of_video[7])["per_frame"][4]["seconds"] == pytest.approx(0.5)


def test_files_are_written_only_when_a_name_is_given(host, host_base, moving):
    folder = host_base / "output" / "measured"
    host.run("FantasyIDMetrics", clip=moving[:2], **INPUTS)
    assert not folder.exists()
    for number in (1, 2):
        summary = host.run(
            "FantasyIDMetrics", clip=moving[:2], filename_prefix="measured/clip", **INPUTS
        )[6]
        assert f"clip_{number:05}_.json" in summary
    content = json.loads((folder / "clip_00001_.json").read_text("utf-8"))
    assert content["frames"] == 2
    with (folder / "clip_00002_.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 2


def test_fid_says_which_file_it_needs(host, moving, astronaut):
    outputs = host.run("FantasyIDMetrics", clip=moving, reference_set=astronaut, **INPUTS)
    assert math.isnan(outputs[3])
    assert "No FID: pt_inception-2015-12-05-6726825d.pth is not in " in outputs[6]


def test_fid_is_of_the_clip_against_the_set(host, host_base, moving, astronaut):
    from fantasyid.evaluation.metrics.inception import FILE, build_network

    torch.manual_seed(0)
    state = {k: v for k, v in build_network().state_dict().items() if "num_batches" not in k}
    path = host_base / "models" / "fantasyid" / FILE
    torch.save(state, path)
    try:
        several = torch.cat([astronaut, astronaut.flip(2), torch.full_like(astronaut, 0.4)])
        outputs = host.run("FantasyIDMetrics", clip=moving[:3], reference_set=several, **INPUTS)
        alone = host.run("FantasyIDMetrics", clip=moving[:1], reference_set=several, **INPUTS)
    finally:
        path.unlink()
    assert outputs[3] >= 0
    assert "(3 against 2)" in outputs[6]
    assert "No FID: 1 faces in the clip and 2 in the reference set" in alone[6]


def test_the_cache_notices_a_recogniser_that_comes(host, arcface):
    node = host.nodes.NODE_CLASS_MAPPINGS["FantasyIDMetrics"]
    there = node.fingerprint_inputs(recogniser=AURAFACE)
    moved = arcface.with_suffix(".away")
    arcface.rename(moved)
    assert node.fingerprint_inputs(recogniser=AURAFACE) != there
    moved.rename(arcface)
    assert node.fingerprint_inputs(recogniser=AURAFACE) == there


def test_something_else_is_no_clip(host):
    with pytest.raises(ValueError, match="the clip is a str, expected VIDEO or IMAGE"):
        host.run("FantasyIDMetrics", clip="clip.mp4", **INPUTS)


def test_the_bundled_graph_runs(client, host_base, photo):
    from PIL import Image
    from torchvision.transforms.functional import pil_to_tensor

    pixels = pil_to_tensor(Image.open(photo).convert("RGB")).permute(1, 2, 0).float() / 255
    frames = [pixels[:300, 60 + 2 * i : 380 + 2 * i] for i in range(4)]
    write_video(host_base / "input" / "measured_clip.mp4", torch.stack(frames))
    graph = changed(bundled("measure_a_video"), "LoadVideo", file="measured_clip.mp4")
    run = client.finish(graph)
    shown = run.outputs[node_of(graph, "FantasyIDMetrics")]
    assert "Faces found in 4 of 4 frames" in shown["text"][0]
    assert shown["images"]
    written = json.loads((host_base / "output" / "metrics" / "clip_00001_.json").read_text("utf-8"))
    assert written["mean"]["fm_px"] == pytest.approx(2, rel=0.15)
    assert {value for node, value, _ in run.steps if node == "4"} >= {1, 4}
