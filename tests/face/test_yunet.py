"""YuNet in plain torch: decoding against a plain loop, and real faces where a file is."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from fantasyid.face.cascade import turn_photo
from fantasyid.face.faces import box_overlap
from fantasyid.face.sources import FaceSources, open_clip_detector, open_detector
from fantasyid.face.yunet import STRIDES, decode, open_yunet


def test_decoding_equals_a_plain_loop() -> None:
    """Cell by cell, with one sure cell per stride, far from each other."""
    height, width, rng = 192, 256, np.random.default_rng(0)
    outputs, expected = {}, []
    for stride, (x, y) in zip(STRIDES, ((3, 2), (12, 3), (6, 4)), strict=True):
        rows, columns = height // stride, width // stride
        cells = rows * columns
        parts = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
        for part, wide in parts.items():
            scale = 0.4 if wide == 1 else 0.5
            outputs[f"{part}_{stride}"] = rng.uniform(0, scale, (1, cells, wide))
        cell = y * columns + x
        outputs[f"cls_{stride}"][0, cell], outputs[f"obj_{stride}"][0, cell] = 0.81, 1.2
        dx, dy, w, h = outputs[f"bbox_{stride}"][0, cell]
        cx, cy = (x + dx) * stride, (y + dy) * stride
        half = np.exp([w, h]) * stride / 2
        points = [
            ((x + px) * stride, (y + py) * stride)
            for px, py in outputs[f"kps_{stride}"][0, cell].reshape(5, 2)
        ]
        expected.append(([cx - half[0], cy - half[1], cx + half[0], cy + half[1]], points))
    found, places, scores = decode(outputs, height, width)
    np.testing.assert_allclose(scores, 0.9)
    order = np.argsort([b[2] - b[0] for b in found])
    for i, (box, points) in zip(order, expected, strict=True):
        np.testing.assert_allclose(found[i], box)
        np.testing.assert_allclose(places[i], points)
    with pytest.raises(ValueError, match="cells at stride"):
        decode(outputs, height, width + 32)


def test_true_points_of_portraits(shared: Path) -> None:
    """Every face of the portraits, sure, and no other; points within a tenth of the box."""
    truth = json.loads((shared / "data/faces/points.json").read_text())
    detect = open_yunet([shared / "data"])
    for name, faces in truth.items():
        path = shared / "data/faces" / name
        photo = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).float() / 255
        found = detect(photo)
        assert len(found) == len(faces), name
        for true in faces:
            mine = max(found, key=lambda face, t=true: box_overlap(face.box, t["box"]))
            assert mine.score > 0.85
            assert box_overlap(mine.box, true["box"]) > 0.6
            off = np.linalg.norm(np.array(mine.points) - true["points"], axis=1)
            assert off.max() < 0.1 * (true["box"][2] - true["box"][0])


def test_a_file_is_found_by_its_name_or_missed_by_name(shared: Path, tmp_path: Path) -> None:
    detect = open_clip_detector(FaceSources("yunet", (shared / "data",)))
    assert detect(torch.full((37, 500, 3), 0.5)) == []
    with pytest.raises(FileNotFoundError, match="no YuNet file"):
        open_yunet([tmp_path])
    (tmp_path / "yunet.onnx").write_text("no network")
    with pytest.raises(FileNotFoundError, match="no ONNX file"):
        open_yunet([tmp_path])


@pytest.mark.slow
@pytest.mark.parametrize("turn", [-150.0, -30.0, 15.0, 100.0])
def test_a_turned_face_is_found_at_its_roll(shared: Path, turn: float) -> None:
    """Within 5 degrees of true eyes; points within a tenth of their distance."""
    truth = json.loads((shared / "data/faces/points.json").read_text())
    detect = open_detector(FaceSources("yunet", (shared / "data",)))
    for name in ("photos_astronaut.jpg", "examples_obama2.jpg"):
        path = shared / "data/faces" / name
        photo = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).float() / 255
        turned, matrix = turn_photo(photo, turn)
        true = np.array(truth[name][0]["points"]) @ matrix[:, :2].T + matrix[:, 2]
        (face,) = detect(turned)
        eyes, mine = true[1] - true[0], np.subtract(*np.array(face.points)[1::-1])
        error = np.degrees(np.arctan2(*mine[::-1]) - np.arctan2(*eyes[::-1]))
        assert abs((error + 180) % 360 - 180) < 5, name
        off = np.linalg.norm(np.array(face.points) - true, axis=1).mean()
        assert off < 0.1 * np.linalg.norm(eyes), name


@pytest.mark.slow
def test_a_large_photo_without_a_face_is_searched_at_every_turn_in_time(shared: Path) -> None:
    """12 megapixels in 3 s of processor time, all threads together; a third of it is needed."""
    detect = open_detector(FaceSources("yunet", (shared / "data",)))
    coarse = torch.rand(1, 3, 60, 80, generator=torch.Generator().manual_seed(0))
    photo = interpolate(coarse, (3000, 4000), mode="bilinear")[0].permute(1, 2, 0)
    start = time.process_time()
    assert detect(photo) == []
    assert time.process_time() - start < 3
