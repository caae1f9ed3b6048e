"""The sources of faces: insightface, landmarks, boxes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from turning_head import ASTRONAUT_POINTS as ASTRONAUT

from fantasyid.face.cascade import detect_with_cascade
from fantasyid.face.given import detect_with_landmarker, faces_from_boxes, faces_from_landmarks
from fantasyid.face.insight import find_insightface_pack, open_insightface
from fantasyid.face.points import points_from_box

pytestmark = pytest.mark.slow


def test_a_missing_scikit_image_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    with pytest.raises(ImportError, match=r"scikit-image.*insightface.*MediaPipe.*by hand"):
        detect_with_cascade(torch.zeros(64, 64, 3))


def test_a_missing_insightface_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "insightface", None)
    monkeypatch.setitem(sys.modules, "insightface.app", None)
    with pytest.raises(ImportError, match=r"insightface.*onnxruntime.*MediaPipe"):
        open_insightface([tmp_path])(torch.zeros(64, 64, 3))


@pytest.mark.parametrize(
    "where",
    ["models/antelopev2", "antelopev2", "models/antelopev2/antelopev2", "models/my_pack", "."],
)
def test_a_model_pack_is_found(tmp_path: Path, where: str) -> None:
    (tmp_path / where).mkdir(parents=True, exist_ok=True)
    (tmp_path / where / "det.onnx").touch()
    assert find_insightface_pack([tmp_path]) == (tmp_path / where).resolve()


def test_antelopev2_goes_before_other_packs(tmp_path: Path) -> None:
    for name in ("aaa", "buffalo_l", "antelopev2"):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "det.onnx").touch()
    assert find_insightface_pack([tmp_path]).name == "antelopev2"


def test_a_missing_model_pack_is_named_with_the_places(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        find_insightface_pack([tmp_path])
    words = str(caught.value)
    assert str(tmp_path / "models" / "antelopev2" / "antelopev2") in words
    assert str(tmp_path / "buffalo_l") in words
    assert "non-commercial" in words


class FakeAnalysis:
    """Stands in for insightface's FaceAnalysis: a magenta picture is a face, if small enough."""

    calls: ClassVar[list[dict]] = []

    def __init__(self, **settings: object) -> None:
        FakeAnalysis.calls.append(settings)
        assert list(Path(str(settings["name"])).glob("scrfd*.onnx"))

    def prepare(self, **settings: object) -> None:
        FakeAnalysis.calls.append(settings)

    def get(self, pixels: np.ndarray) -> list[SimpleNamespace]:
        assert pixels.dtype == np.uint8
        rows, columns = np.nonzero((pixels == (200, 0, 100)).all(-1))  # BGR
        if len(rows) == 0 or len(rows) == pixels.shape[0] * pixels.shape[1]:
            return []
        box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float32)
        points = points_from_box(box).astype(np.float32)
        return [SimpleNamespace(bbox=box, kps=points, det_score=np.float32(0.8))]


@pytest.fixture
def fake_insightface(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An installed insightface and a folder with a model pack."""
    module = ModuleType("insightface.app")
    module.__dict__["FaceAnalysis"] = FakeAnalysis
    monkeypatch.setitem(sys.modules, "insightface", ModuleType("insightface"))
    monkeypatch.setitem(sys.modules, "insightface.app", module)
    monkeypatch.setattr(FakeAnalysis, "calls", [])
    (tmp_path / "models" / "antelopev2" / "antelopev2").mkdir(parents=True)
    (tmp_path / "models" / "antelopev2" / "antelopev2" / "scrfd.onnx").touch()
    return tmp_path


def test_insightface_is_called_so_that_it_downloads_nothing(fake_insightface: Path) -> None:
    photo = torch.zeros(90, 120, 3)
    photo[30:60, 40:80] = torch.tensor([100, 0, 200]) / 255
    (face,) = open_insightface([fake_insightface])(photo)
    assert face.box == (40, 30, 80, 60)
    assert face.points is not None
    assert np.allclose(face.points, points_from_box(face.box), atol=1e-3)
    assert face.score == pytest.approx(0.8)
    assert face.detector == "insightface antelopev2"
    created, prepared = FakeAnalysis.calls
    assert Path(created["name"]).is_dir()
    assert created["providers"] == ["CPUExecutionProvider"]
    assert created["allowed_modules"] == ["detection"]
    assert prepared["det_size"] == (640, 640)


def test_a_face_that_fills_the_picture_is_looked_for_with_a_margin(fake_insightface: Path) -> None:
    photo = (torch.tensor([100, 0, 200]) / 255).expand(90, 120, 3)
    (face,) = open_insightface([fake_insightface])(photo)
    assert face.box == (0, 0, 120, 90)


def test_a_model_pack_without_a_detector_is_named(fake_insightface: Path) -> None:
    pack = fake_insightface / "models" / "antelopev2" / "antelopev2"
    (pack / "scrfd.onnx").rename(pack / "glintr100.onnx")
    with pytest.raises(FileNotFoundError, match="is a face detector"):
        open_insightface([fake_insightface])(torch.zeros(9, 9, 3))


@pytest.mark.skipif(
    not all(importlib.util.find_spec(m) for m in ("insightface", "onnxruntime", "onnx")),
    reason="insightface, onnxruntime and onnx are not installed",
)
def test_the_real_insightface_runs_a_tiny_detector(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        "tiny_scrfd", Path(__file__).parent / "tiny_scrfd.py"
    )
    assert spec is not None
    assert spec.loader is not None
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    (tmp_path / "models" / "antelopev2" / "antelopev2").mkdir(parents=True)
    tiny.write_scrfd(tmp_path / "models" / "antelopev2" / "antelopev2" / "scrfd_10g_bnkps.onnx")
    photo = torch.full((480, 640, 3), 0.5)
    assert open_insightface([tmp_path])(photo) == []
    photo[160:192, 320:352] = torch.tensor([1.0, 0.0, 1.0])
    (face,) = open_insightface([tmp_path])(photo)
    assert np.allclose(face.box, (304, 144, 368, 208), atol=1)
    assert face.points is not None
    assert np.allclose(face.points[2], (336, 176), atol=1)


def landmarks(count: int) -> np.ndarray:
    """A face mesh whose five points lie on the astronaut's; the rest are far away."""
    mesh = np.full((count, 2), 900.0)
    left, right = ASTRONAUT[:2]
    for corner, eye in ((33, left), (133, left), (362, right), (263, right)):
        mesh[corner] = eye + ([-9, 2] if corner in (33, 362) else [9, -2])
    if count >= 478:
        mesh[468], mesh[473] = left, right
        mesh[[33, 133, 362, 263]] = 800
    mesh[[1, 61, 291]] = ASTRONAUT[2:]
    return mesh


@pytest.mark.parametrize("count", [468, 478])
def test_five_points_are_taken_from_the_face_mesh(count: int) -> None:
    frame = [
        {"landmarks_xy": torch.tensor(landmarks(count) + 50), "bbox_xyxy": [60, 0, 90, 30]},
        {"landmarks_xy": landmarks(count), "bbox_xyxy": np.array([1, 2, 3, 4]), "score": 0.5},
    ]
    first, second = faces_from_landmarks(frame)
    assert first.points is not None
    assert second.points is not None
    assert np.allclose(first.points, ASTRONAUT)
    assert np.allclose(second.points, ASTRONAUT + 50)
    assert first.box == (1, 2, 3, 4)
    assert (first.score, second.score) == (0.5, 1.0)


def test_a_face_mesh_without_a_box_has_its_own_extent() -> None:
    (face,) = faces_from_landmarks([{"landmarks_xy": landmarks(478)}])
    assert face.box == (204, 107, 900, 900)
    assert faces_from_landmarks([]) == []


def test_a_wrong_face_mesh_is_named() -> None:
    with pytest.raises(ValueError, match=r"\(68, 2\), expected \(478, 2\)"):
        faces_from_landmarks([{"landmarks_xy": np.zeros((68, 2))}])
    broken = landmarks(478)
    broken[1] = np.nan
    with pytest.raises(ValueError, match="finite"):
        faces_from_landmarks([{"landmarks_xy": broken, "bbox_xyxy": [0, 0, 9, 9]}])


BOX = {"x": 50, "y": 20, "width": 10, "height": 30, "label": "face", "score": 0.5}


@pytest.mark.parametrize("boxes", [BOX, [BOX], [[BOX], []]])
def test_every_form_of_a_bounding_box_is_read(boxes: object) -> None:
    (face,) = faces_from_boxes(boxes)
    assert face.box == (50, 20, 60, 50)
    assert face.points is None
    assert face.score == 0.5
    assert face.detector == "bounding box (face)"


def test_boxes_are_numbered_from_left_to_right_and_may_be_missing() -> None:
    faces = faces_from_boxes([BOX, BOX | {"x": 3}])
    assert [face.box[0] for face in faces] == [3, 50]
    assert faces_from_boxes([]) == []
    assert faces_from_boxes([[], [BOX]]) == []
    assert faces_from_boxes(None) == []


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ({"x": 1, "y": 2}, "numbers x, y, width and height"),
        ([BOX | {"width": "wide"}], "numbers x, y, width and height"),
        ([[1, 2, 3, 4]], "numbers x, y, width and height, got 1"),
        ([BOX | {"width": 0}], "no area"),
        ([BOX | {"x": float("nan")}], "no area"),
    ],
)
def test_a_wrong_box_is_named(boxes: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        faces_from_boxes(boxes)


class Landmarker:
    """Stands in for the host's MediaPipe model: finds something in one range only."""

    def __init__(self, variant: str) -> None:
        self.variant, self.asked = variant, []

    def detect_batch(
        self, images: list, num_faces: int, score_thresh: float, variant: str
    ) -> list[list[dict]]:
        assert images[0].dtype == np.uint8
        assert num_faces == 0
        assert 0 < score_thresh < 1
        self.asked.append(variant)
        face = {"landmarks_xy": landmarks(478), "bbox_xyxy": np.array([1, 2, 3, 4])}
        return [[face] if variant == self.variant else []]


@pytest.mark.parametrize("variant", ["short", "full", "none"])
def test_the_hosts_landmarker_is_asked_in_both_ranges(variant: str) -> None:
    model = Landmarker(variant)
    faces = detect_with_landmarker(torch.zeros(60, 60, 3), model)
    assert model.asked == (["short"] if variant == "short" else ["short", "full"])
    assert len(faces) == (0 if variant == "none" else 1)
    with pytest.raises(ValueError, match="is a int, expected what Load Face Detection Model"):
        detect_with_landmarker(torch.zeros(60, 60, 3), 3)
