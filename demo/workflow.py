"""The bundled API workflow, fitted to the files of this run."""

from __future__ import annotations

import copy

from fantasyid.evaluation.protocol.workflow import Graph, set_input, set_prompt

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
    set_input(graph, "LoadImage", "image", image)
    for (class_type, name), role in MODEL_FILES.items():
        set_input(graph, class_type, name, names[role])
    if seed is not None:
        set_input(graph, "FantasyIDSampler", "seed", seed)
    if prompt is not None:
        set_prompt(graph, prompt)
    return graph
