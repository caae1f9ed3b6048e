"""Numbers that no dial has, over the API: refused at the door, input by input."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

from fantasyid.evaluation.answers import HostRefused

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
