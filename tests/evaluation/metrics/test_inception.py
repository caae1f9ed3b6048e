"""FID's network: the pooling that differs from torchvision's, and its file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import avg_pool2d, max_pool2d

from fantasyid.evaluation.metrics.inception import FILE, build_network, open_features

pytestmark = pytest.mark.slow

pytest.importorskip("torchvision")


def test_the_pooled_branches_are_fids() -> None:
    """Each block, written out with FID's pooling, on random weights."""
    torch.manual_seed(0)
    network = build_network().eval()
    for name, channels, side in (("Mixed_5b", 192, 9), ("Mixed_6b", 768, 9), ("Mixed_7c", 2048, 5)):
        block = getattr(network, name)
        x = torch.randn(1, channels, side, side)
        if name == "Mixed_7c":
            pooled = max_pool2d(x, 3, 1, 1)
        else:
            pooled = avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        with torch.no_grad():
            branch = block.branch_pool(pooled)
            got = block(x)
            plain = torch.cat(block._forward(x), 1)
        width = branch.shape[1]
        assert torch.equal(got[:, -width:], branch)
        assert torch.equal(got[:, :-width], plain[:, :-width])
        assert not torch.equal(got, plain)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    state = {k: v for k, v in build_network().state_dict().items() if "num_batches" not in k}
    path = tmp_path_factory.mktemp("weights") / FILE
    torch.save(state, path)
    return path


def test_the_file_gives_2048_features_per_picture(weights: Path) -> None:
    features = open_features(weights, "cpu")
    generator = torch.Generator().manual_seed(2)
    one, two = (torch.rand(64, 80, 3, generator=generator) for _ in range(2))
    assert features(one).shape == (2048,)
    assert torch.equal(features(one), features(one))
    assert not torch.equal(features(one), features(two))


def test_another_file_is_refused(weights: Path, tmp_path: Path) -> None:
    state = torch.load(weights, weights_only=True)
    del state["Mixed_5b.branch1x1.conv.weight"]
    torch.save(state, tmp_path / FILE)
    with pytest.raises(ValueError, match=r"is not FID's Inception v3: 1 of .* weights are missing"):
        open_features(tmp_path / FILE, "cpu")
