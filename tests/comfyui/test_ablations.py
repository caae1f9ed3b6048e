"""One layer's injector for every block, on the real host: a probe of this project."""

from __future__ import annotations

import pytest
import torch
from host_graph import apply, layer_weights, load_model, sample

LAYERS = 4


@pytest.fixture(scope="module")
def shared(host, loaded, identity, conditioned):
    """`shared(share_layer=2, layers="2", preset=...)`: a sampled latent."""

    def run(adapter=None, preset="likeness", layers="", **weights):
        given = layer_weights(host, preset, layers, **weights)
        parts = loaded | {"adapter": adapter or loaded["adapter"]}
        return sample(host, apply(host, parts, identity, layer_weights=given), conditioned, steps=2)

    return run


@pytest.mark.parametrize("layer", [0, LAYERS - 1])
def test_a_layer_shared_with_itself_changes_no_bit(shared, layer):
    alone = {"preset": "custom", "layers": f"{layer}"}
    assert torch.equal(shared(**alone), shared(**alone, share_layer=layer))
    assert torch.equal(shared(), shared(share_layer=-1))


def test_which_layer_is_shared_matters(shared):
    videos = [shared(share_layer=layer) for layer in (-1, 0, LAYERS - 1)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not torch.allclose(videos[one], videos[other], atol=1e-5)


def test_it_is_an_adapter_whose_layers_are_all_that_one(host, shared):
    _, adapter = load_model(host)
    weights = {"preset": "custom", "layers": "0, 1:0.5, 3:0.25"}
    expected = shared(**weights, share_layer=2)
    for half in (adapter.injectors.model, adapter.keys_values.model):
        for layer in half.injectors:
            layer.load_state_dict(half.injectors[2].state_dict())
    assert torch.equal(shared(adapter, **weights), expected)


def test_a_layer_that_is_not_there_is_named(host, loaded, identity, shared):
    words = r"share_layer is 4, the adapter has layers 0 to 3; -1 gives each block its own"
    with pytest.raises(ValueError, match=words):
        shared(share_layer=LAYERS)
    weights = layer_weights(host, "likeness", share_layer=1)
    node = host.nodes.NODE_CLASS_MAPPINGS["FantasyIDApply"].PREPARE_CLASS_CLONE(None)
    given = {"model": loaded["model"], "adapter": loaded["adapter"], "identity": identity}
    result = node.execute(**given, strength=1.0, layer_weights=weights)
    assert "every block with the injector of layer 1" in str(result.ui)
