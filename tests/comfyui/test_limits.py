"""Numbers that no dial has, over the API: refused at the door, input by input."""

from __future__ import annotations

import copy
import json
import math
import time
import uuid
from collections.abc import Iterator

from host_client import bundled

from fantasyid.evaluation.answers import Ending, HostRefused

BEYOND = (1e308, -1e308, 10**30, -(10**30), math.inf, -math.inf)


def refused(client, node: str, inputs: dict) -> list[tuple[str, str]]:
    """Kind and input of what the host says of a node in a prompt."""
    look = {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}
    prompt = {"1": {"class_type": node, "inputs": inputs}, "2": look}
    try:
        client.host.request("POST", "/prompt", data=json.dumps({"prompt": prompt}))
    except HostRefused as error:
        errors = error.body["node_errors"].get("1", {}).get("errors", [])
        return [(e["type"], e["extra_info"].get("input_name", "")) for e in errors]
    raise AssertionError(f"{node} takes {inputs}")


def numbers(client) -> Iterator[tuple[str, str, str, dict]]:
    """Node, input and kind of every number, with a value for each of the node's inputs."""
    for node, info in client.host.object_info().items():
        if not node.startswith("FantasyID"):
            continue
        entries = {name: entry for part in info["input"].values() for name, entry in part.items()}
        plain = ("COMBO", "STRING", "INT", "FLOAT")
        values = {
            name: more[0].get("default", "") if more else ""
            for name, (kind, *more) in entries.items()
            if isinstance(kind, list) or kind in plain
        }
        for name, (kind, *_) in entries.items():
            if kind in ("INT", "FLOAT"):
                yield node, name, kind, values


def test_every_number_of_every_node_has_limits_that_hold(client):
    found = list(numbers(client))
    assert len(found) > 40
    for node, name, kind, values in found:
        for value in (*BEYOND, *([math.nan] if kind == "INT" else [])):
            told = [k for k, n in refused(client, node, values | {name: value}) if n == name]
            assert told, f"{node}.{name} takes {value}"


def test_nan_in_a_float_ends_the_prompt_with_the_name_of_the_input(client):
    """The host's limits let it pass: it is neither below nor above anything."""
    graph = bundled("photo_to_video")
    floats = {(node, name) for node, name, kind, _ in numbers(client) if kind == "FLOAT"}
    given = [
        (key, name)
        for key, node in graph.items()
        for name in node["inputs"]
        if (node["class_type"], name) in floats
    ]
    assert len(given) >= 3
    for key, name in given:
        spoiled = copy.deepcopy(graph)
        spoiled[key]["inputs"][name] = math.nan
        body = {"prompt": spoiled, "prompt_id": str(uuid.uuid4())}
        client.host.request("POST", "/prompt", data=json.dumps(body))
        while (result := client.host.result(body["prompt_id"])).ending is Ending.WAITING:
            time.sleep(0.1)
        assert result.ending is Ending.ERROR
        assert result.error["node_id"] == key
        assert result.failure.partition(": ")[2].startswith(f"{name} has values that are not num")
