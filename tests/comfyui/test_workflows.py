"""The bundled graphs that nothing else runs, whole, as a user presses Run."""

from __future__ import annotations

import pytest
from host_client import bundled, changed


@pytest.mark.parametrize(
    "name", ["two_people", "looks_and_shape", "long_clip", "best_of", "short_photo_to_video"]
)
def test_it_runs(client, name):
    graph = bundled(name)
    if name == "best_of":
        graph = changed(graph, "FantasyIDBestOf", takes=2, probe_steps=1)
    if name == "long_clip":  # 15 latent frames: two windows
        graph = changed(graph, "FantasyIDFaceLatent", width=64, height=64, length=57)
    run = client.finish(graph)
    texts = {k: v["text"][0] for k, v in run.outputs.items() if "text" in v}
    said = {graph[k]["class_type"]: text for k, text in texts.items()}
    assert "Identity is injected into 4 blocks" in said["FantasyIDApply"]
    if name == "two_people":
        applied = [t for k, t in texts.items() if graph[k]["class_type"] == "FantasyIDApply"]
        assert sum("inside a mask" in text for text in applied) == 2
        assert sum("identity number 2" in text for text in applied) == 1


def test_likeness_and_motion_differ_and_both_report(client):
    graph = bundled("likeness_or_motion")
    run = client.finish(graph)
    reports = {
        graph[k]["_meta"]["title"]: v["text"][0]
        for k, v in run.outputs.items()
        if graph[k]["class_type"] == "FantasyIDInjectionReport"
    }
    assert sorted(reports) == ["Report: likeness", "Report: motion"]
    assert all(text.startswith("Identity is ON") for text in reports.values())
    likeness, motion = (
        float(reports[f"Report: {word}"].split("conditional ")[1].split(" %")[0])
        for word in ("likeness", "motion")
    )
    assert likeness > motion > 0
