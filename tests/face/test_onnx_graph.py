"""YuNet's network in plain torch against onnxruntime, and files that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fantasyid.face.onnx_graph import Network


@pytest.fixture(scope="module")
def yunet(shared: Path) -> Path:
    return shared / "data/yunet_n_dynamic.onnx"


@pytest.mark.parametrize("size", [(64, 96), (32, 160)])
def test_it_computes_what_onnxruntime_computes(yunet: Path, size: tuple[int, int]) -> None:
    runtime = pytest.importorskip("onnxruntime")
    picture = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1)) * 255
    session = runtime.InferenceSession(str(yunet), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    network = Network(yunet)
    assert set(network.outputs) == set(names)
    found = network(picture)
    for name, expected in zip(names, session.run(None, {"input": picture.numpy()}), strict=True):
        np.testing.assert_allclose(found[name], expected, atol=2e-5, rtol=1e-4)


def test_every_cut_and_every_kind_of_rubbish_is_refused(yunet: Path, tmp_path: Path) -> None:
    whole, path = yunet.read_bytes(), tmp_path / "x.onnx"
    rubbish = [b"", b"<html>", b"\x3a", b"\xff" * 40, bytes(range(256)), whole[100:]]
    for content in (*rubbish, *(whole[:size] for size in range(0, len(whole), 9973))):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is no ONNX file of a known kind"):
            Network(path)


def test_a_tensor_that_claims_more_than_it_has_is_refused(yunet: Path, tmp_path: Path) -> None:
    whole = yunet.read_bytes()
    # The first weights are (16, 3, 3, 3): dims are field 1 of the tensor, one byte each.
    before = whole.index(b"\x08\x10\x08\x03\x08\x03\x08\x03")
    path = tmp_path / "x.onnx"
    path.write_bytes(whole[:before] + b"\x08\x11" + whole[before + 2 :])
    with pytest.raises(ValueError, match=r"of shape \[17, 3, 3, 3\] has 1728 bytes"):
        Network(path)
    path.write_bytes(whole.replace(b"MaxPool", b"MinPool"))
    with pytest.raises(ValueError, match="it has steps MinPool"):
        Network(path)
