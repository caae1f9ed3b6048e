"""Face recognisers: found, opened, and named with their licence."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fantasyid.face import recognizer
from fantasyid.face.recognizer import (
    ANTELOPEV2,
    ARCFACE_TEMPLATE_PX,
    AURAFACE,
    AUTO,
    BUFFALO_L,
    CHOICES,
    arcface_input,
    find_recognizer,
    license_of,
    open_pack_recognizer,
    open_recognizer,
)


@pytest.fixture
def arcface(tmp_path: Path) -> Path:
    pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    from face.tiny_arcface import write_arcface

    path = tmp_path / "glintr100.onnx"
    write_arcface(path)
    return path


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_a_licence_is_in_the_name_of_every_recogniser() -> None:
    assert any("commercial use allowed" in c for c in CHOICES)
    named = [c for c in CHOICES if c in (AURAFACE, ANTELOPEV2, BUFFALO_L)]
    assert all("non-commercial" in c or "Apache-2.0" in c for c in named)
    assert len(named) == 3


def test_packs_are_found_where_people_put_them(tmp_path: Path) -> None:
    insightface, own = tmp_path / "insightface", tmp_path / "fantasyid"
    buffalo = touch(insightface / "models" / "buffalo_l" / "w600k_r50.onnx")
    assert find_recognizer(AUTO, [insightface, own]) == buffalo
    nested = touch(insightface / "models" / "antelopev2" / "antelopev2" / "glintr100.onnx")
    assert find_recognizer(ANTELOPEV2, [insightface, own]) == nested
    auraface = touch(own / "auraface" / "glintr100.onnx")
    assert find_recognizer(AURAFACE, [insightface, own]) == auraface
    # The one that everybody may use goes first.
    assert find_recognizer(AUTO, [insightface, own]) == auraface


@pytest.mark.parametrize("choice", [AUTO, AURAFACE, ANTELOPEV2, BUFFALO_L])
def test_what_is_missing_is_named_with_its_place_and_source(tmp_path: Path, choice: str) -> None:
    with pytest.raises(FileNotFoundError, match="no face recogniser file; looked for: ") as error:
        find_recognizer(choice, [tmp_path])
    assert str(tmp_path / "models") in str(error.value)
    assert "To have RS and IFS, get " in str(error.value)
    with pytest.raises(ValueError, match='the face recogniser is "other", expected one of: auto'):
        find_recognizer("other", [tmp_path])


def test_the_licence_goes_by_the_content_and_not_by_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "auraface" / "glintr100.onnx"
    touch(path).write_bytes(b"another file")
    assert license_of(path) == f"glintr100.onnx ({recognizer.UNKNOWN})"
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    monkeypatch.setitem(recognizer._BY_SHA256, empty, ANTELOPEV2)
    assert license_of(touch(tmp_path / "x.onnx")) == ANTELOPEV2


def test_the_network_gets_the_aligned_face(arcface: Path) -> None:
    opened = open_recognizer(arcface)
    assert recognizer.UNKNOWN in opened.words
    generator = torch.Generator().manual_seed(0)
    photo = torch.rand(112, 112, 3, generator=generator).mul(255).round() / 255
    picture = arcface_input(photo, ARCFACE_TEMPLATE_PX)
    assert picture.shape == (1, 3, 112, 112)
    assert picture.dtype == np.float32
    # The template itself is not moved: the pixels arrive as (x - 127.5) / 127.5.
    expected = (photo * 255 - 127.5) / 127.5
    assert np.allclose(picture[0].transpose(1, 2, 0), expected.numpy(), atol=1e-5)
    vector = opened.embed(photo, ARCFACE_TEMPLATE_PX)
    assert vector.shape == (512,)
    assert np.linalg.norm(vector) == pytest.approx(1)
    wide = torch.zeros(200, 260, 3)
    wide[40:152, 70:182] = photo
    moved = opened.embed(wide, ARCFACE_TEMPLATE_PX + np.array([70, 40]))
    assert vector @ moved == pytest.approx(1, abs=1e-3)


def test_other_files_are_refused_by_name(tmp_path: Path, arcface: Path) -> None:
    from face.tiny_arcface import write_arcface

    page = tmp_path / "page.onnx"
    page.write_text("<html>")
    with pytest.raises(ValueError, match=r"page\.onnx cannot be read as an ONNX model"):
        open_recognizer(page)
    write_arcface(tmp_path / "landmarks.onnx", side=196)
    with pytest.raises(ValueError, match=r"landmarks\.onnx is no face recogniser: its inputs are"):
        open_recognizer(tmp_path / "landmarks.onnx")
    with pytest.raises(ValueError, match="the facial points coincide"):
        open_recognizer(arcface).embed(torch.zeros(50, 50, 3), np.ones((5, 2)))


def test_without_onnxruntime_the_message_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"the face recogniser needs onnxruntime .* pip install"):
        open_recognizer(tmp_path / "glintr100.onnx")


def test_an_insightface_pack_tells_people_apart(tmp_path: Path, arcface: Path) -> None:
    from face.tiny_arcface import write_arcface

    pack = tmp_path / "models" / "models" / "buffalo_l"
    write_arcface(pack / "1_landmarks.onnx", side=196)  # what is no recognizer is passed over
    with pytest.raises(FileNotFoundError, match="is a recognition model"):
        open_pack_recognizer([tmp_path / "models"])
    (pack / "w600k_r50.onnx").write_bytes(arcface.read_bytes())
    same = open_pack_recognizer([tmp_path / "models"])
    one, other = (torch.rand(512, 512, 3, generator=torch.manual_seed(i)) for i in range(2))
    dim = one * 0.9
    assert same(one, dim)
    # Two pictures of noise have like means in fields of the size of a face: opposed ones do not.
    ramp = torch.linspace(0, 1, 512)[:, None, None].expand(512, 512, 3)
    assert not same(ramp, ramp.flip(0))
    assert same(other, other)
