"""The bundled API workflow, fitted to the files of this run."""

from __future__ import annotations

import copy
from typing import Any

from fantasyid.evaluation.answers import Graph

# (class_type, input) -> role of the model file it names.
MODEL_FILES = {
    ("FantasyIDModelLoader", "model"): "model",
    ("FantasyIDModelLoader", "mesh_transforms"): "mesh_transforms",
    ("FantasyIDFaceEncoderLoader", "face_encoder"): "face_encoder",
    ("FantasyIDDecaLoader", "deca"): "deca",
    ("FantasyIDDecaLoader", "flame"): "flame",
    ("CLIPLoader", "clip_name"): "clip",
    ("VAELoader", "vae_name"): "vae",
}


def set_prompt(graph: Graph, prompt: str) -> None:
    """Give every CLIPTextEncode that an input named `positive` is linked to another text."""
    links = (node["inputs"].get("positive") for node in graph.values())
    linked = [graph[link[0]] for link in links if isinstance(link, list)]
    nodes = [node for node in linked if node["class_type"] == "CLIPTextEncode"]
    if not nodes:
        raise ValueError("the workflow has no CLIPTextEncode that a `positive` input leads to")
    for node in nodes:
        node["inputs"]["text"] = prompt


def adapt(
    graph: Graph,
    names: dict[str, str],
    image: str,
    prompt: str | None = None,
    seed: int | None = None,
) -> Graph:
    """A copy of the bundled workflow for this run.

    Args:
        names: role -> name of the model file.
        image: the photo's file name in the server's input folder.
        prompt: text for the positive conditioning; None keeps the workflow's.
        seed: of the noise; None keeps the workflow's.

    Raises:
        ValueError: the workflow and the tables above do not fit each other.
    """
    graph = copy.deepcopy(graph)
    values: dict[tuple[str, str], Any] = {("LoadImage", "image"): image}
    values |= {place: names[role] for place, role in MODEL_FILES.items()}
    if seed is not None:
        values["FantasyIDSampler", "seed"] = seed
    for (class_type, name), value in values.items():
        inputs = [n["inputs"] for n in graph.values() if n["class_type"] == class_type]
        if not inputs or any(isinstance(i.get(name, []), list) for i in inputs):
            raise ValueError(f"the workflow has no {class_type} with a value for its {name!r}")
        for node in inputs:
            node[name] = value
    if prompt is not None:
        set_prompt(graph, prompt)
    return graph
