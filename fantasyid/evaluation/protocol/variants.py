"""One trained model without a part of it, as edits of the workflow.

Only "without vertex tokens" is a row of the paper's Table 3 (section 4.4) that exists at inference.
Its other rows (another face abstractor, training without the collection of views, injection without
F_l) are models of their own. Taking away the face tokens, sharing one layer's injector and
dropping the face latent are this project's probes. The paper trained a model for each row, so the
differences need not be the paper's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

from .workflow import Graph, links, nodes_of, only_node, set_input, with_sources

FULL = "full"


@dataclass(frozen=True, slots=True)
class Variant:
    """What is taken out: its name for people, and the edit, which gets the shared layer."""

    title: str
    edit: Callable[[Graph, int], Graph]


def edited(graph: Graph, variant: str, share_layer: int) -> Graph:
    """A copy of a workflow for a variant.

    Args:
        graph: API format.
        variant: A key of `VARIANTS`.
        share_layer: Whose injector every block gets where the layers share one.

    Raises:
        ValueError: No such variant, or the workflow has not what it takes.
    """
    if variant not in VARIANTS:
        raise ValueError(f'the variant is "{variant}", expected one of: {", ".join(VARIANTS)}')
    return VARIANTS[variant].edit(copy.deepcopy(graph), share_layer)


def _at_zero(part: str) -> Callable[[Graph, int], Graph]:
    def edit(graph: Graph, _: int) -> Graph:
        set_input(graph, "FantasyIDApply", part, 0.0)
        return graph

    return edit


def _with_a_shared_layer(graph: Graph, layer: int) -> Graph:
    """Layer weights that share one layer's injector, between every Apply and what feeds it."""
    if nodes_of(graph, "FantasyIDLayerWeights"):
        set_input(graph, "FantasyIDLayerWeights", "share_layer", layer)
        return graph
    applied = nodes_of(graph, "FantasyIDApply")
    if not applied:
        raise ValueError("the workflow has no FantasyIDApply, whose layers are to share one")
    inputs = {"preset": "likeness", "layers": "", "share_layer": layer}
    graph["share_layer"] = {"class_type": "FantasyIDLayerWeights", "inputs": inputs}
    for key in applied:
        graph[key]["inputs"]["layer_weights"] = ["share_layer", 0]
    return graph


def _without_face_latent(graph: Graph, _: int) -> Graph:
    """The prompts go past the Face Latent node, which then only sizes the empty latent.

    Without an image the host fills the image channels with zeros.
    """
    key = only_node(graph, "FantasyIDFaceLatent")
    past = {0: graph[key]["inputs"]["positive"], 1: graph[key]["inputs"]["negative"]}
    for node in graph.values():
        for name, source, output in list(links(node)):
            if source == key and output in past:
                node["inputs"][name] = past[output]
    savers = [k for name in ("SaveVideo", "SaveLatent") for k in nodes_of(graph, name)]
    return with_sources(graph, savers)


# By their names on the command line.
VARIANTS = {
    FULL: Variant("FantasyID", lambda graph, _: graph),
    "no-face-tokens": Variant("without face tokens", _at_zero("looks")),
    "no-vertex-tokens": Variant("without vertex tokens", _at_zero("shape")),
    "shared-layer": Variant("one injector for all layers", _with_a_shared_layer),
    "no-face-latent": Variant("without the face latent", _without_face_latent),
}
