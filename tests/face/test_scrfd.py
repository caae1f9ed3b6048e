"""SCRFD through onnxruntime: decoding against a plain loop, real and wrong files."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fantasyid.face.scrfd import LAYOUTS, decode, find_onnx_files, open_scrfd, suppress
from fantasyid.face.sources import FaceSources, open_clip_detector, open_detector


def slow_decode(outputs: list, height: int, width: int) -> list[tuple]:
    """Cell by cell, before overlapping ones are left out: score, box, points."""
    strides, anchors = LAYOUTS[len(outputs)]
    count, found = len(strides), []
    for i, stride in enumerate(strides):
        row = 0
        for y in range(height // stride):
            for x in range(width // stride):
                for _ in range(anchors):
                    score = float(outputs[i].reshape(-1)[row])
                    left, top, right, bottom = outputs[count + i].reshape(-1, 4)[row] * stride
                    cx, cy = x * stride, y * stride
                    points = None
                    if len(outputs) == 3 * count:
                        flat = outputs[2 * count + i].reshape(-1, 10)[row] * stride
                        points = [(cx + flat[2 * k], cy + flat[2 * k + 1]) for k in range(5)]
                    if score >= 0.5:
                        box = (cx - left, cy - top, cx + right, cy + bottom)
                        found.append((score, box, points))
                    row += 1
    return found


def slow_suppress(boxes: np.ndarray, scores: np.ndarray, most: float) -> list[int]:
    """Pair by pair, whole pixels."""

    def overlap(a: np.ndarray, b: np.ndarray) -> float:
        w = min(a[2], b[2]) - max(a[0], b[0]) + 1
        h = min(a[3], b[3]) - max(a[1], b[1]) + 1
        common = max(0.0, w) * max(0.0, h)
        area = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
        return common / (area[0] + area[1] - common)

    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(overlap(boxes[i], boxes[k]) <= most for k in kept):
            kept.append(i)
    return kept


def random_outputs(count: int, seed: int, height: int, width: int, batch: bool) -> list[np.ndarray]:
    rng, (strides, anchors) = np.random.default_rng(seed), LAYOUTS[count]
    made = []
    for size in (1, 4, 10)[: count // len(strides)]:
        for stride in strides:
            rows = (height // stride) * (width // stride) * anchors
            values = rng.uniform(0, 1 if size == 1 else 3, (rows, size)) ** (6 if size == 1 else 1)
            made.append((values[None] if batch else values).astype(np.float32))
    return made


@given(
    count=st.sampled_from(sorted(LAYOUTS)),
    seed=st.integers(0, 99),
    size=st.sampled_from([(128, 128), (128, 256), (256, 128)]),
    batch=st.booleans(),
)
def test_decoding_is_what_a_plain_loop_gives(
    count: int, seed: int, size: tuple[int, int], batch: bool
) -> None:
    outputs = random_outputs(count, seed, *size, batch)
    (got_boxes, got_points, got_scores), slow = decode(outputs, *size), slow_decode(outputs, *size)
    boxes, scores = np.array([s[1] for s in slow]), np.array([s[0] for s in slow])
    kept = slow_suppress(boxes, scores, 0.4)
    assert np.allclose(got_boxes, boxes[kept])
    assert np.allclose(got_scores, scores[kept])
    assert (got_points is None) == (count in (6, 10))
    if got_points is not None:
        assert np.allclose(got_points, np.array([slow[k][2] for k in kept]))


def test_nothing_sure_gives_no_faces_and_broken_numbers_none() -> None:
    outputs = random_outputs(9, 0, 64, 64, False)
    for scores in outputs[:3]:
        scores[:] = 0.1
    assert decode(outputs, 64, 64)[0].shape == (0, 4)
    for scores in outputs[:3]:
        scores[:] = 1
    for boxes in outputs[3:6]:
        boxes[:] = np.nan
    assert decode(outputs, 64, 64)[0].shape == (0, 4)


def test_other_outputs_are_named() -> None:
    with pytest.raises(ValueError, match=r"1 outputs, SCRFD has 6, 9, 10, 15"):
        decode([np.zeros((1, 512))], 64, 64)
    outputs = random_outputs(9, 0, 64, 64, False)
    with pytest.raises(ValueError, match=r"an output of shape \(128, 1\), SCRFD's is \(512, 1\)"):
        decode(outputs, 128, 128)


def test_of_equal_boxes_one_stays() -> None:
    boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 9], [50, 50, 60, 60]], float)
    assert suppress(boxes, np.array([0.6, 0.9, 0.7])).tolist() == [1, 2]
    assert suppress(boxes[:0], np.zeros(0)).tolist() == []


def test_likely_and_small_files_are_tried_first(tmp_path: Path) -> None:
    pack = tmp_path / "models" / "antelopev2" / "antelopev2"
    pack.mkdir(parents=True)
    sizes = {"glintr100.onnx": 9, "1k3d68.onnx": 5, "det_10g.onnx": 99, "scrfd_10g_bnkps.onnx": 200}
    for name, size in sizes.items():
        (pack / name).write_bytes(b"x" * size)
    found = find_onnx_files([tmp_path, tmp_path / "models"])
    assert [p.name for p in found] == [
        "scrfd_10g_bnkps.onnx",
        "det_10g.onnx",
        "1k3d68.onnx",
        "glintr100.onnx",
    ]


def test_where_no_file_is_the_folder_and_the_way_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no SCRFD file \(\*\.onnx\) in") as caught:
        open_scrfd([tmp_path])
    for part in (str(tmp_path), "antelopev2.zip", "non-commercial", "MediaPipe"):
        assert part in str(caught.value)


def test_a_missing_onnxruntime_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "scrfd.onnx").touch()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"needs onnxruntime \(pip install onnxruntime\)"):
        open_scrfd([tmp_path])


def given_sources(folder: Path, detector: str) -> FaceSources:
    return FaceSources(detector, (folder,))


@pytest.mark.parametrize("opened", [open_detector, open_clip_detector])
def test_auto_goes_on_to_the_cascade_and_scrfd_does_not(tmp_path: Path, opened: Callable) -> None:
    pytest.importorskip("skimage")
    assert opened(given_sources(tmp_path, "auto"))(torch.full((64, 64, 3), 0.5)) == []
    with pytest.raises(FileNotFoundError, match="no SCRFD file"):
        opened(given_sources(tmp_path, "scrfd"))


@pytest.fixture(scope="module")
def tiny() -> ModuleType:
    """The maker of tiny ONNX files."""
    for name in ("onnxruntime", "onnx"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    return importlib.import_module("face.tiny_scrfd")


@pytest.fixture
def pack(tiny: ModuleType, tmp_path: Path) -> Path:
    """A user's insightface folder with a detector that sees magenta cells."""
    folder = tmp_path / "models" / "antelopev2" / "antelopev2"
    folder.mkdir(parents=True)
    tiny.write_scrfd(folder / "scrfd_10g_bnkps.onnx")
    return tmp_path


def photo_with_face(height: int, width: int, x: int, y: int, side: int = 32) -> torch.Tensor:
    photo = torch.full((height, width, 3), 0.5)
    photo[y : y + side, x : x + side] = torch.tensor([1.0, 0.0, 1.0])
    return photo


def test_a_real_file_finds_faces_with_points(pack: Path) -> None:
    detect = open_scrfd([pack])
    assert detect(torch.full((480, 640, 3), 0.5)) == []
    (face,) = detect(photo_with_face(480, 640, 320, 160))
    assert np.allclose(face.box, (304, 144, 368, 208), atol=1)
    assert face.points is not None
    assert np.allclose(face.points[2], (336, 176), atol=1)
    assert face.detector == "SCRFD scrfd_10g_bnkps.onnx"
    assert 0.5 <= face.score <= 1
    two = photo_with_face(480, 640, 320, 160)
    two[320:352, 64:96] = torch.tensor([1.0, 0.0, 1.0])
    assert [round(f.box[0]) for f in detect(two)] == [48, 304]


@pytest.mark.parametrize(("height", "width"), [(960, 1280), (1280, 960), (240, 320)])
def test_the_size_of_the_photo_does_not_count(pack: Path, height: int, width: int) -> None:
    scale = max(height, width) / 640
    x, y, side = (round(v * scale) for v in (320, 160, 32))
    (face,) = open_scrfd([pack])(photo_with_face(height, width, x, y, side))
    assert np.allclose(np.array(face.box) / scale, (304, 144, 368, 208), atol=1)


def test_a_file_with_a_fixed_size_is_used_at_it(pack: Path) -> None:
    import onnx

    path = pack / "models" / "antelopev2" / "antelopev2" / "scrfd_10g_bnkps.onnx"
    model = onnx.load(path)
    for axis, size in ((2, 320), (3, 320)):
        dimension = model.graph.input[0].type.tensor_type.shape.dim[axis]
        dimension.Clear()
        dimension.dim_value = size
    onnx.save(model, path)
    (face,) = open_scrfd([pack])(photo_with_face(640, 640, 320, 128, 64))
    assert np.allclose(face.box, (288, 96, 416, 224), atol=2)


def test_the_detectors_of_photos_and_clips_are_scrfd(pack: Path) -> None:
    photo = photo_with_face(480, 640, 320, 160)
    for detector in ("auto", "scrfd"):
        if detector == "auto" and importlib.util.find_spec("insightface"):
            continue
        for opened in (open_detector, open_clip_detector):
            (face,) = opened(given_sources(pack, detector))(photo)
            assert face.detector == "SCRFD scrfd_10g_bnkps.onnx"


def test_files_that_are_something_else_are_named(tiny: ModuleType, tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    node = helper.make_node("GlobalAveragePool", ["input.1"], ["vector"])
    graph = helper.make_graph(
        [node],
        "arcface",
        [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, [None, 3, 112, 112])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, [None, 3, 1, 1])],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=7), tmp_path / "glint.onnx")
    (tmp_path / "words.onnx").write_bytes(b"no network")
    with pytest.raises(FileNotFoundError, match="is an SCRFD face detector") as caught:
        open_scrfd([tmp_path])
    words = str(caught.value)
    assert "glint.onnx: takes [[" in words
    assert "and gives 1 outputs, SCRFD takes one picture" in words
    assert "words.onnx: cannot be opened (" in words
    tiny.write_scrfd(tmp_path / "z.onnx")
    assert len(open_scrfd([tmp_path])(photo_with_face(640, 640, 320, 160))) == 1
