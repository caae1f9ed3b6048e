"""Workflow files that somebody wrote by hand, and wrongly."""

from __future__ import annotations

import json

import pytest

from fantasyid.evaluation.protocol.workflow import BUNDLED, load_workflow


def test_a_circle_and_a_link_to_nowhere_are_named_and_end(tmp_path):
    graph = json.loads(BUNDLED.read_text("utf-8"))
    text = next(k for k, n in graph.items() if n["class_type"] == "CLIPTextEncode")
    path = tmp_path / "graph.json"
    round_trip = graph | {text: {"class_type": "X", "inputs": {"positive": [text, 0]}}}
    path.write_text(json.dumps(round_trip))
    with pytest.raises(ValueError, match=r"graph\.json: the positive inputs lead in a circle"):
        load_workflow(path)
    sampler = next(k for k, n in graph.items() if n["class_type"] == "FantasyIDSampler")
    graph[sampler]["inputs"]["latent_image"] = ["nowhere\n", 0]
    path.write_text(json.dumps(graph))
    with pytest.raises(ValueError, match=r"graph\.json: the workflow has a link to nowhere\?"):
        load_workflow(path)
