"""The API workflow, fitted to one video: photo, prompt, seed, sizes, names of the results."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...weights.describe import in_print
from ..answers import Graph

BUNDLED = Path(__file__).resolve().parents[3] / "workflows" / "api" / "photo_to_video.json"
# Below this folder of the host's input and output folders lies all that is ours.
FOLDER = "fantasyid_evaluate"
VIDEO, LATENT = "video", "latent"
SAVERS = {"SaveVideo": VIDEO, "SaveLatent": LATENT}
# Input of the command -> the node and the input that it sets.
DIALS = {
    "width": ("FantasyIDFaceLatent", "width"),
    "height": ("FantasyIDFaceLatent", "height"),
    "length": ("FantasyIDFaceLatent", "length"),
    "steps": ("FantasyIDSampler", "steps"),
    "cfg": ("FantasyIDSampler", "cfg"),
}


def load_workflow(path: Path) -> Graph:
    """Read an API workflow and keep what leads to the video and to the saved latent.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is no API workflow, or not one that makes one video from one photo.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no workflow {path}")
    try:
        graph = json.loads(path.read_text("utf-8"))
        nodes = {
            k: {"class_type": n["class_type"], "inputs": n["inputs"]} for k, n in graph.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not a workflow in API format: in ComfyUI, choose Export (API)"
        ) from error
    try:
        for class_type in ("LoadImage", "FantasyIDSampler", "SaveVideo"):
            only_node(nodes, class_type)
        positive_texts(nodes)
        return with_sources(nodes, [k for k, n in nodes.items() if n["class_type"] in SAVERS])
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # links to nowhere
        raise ValueError(f"{path}: {in_print(error, 200)}") from error


def nodes_of(graph: Graph, class_type: str) -> list[str]:
    """The ids of all nodes of a class."""
    return [key for key, node in graph.items() if node["class_type"] == class_type]


def only_node(graph: Graph, class_type: str) -> str:
    """The id of the only node of a class.

    Raises:
        ValueError: There is none, or there are several.
    """
    found = nodes_of(graph, class_type)
    if len(found) != 1:
        raise ValueError(f"the workflow has {len(found)} {class_type} nodes, expected one")
    return found[0]


def links(node: dict[str, Any]) -> Iterable[tuple[str, str, int]]:
    """Input, id of the node it comes from, and output of that, of every linked input."""
    for name, value in node["inputs"].items():
        if isinstance(value, list) and len(value) == 2:
            yield name, str(value[0]), int(value[1])


def with_sources(graph: Graph, keys: Iterable[str]) -> Graph:
    """Some nodes and all that they need."""
    wanted, waiting = set(), list(keys)
    while waiting:
        key = waiting.pop()
        if key not in graph:
            raise ValueError(f"the workflow has a link to {in_print(key)}, a node that it has not")
        if key not in wanted:
            wanted.add(key)
            waiting += [source for _, source, _ in links(graph[key])]
    return {key: node for key, node in graph.items() if key in wanted}


def positive_texts(graph: Graph) -> list[str]:
    """The CLIPTextEncode nodes that inputs named `positive` lead back to.

    Raises:
        ValueError: There is none, or the inputs lead in a circle.
    """
    found: list[str] = []
    starts = [s for node in graph.values() for name, s, _ in links(node) if name == "positive"]
    for start in starts:
        key: str | None = start
        seen: set[str] = set()
        while key is not None and graph[key]["class_type"] != "CLIPTextEncode":
            if key in seen:
                raise ValueError(f"the positive inputs lead in a circle, through node {key}")
            seen.add(key)
            key = next((s for name, s, _ in links(graph[key]) if name == "positive"), None)
        if key is not None and key not in found:
            found.append(key)
    if not found:
        raise ValueError("the workflow has no CLIP Text Encode that a positive input leads to")
    return found


def set_prompt(graph: Graph, prompt: str) -> None:
    """Give the positive prompt a text, in place."""
    for key in positive_texts(graph):
        graph[key]["inputs"]["text"] = prompt


def set_input(graph: Graph, class_type: str, name: str, value: Any) -> None:
    """Give an input of every node of a class a value, in place.

    Raises:
        ValueError: There is no such node, or the input is linked.
    """
    keys = nodes_of(graph, class_type)
    if not keys:
        raise ValueError(f"the workflow has no {class_type}, whose {name} is to be {value}")
    for key in keys:
        if isinstance(graph[key]["inputs"].get(name), list):
            raise ValueError(f"{name} of node {key} ({class_type}) is linked: it takes no value")
        graph[key]["inputs"][name] = value


def get_input(graph: Graph, class_type: str, name: str, missing: Any) -> Any:
    """The value of an input of the first node of a class, or `missing`; also where it is linked."""
    for key in nodes_of(graph, class_type):
        value = graph[key]["inputs"].get(name, missing)
        return missing if isinstance(value, list) else value
    return missing


def for_video(graph: Graph, photo: str, prompt: str, seed: int) -> Graph:
    """A copy for one video, without names of the results.

    Args:
        graph: With the settings of all videos.
        photo: Its name in the host's input folder.
    """
    graph = copy.deepcopy(graph)
    set_input(graph, "LoadImage", "image", photo)
    set_input(graph, "FantasyIDSampler", "seed", seed)
    set_prompt(graph, prompt)
    return graph


def with_names(graph: Graph, job: str) -> Graph:
    """A copy whose results are saved below a job's own folder of the host's output folder."""
    graph = copy.deepcopy(graph)
    for class_type, name in SAVERS.items():
        for key in nodes_of(graph, class_type):
            graph[key]["inputs"]["filename_prefix"] = f"{result_folder(job)}/{name}"
    return graph


def result_folder(job: str) -> str:
    """Where the host puts a job's results, below its output folder."""
    return f"{FOLDER}/{job}"
