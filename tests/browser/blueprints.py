"""Fold a laid-out graph into one node: the blueprints of `subgraphs/`, and the template with one.

Native widgets only and one level deep: the frontend cannot promote others, nor through two levels.
"""

from __future__ import annotations

import copy
import uuid
from dataclasses import dataclass
from typing import Any

INPUT_NODE, OUTPUT_NODE = -10, -20
SIZE = [420, 560]


@dataclass(frozen=True)
class Blueprint:
    """What of a graph goes into one node.

    Attributes:
        name: Of the node and of its file.
        description: One sentence.
        aliases: What people type to find it.
        outside: Ids of the nodes that stay on the canvas.
        inputs: Name on the node -> node id and input inside.
        outputs: Name on the node -> node id and output number inside.
    """

    name: str
    description: str
    aliases: tuple[str, ...]
    outside: tuple[int, ...]
    inputs: dict[str, tuple[int, str]]
    outputs: dict[str, tuple[int, int]]


ALIASES = (
    "face", "identity", "ip adapter", "photo to video", "reference face", "consistent character",
    "talking person", "FantasyID",
)  # fmt: skip
PHOTO_TO_VIDEO = Blueprint(
    "Photo to Video (FantasyID)",
    "A photo and a prompt become a video of that person.",
    ALIASES,
    (1, 11),
    {
        "image": (3, "image"), "prompt": (4, "text"), "seed": (8, "seed"), "steps": (8, "steps"),
        "width": (7, "width"), "height": (7, "height"), "length": (7, "length"),
        "strength": (6, "strength"),
    },
    {"video": (10, 0), "face found": (3, 3)},
)  # fmt: skip
IDENTITY_FROM_PHOTO = Blueprint(
    "Identity from Photo (FantasyID)",
    "A photo becomes an identity, for Apply Identity or an identity file; no video model needed.",
    ALIASES,
    (1,),
    {"image": (5, "image"), "choose": (5, "choose"), "index": (5, "index"), "head": (5, "head")},
    {"identity": (5, 0), "face": (5, 1), "face found": (5, 3), "adapter": (2, 0)},
)
TWO_PEOPLE = Blueprint(
    "Two People to Video (FantasyID)",
    "Two photos and a prompt become a video of both, one on the left and one on the right.",
    (*ALIASES, "two people"),
    (6, 8, 30),
    {
        "left": (7, "image"), "right": (9, "image"), "prompt": (22, "text"),
        "seed": (26, "seed"), "steps": (26, "steps"),
        "width": (25, "width"), "height": (25, "height"), "length": (25, "length"),
    },
    {"video": (29, 0)},
)  # fmt: skip
IDENTITY_GRAPH = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "fantasyid_example.jpg"}},
    "2": {
        "class_type": "FantasyIDAdapterLoader",
        "inputs": {"adapter": "FantasyID", "mesh_transforms": "transform.pkl"},
    },
    "3": {
        "class_type": "FantasyIDFaceEncoderLoader",
        "inputs": {"face_encoder": "EVA02_CLIP_L_336_psz14_s6B.pt"},
    },
    "4": {
        "class_type": "FantasyIDDecaLoader",
        "inputs": {"deca": "deca_model.tar", "flame": "generic_model.pkl"},
    },
    "5": {
        "class_type": "FantasyIDFromPhoto",
        "inputs": {
            "image": ["1", 0], "adapter": ["2", 0], "face_encoder": ["3", 0],
            "head_model": ["4", 0], "choose": "nearest centre", "index": 0, "head": "as released",
            "no_face": "stop",
        },
    },
}  # fmt: skip
IDENTITY_COLUMNS = [["Load", 420, ["1", "2", "3", "4"]], ["Read", 420, ["5"]]]


def fold(graph: dict[str, Any], blueprint: Blueprint) -> dict[str, Any]:
    """A workflow in which one node holds everything but the nodes that stay outside.

    Links between the two are drawn anew; notes and groups are dropped.
    """
    graph = copy.deepcopy(graph)
    known = uuid.uuid5(uuid.NAMESPACE_URL, blueprint.name)  # the same at every build
    nodes = {n["id"]: n for n in graph["nodes"] if n["type"] != "MarkdownNote"}
    inside = {i: n for i, n in nodes.items() if i not in blueprint.outside}
    links = [
        {"id": i, "origin_id": a, "origin_slot": s, "target_id": b, "target_slot": t, "type": kind}
        for i, a, s, b, t, kind in graph["links"]
        if a in inside and b in inside
    ]
    folded = _empty(graph, inside, links)
    number = max((link["id"] for link in links), default=0)
    inputs, outputs = [], []
    for place, (name, (owner, socket)) in enumerate(blueprint.inputs.items()):
        number += 1
        slot = next(k for k, i in enumerate(inside[owner]["inputs"]) if i["name"] == socket)
        kind = inside[owner]["inputs"][slot]["type"]
        inside[owner]["inputs"][slot]["link"] = number
        links.append(_link(number, INPUT_NODE, place, owner, slot, kind))
        inputs.append(_end(known, "in", name, kind, number))
    for place, (name, (owner, slot)) in enumerate(blueprint.outputs.items()):
        number += 1
        output = inside[owner]["outputs"][slot]
        output["links"] = [*(output["links"] or []), number]
        links.append(_link(number, owner, slot, OUTPUT_NODE, place, output["type"]))
        outputs.append(_end(known, "out", name, output["type"], number))
    right = max(n["pos"][0] + n["size"][0] for n in inside.values())
    definition = {
        "id": str(known),
        "version": 1,
        "state": {
            "lastGroupId": 0, "lastNodeId": max(inside), "lastLinkId": number, "lastRerouteId": 0,
        },
        "revision": 0,
        "config": {},
        "name": blueprint.name,
        "inputNode": {"id": INPUT_NODE, "bounding": [-220, 200, 120, 40 + 20 * len(inputs)]},
        "outputNode": {"id": OUTPUT_NODE, "bounding": [right + 80, 200, 120, 80]},
        "inputs": inputs,
        "outputs": outputs,
        "widgets": [],
        "nodes": list(inside.values()),
        "groups": [],
        "links": links,
        "extra": {"BlueprintDescription": blueprint.description,
                  "BlueprintSearchAliases": list(blueprint.aliases)},
        "category": "FantasyID",
        "description": blueprint.description,
    }  # fmt: skip
    folded["nodes"] = [_node(str(known), blueprint, inside, max(nodes) + 1)]
    folded["definitions"] = {"subgraphs": [definition]}
    return folded


def on_canvas(graph: dict[str, Any], blueprint: Blueprint) -> dict[str, Any]:
    """The folded node between the nodes that stay outside, connected as they were."""
    folded = fold(graph, blueprint)
    (node,) = folded["nodes"]
    outside = [copy.deepcopy(n) for n in graph["nodes"] if n["id"] in blueprint.outside]
    ends, number, x = {n["id"]: n for n in outside}, 0, 40
    for n in outside:
        for socket in n["inputs"]:
            socket["link"] = None
        for socket in n["outputs"]:
            socket["links"] = None
    for _, a, slot, b, target, kind in graph["links"]:
        number += 1
        if a in ends and b not in ends:
            name = next(
                k for k, v in blueprint.inputs.items()
                if v == (b, _socket(graph, b, target))
            )  # fmt: skip
            place = list(blueprint.inputs).index(name)
            folded["links"].append([number, a, slot, node["id"], place, kind])
            ends[a]["outputs"][slot]["links"] = [number]
            node["inputs"][place]["link"] = number
        elif b in ends and a not in ends:
            place = list(blueprint.outputs.values()).index((a, slot))
            folded["links"].append([number, node["id"], place, b, target, kind])
            node["outputs"][place]["links"] = [number]
            ends[b]["inputs"][target]["link"] = number
    first, last = outside[:-1], outside[-1]
    for row, n in enumerate(first):
        n["pos"], n["size"] = [x, 80 + row * 440], [380, 360]
    node["pos"], last["pos"] = [x + 460, 80], [x + 960, 80]
    folded["nodes"] = [*first, node, last]
    folded["last_link_id"] = number
    return folded


def _socket(graph: dict[str, Any], node_id: int, slot: int) -> str:
    node = next(n for n in graph["nodes"] if n["id"] == node_id)
    return node["inputs"][slot]["name"]


def _empty(graph: dict[str, Any], inside: dict[int, Any], links: list) -> dict[str, Any]:
    """The graph without nodes; sockets inside forget links that are cut."""
    kept = {link["id"] for link in links}
    for node in inside.values():
        for socket in node["inputs"]:
            socket["link"] = socket["link"] if socket["link"] in kept else None
        for socket in node["outputs"]:
            socket["links"] = [i for i in socket["links"] or [] if i in kept]
    return {**graph, "nodes": [], "links": [], "groups": [], "extra": {}}


def _link(number: int, a: int, slot: int, b: int, target: int, kind: str) -> dict[str, Any]:
    ends = {"origin_id": a, "origin_slot": slot, "target_id": b, "target_slot": target}
    return {"id": number, **ends, "type": kind}


def _end(known: uuid.UUID, way: str, name: str, kind: str, number: int) -> dict[str, Any]:
    own = str(uuid.uuid5(known, f"{way} {name}"))
    return {"id": own, "name": name, "type": kind, "linkIds": [number], "label": name}


def _node(kind: str, blueprint: Blueprint, inside: dict[int, Any], number: int) -> dict[str, Any]:
    inputs, values, promoted = [], [], []
    for name, (owner, socket) in blueprint.inputs.items():
        given = next(i for i in inside[owner]["inputs"] if i["name"] == socket)
        entry = {"name": name, "type": given["type"], "link": None}
        if "widget" in given:
            entry["widget"] = {"name": name}
            values.append(_value(inside[owner], socket))
            promoted.append(["-1", name])
        inputs.append(entry)
    outputs = [
        {"name": name, "type": inside[owner]["outputs"][slot]["type"], "links": None}
        for name, (owner, slot) in blueprint.outputs.items()
    ]
    return {
        "id": number, "type": kind, "pos": [0, 0], "size": SIZE, "flags": {}, "order": 0,
        "mode": 0, "inputs": inputs, "outputs": outputs, "title": blueprint.name,
        "properties": {"proxyWidgets": promoted}, "widgets_values": values,
    }  # fmt: skip


def _value(node: dict[str, Any], socket: str) -> Any:
    """A widget's value; a seed is followed by the widget that says what comes after it."""
    names = []
    for given in node["inputs"]:
        if "widget" in given:
            names += [given["name"]]
            if given["name"] == "seed":
                names.append("control_after_generate")
    return node["widgets_values"][names.index(socket)]
