"""The host's torch.compile with an identity: the same video, and nothing compiled anew per step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from host_graph import apply, sample, watched

# The compiler warns of its own deprecations, in code that is neither ours nor the host's.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


class CountingBackend:
    """Runs each captured graph as it is, and counts them."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph, _inputs, **_options):
        self.graphs += 1
        return graph.forward


@pytest.fixture
def compiled(host):
    """`compiled(model)`: the host's compile wrapper on a clone, and the counter of its graphs."""
    assert host
    from comfy_api import torch_helpers
    from comfy_extras.nodes_torch_compile import skip_torch_compile_dict

    torch._dynamo.reset()

    def compile_clone(model):
        clone, backend = model.clone(), CountingBackend()
        options = {"guard_filter_fn": skip_torch_compile_dict}
        wrap: Any = torch_helpers.set_torch_compile_wrapper  # it says that names alone will do
        wrap(clone, backend=backend, options=options)
        return clone, backend

    yield compile_clone
    torch._dynamo.reset()


@pytest.mark.parametrize("order", ["compile, then apply", "apply, then compile"])
def test_nothing_is_compiled_anew_after_the_second_step(
    host, loaded, identity, conditioned, compiled, order
):
    expected = sample(host, apply(host, loaded, identity), conditioned, steps=5)
    if order.startswith("compile"):
        model, backend = compiled(loaded["model"])
        model = apply(host, loaded, identity, model=model)
    else:
        model, backend = compiled(apply(host, loaded, identity))
    graphs = []

    def count(executor, *args, **kwargs):
        try:
            return executor(*args, **kwargs)
        finally:
            graphs.append(backend.graphs)

    model = watched(model, count)
    video = sample(host, model, conditioned, steps=5)
    torch.testing.assert_close(video, expected, rtol=1e-4, atol=1e-5)
    assert backend.graphs > 0, "nothing was compiled"
    assert graphs[1] == graphs[-1], f"graphs after each step: {graphs}"
    again = sample(host, model, conditioned, steps=5, seed=4)
    assert torch.isfinite(again).all()
    assert backend.graphs == graphs[-1], "a second run compiled anew"
    for name, module in loaded["model"].model.diffusion_model.named_modules():
        assert not module._forward_hooks, name
