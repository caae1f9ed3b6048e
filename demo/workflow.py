"""The bundled API workflow, fitted to the files and the size of this run."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .console import Problem
from .models import TINY_LABEL, Weights

WORKFLOW = Path("workflows") / "api" / "photo_to_video.json"

Graph = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Wish:
    """What one run asks for.

    Args:
        weights: names of the model files.
        image: the photo's file name in the server's input folder.
        prompt: text for the positive conditioning; None keeps the workflow's.
        seed: of the noise; None keeps the workflow's.
    """

    weights: Weights
    image: str
    prompt: str | None = None
    seed: int | None = None


def labelled(prefix: str) -> str:
    """A file name prefix that says that the weights were random."""
    folder, _, name = prefix.rpartition("/")
    return f"{folder}/{TINY_LABEL}_{name}" if folder else f"{TINY_LABEL}_{name}"


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

# (class_type, input) -> value, or function of the old value. For tiny weights only: the smallest
# run that still takes every path.
TINY_RUN: dict[tuple[str, str], Any] = {
    ("FantasyIDFaceLatent", "width"): 96,
    ("FantasyIDFaceLatent", "height"): 64,
    ("FantasyIDFaceLatent", "length"): 9,
    ("FantasyIDSampler", "steps"): 4,
    ("SaveVideo", "filename_prefix"): labelled,
    ("SaveLatent", "filename_prefix"): labelled,
    ("SaveGLB", "filename_prefix"): labelled,
    ("SaveImage", "filename_prefix"): labelled,
}

# Without these the workflow is not the one this table is for; the others may be absent.
REQUIRED = ("FantasyIDModelLoader", "FantasyIDSampler", "LoadImage", "SaveVideo")


def load_workflow(path: Path) -> Graph:
    """Read an API-format workflow.

    Raises:
        Problem: no such file, or not in API format.
    """
    try:
        graph = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Problem(f"The bundled workflow {path} is missing: get the project anew.") from None
    if not isinstance(graph, dict) or any("class_type" not in node for node in graph.values()):
        raise Problem(f"{path} is not a workflow in API format.")
    return graph


def set_input(graph: Graph, class_type: str, name: str, value: Any) -> None:
    """Give an input of every node of a class a new value.

    Args:
        value: the value, or a function of the old one.

    Raises:
        ValueError: a node of the class has no such input, or a link stands there.
    """
    for key, node in graph.items():
        if node["class_type"] != class_type:
            continue
        inputs = node["inputs"]
        if name not in inputs:
            raise ValueError(
                f"node {key} ({class_type}) of the workflow has no input {name!r}, "
                f"it has {', '.join(sorted(inputs))}"
            )
        if isinstance(inputs[name], list):
            raise ValueError(f"input {name!r} of node {key} ({class_type}) is a link, not a value")
        change: Callable[[Any], Any] | None = value if callable(value) else None
        inputs[name] = change(inputs[name]) if change is not None else value


def positive_text_nodes(graph: Graph) -> list[str]:
    """The CLIPTextEncode nodes that inputs named `positive` lead back to."""
    found: list[str] = []
    waiting = [node["inputs"]["positive"][0] for node in graph.values()
               if isinstance(node["inputs"].get("positive"), list)]  # fmt: skip
    while waiting:
        key = waiting.pop()
        node = graph[key]
        if node["class_type"] == "CLIPTextEncode":
            if key not in found:
                found.append(key)
        elif isinstance(node["inputs"].get("positive"), list):
            waiting.append(node["inputs"]["positive"][0])
    return found


def adapt(graph: Graph, wish: Wish) -> Graph:
    """A copy of the bundled workflow for this run.

    Raises:
        ValueError: the workflow and the tables above do not fit each other.
    """
    graph = copy.deepcopy(graph)
    present = {node["class_type"] for node in graph.values()}
    absent = [name for name in REQUIRED if name not in present]
    if absent:
        raise ValueError(f"the workflow has no {', '.join(absent)}")
    for (class_type, name), role in MODEL_FILES.items():
        set_input(graph, class_type, name, wish.weights.names[role])
    set_input(graph, "LoadImage", "image", wish.image)
    if wish.weights.tiny:
        for (class_type, name), value in TINY_RUN.items():
            set_input(graph, class_type, name, value)
    if wish.seed is not None:
        set_input(graph, "FantasyIDSampler", "seed", wish.seed)
    if wish.prompt is not None:
        nodes = positive_text_nodes(graph)
        if not nodes:
            raise ValueError("the workflow has no CLIPTextEncode that a `positive` input leads to")
        for key in nodes:
            graph[key]["inputs"]["text"] = wish.prompt
    return graph
