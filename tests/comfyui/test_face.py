"""The face nodes on the real host: batches, detectors, policies, views, combined references."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from host_graph import align
from safetensors.torch import save_file

pytestmark = pytest.mark.slow

BLANK = torch.full((1, 512, 512, 3), 0.4)


def test_a_batch_gives_a_crop_and_boxes_per_image(host, photo_image, aligned):
    batch = torch.cat([photo_image, photo_image.flip(2)])
    face, crops, boxes, preview, report = align(host, batch)
    assert crops.shape == (2, 512, 512, 3)
    assert [len(frame) for frame in boxes] == [1, 1]
    assert boxes[0][0]["x"] < boxes[1][0]["x"] - 50
    assert preview.shape == batch.shape
    assert "2 of 2 images have a face" in report
    assert "face output is that of image 0" in report
    assert torch.equal(face.images, crops[:1])
    assert torch.equal(aligned[1], crops[:1])


def test_the_face_carries_its_box_and_points(aligned):
    face, _, boxes, *_ = aligned
    x0, y0, x1, _ = face.box
    assert (x0, y0) == (boxes[0][0]["x"], boxes[0][0]["y"])
    assert face.points.shape == (5, 2)
    assert x0 < face.points[:, 0].min() < face.points[:, 0].max() < x1


@pytest.mark.parametrize(
    ("policy", "crops", "words"),
    [("skip this image", 1, "left out: 0"), ("continue without identity", 2, "black in the crops")],
)
def test_an_image_without_a_face_is_left_out_or_black(host, photo_image, policy, crops, words):
    face, crop, boxes, preview, report = align(
        host, torch.cat([BLANK, photo_image]), no_face=policy
    )
    assert crop.shape[0] == crops
    assert words in report
    assert "face output is that of image 1" in report
    assert face.empty_reason == ""
    assert [len(frame) for frame in boxes] == [0, 1]
    assert preview.shape[0] == 2
    if crops == 2:
        assert not crop[0].any()


def test_stop_names_the_image_and_skipping_all_is_refused(host, photo_image):
    with pytest.raises(ValueError, match="image 1: no face found in the 512x512 photo"):
        align(host, torch.cat([photo_image, BLANK]))
    with pytest.raises(ValueError, match="every image was skipped, 1 of 1"):
        align(host, BLANK, no_face="skip this image")
    face, *_, report = align(host, BLANK, no_face="continue without identity")
    assert face.empty_reason
    assert "NO IDENTITY" in report


def test_padding_shows_more_and_one_is_the_released_crop(host, photo_image, aligned):
    released = aligned[1]
    assert torch.equal(align(host, photo_image, padding=1.0)[1], released)
    wide = align(host, photo_image, padding=2.0)[1]
    inner = torch.nn.functional.interpolate(
        released.permute(0, 3, 1, 2), (256, 256), mode="bilinear", antialias=True
    ).permute(0, 2, 3, 1)
    assert (wide[:, 128:384, 128:384] - inner).abs().mean() < 0.02


def test_a_box_chooses_among_the_detected_faces(host, photo_image):
    pair = torch.cat([photo_image[:, :256, 100:356]] * 2, dim=2)
    left, right = align(host, pair)[2][0]
    for box, other in ((left, right), (right, left)):
        face = align(host, pair, choose_box=box)[0]
        assert face.box[0] == pytest.approx(box["x"])
        assert face.box[0] != pytest.approx(other["x"])
    with pytest.raises(ValueError, match="none of the 2 faces touches the box"):
        align(host, pair, choose_box={"x": 250, "y": 200, "width": 5, "height": 5})


def test_a_followed_face_stays_the_same_when_the_nearest_one_changes(host, photo_image):
    head = photo_image[:, :256, 100:356]
    pair = torch.cat([head, head], dim=2)
    second = pair.clone()
    second[:, :, :256] = 0.4  # the left one has gone
    batch = torch.cat([pair, second])
    report = align(host, batch, choose="left to right", follow=True)[4]
    assert "not here; chosen anew" in report
    shifted = torch.cat([pair, pair])
    crops = align(host, shifted, choose="left to right", index=1, follow=True)[1]
    assert torch.equal(crops[0], crops[1])


@pytest.fixture(scope="module")
def landmarker_weights(host):
    """What a file of the host's own face detection model holds, at random, of the right shapes.

    All boxes are eight times the picture, and so become one face: random ones are hundreds.
    """
    assert host
    node = importlib.import_module("comfy_extras.nodes_mediapipe")
    port = importlib.import_module("comfy_extras.mediapipe.face_landmarker")
    torch.manual_seed(3)
    weights = {}
    for variant in ("short", "full"):
        with torch.inference_mode(False):
            model = port.FaceLandmarker(detector_variant=variant)
        for name, value in model.state_dict().items():
            key = name.replace("detector.", f"detector_{variant}.", 1)
            weights[key] = value if "num_batches" in name else torch.randn_like(value) * 0.1
            if ".reg_" in name:
                weights[key].zero_()
        last = ("reg_16", "reg_8") if variant == "short" else ("reg_dw",)
        for name in last:  # an anchor: centre, size and six points
            bias = weights[f"detector_{variant}.{name}.bias"]
            bias.view(-1, 16)[:, 2:4] = 8.0 * (128 if variant == "short" else 192)
    parts = (*node._CONTOUR_PARTS, "irises", "nose")
    weights |= {f"topology.{part}": torch.tensor([[0, 1]], dtype=torch.int32) for part in parts}
    weights["canonical_vertices"] = torch.randn(468, 3)
    weights["procrustes_indices"] = torch.tensor([4, 33, 263], dtype=torch.int32)
    weights["procrustes_weights"] = torch.ones(3)
    return weights


@pytest.fixture(scope="module")
def mediapipe(landmarker_weights):
    """The host's own face detection model."""
    node = importlib.import_module("comfy_extras.nodes_mediapipe")
    return node.FaceLandmarkerModel(dict(landmarker_weights))


class Recorded:
    """The host's model with the networks' answer replaced; the call is the real one's."""

    def __init__(self, model, mesh):
        self.model, self.mesh, self.calls = model, mesh, []

    def detect_batch(self, images, num_faces, score_thresh, variant):
        self.calls.append((variant, images[0].shape, images[0].dtype))
        self.model.detect_batch(images, num_faces, score_thresh, variant)  # must not raise
        if variant == "short":
            return [[]]
        box = np.concatenate([self.mesh.min(0), self.mesh.max(0)])
        return [[{"landmarks_xy": self.mesh, "bbox_xyxy": box, "score": 0.9}]]


def test_the_hosts_mediapipe_model_is_used_directly(host, ours, photo_image, mediapipe):
    mesh = np.random.default_rng(0).uniform(180, 270, (478, 2)).astype(np.float32)
    points = [(204, 108), (248, 107), (228, 132), (209, 155), (244, 154)]
    mesh[[468, 473, 1, 61, 291]] = points
    model = Recorded(mediapipe, mesh)
    face, crop, boxes, _, report = align(host, photo_image, face_detection_model=model)
    assert model.calls == [
        ("short", (512, 512, 3), np.uint8),
        ("full", (512, 512, 3), np.uint8),
    ]
    assert "found by MediaPipe" in report
    expected, _ = ours("fantasyid.face.crop").align_crop(photo_image[0], points)
    assert torch.equal(crop[0], expected)
    assert boxes[0][0]["score"] == pytest.approx(0.9)
    assert torch.allclose(face.points, torch.tensor(points).float())


def test_the_real_mediapipe_model_runs_through_the_node(host, photo_image, mediapipe):
    face, *_, report = align(
        host,
        photo_image,
        face_detection_model=mediapipe,
        no_face="continue without identity",
    )
    assert "MediaPipe" in report
    assert face.images.shape[1:] == (512, 512, 3)
    with pytest.raises(ValueError, match="is a str, expected what Load Face Detection Model"):
        align(host, photo_image, face_detection_model="model.safetensors")


def test_the_hosts_mediapipe_file_is_used_by_itself(
    host, photo_image, landmarker_weights, host_base
):
    kept = {"detector": "auto", "no_face": "continue without identity"}
    assert "found by scikit-image cascade" in align(host, photo_image, **kept)[-1]
    path = host_base / "models" / "detection" / "mediapipe_face_fp32.safetensors"
    path.parent.mkdir(exist_ok=True)
    save_file({k: v.contiguous() for k, v in landmarker_weights.items()}, path)
    try:
        report = align(host, photo_image, **kept)[-1]
    finally:
        path.unlink()
    assert "cascade" not in report


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (torch.zeros(0, 64, 64, 3), "is empty"),
        (torch.zeros(1, 0, 64, 3), "is empty"),
        (torch.zeros(64, 64, 3), r"expected \(B, H, W, 3\)"),
        (torch.zeros(1, 64, 64, 7), "7 channels"),
        (torch.full((1, 64, 64, 3), float("inf")), "not numbers"),
    ],
)
def test_what_is_no_photo_is_refused_in_words(host, image, words):
    with pytest.raises(ValueError, match=words):
        align(host, image)


def test_grey_and_transparent_photos_are_read(host, photo_image, aligned):
    grey = photo_image.mean(-1, keepdim=True)
    assert align(host, grey)[1].shape == (1, 512, 512, 3)
    clear = torch.cat([photo_image, torch.rand(1, 512, 512, 1)], dim=-1)
    assert torch.equal(align(host, clear)[1], aligned[1])
    odd = photo_image[:, :511, :333]
    assert align(host, odd)[1].shape == (1, 512, 512, 3)
