"""Which videos there are, what tells them apart, and how the ablations edit the workflow."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from fantasyid.evaluation.protocol.plan import (
    JobSettings,
    make_plan,
    read_prompts,
    read_references,
    with_settings,
)
from fantasyid.evaluation.protocol.variants import FULL, VARIANTS, edited
from fantasyid.evaluation.protocol.workflow import BUNDLED, load_workflow, nodes_of


def wishes(**changes):
    given = {"seeds": [1], "variants": [FULL], "share_layer": 0, "dials": {}, "inputs": {}}
    return JobSettings(**(given | changes))


@pytest.fixture
def people(tmp_path):
    folder = tmp_path / "people"
    folder.mkdir()
    for number in (2, 10, 1):
        pixels = np.full((8, 8, 3), number, np.uint8)
        Image.fromarray(pixels).save(folder / f"person{number}.png")
    return folder


def plan(people, prompts=("a smile", "a walk"), **changes):
    wished = wishes(**changes)
    graph = with_settings(load_workflow(BUNDLED), wished)
    return make_plan(graph, read_references(people), prompts, wished)


def test_every_reference_meets_every_prompt_seed_and_variant(people):
    jobs = plan(people, seeds=[1, 2, 2], variants=list(VARIANTS))
    assert len(jobs) == 3 * 2 * 2 * len(VARIANTS)
    assert len({job.id for job in jobs}) == len(jobs)
    assert [job.reference.name for job in jobs][:: len(jobs) // 3] == [
        "person1.png",
        "person2.png",
        "person10.png",
    ]
    for job in jobs:
        (photo,) = nodes_of(job.graph, "LoadImage")
        assert (
            job.graph[photo]["inputs"]["image"]
            == f"fantasyid_evaluate/{job.reference.sha256[:16]}.png"
        )
        (sampler,) = nodes_of(job.graph, "FantasyIDSampler")
        assert job.graph[sampler]["inputs"]["seed"] == job.seed
        texts = [job.graph[k]["inputs"]["text"] for k in nodes_of(job.graph, "CLIPTextEncode")]
        assert sorted(texts) == sorted([job.prompt, ""])
        (saver,) = nodes_of(job.graph, "SaveVideo")
        assert job.graph[saver]["inputs"]["filename_prefix"] == f"fantasyid_evaluate/{job.id}/video"


def test_an_id_is_of_the_content_and_not_of_names_or_order(people):
    ids = [job.id for job in plan(people)]
    assert [job.id for job in plan(people, prompts=("a walk", "a smile"))] == [
        ids[i ^ 1] for i in range(6)
    ]
    (people / "person1.png").rename(people / "zoe.png")
    assert {job.id for job in plan(people)} == set(ids)
    for changes in (
        {"prompts": ("a smile.", "a walk.")},
        {"seeds": [3]},
        {"dials": {"steps": 7}},
        {"inputs": {("VAELoader", "vae_name"): "other"}},
        {"variants": ["no-face-latent"]},
    ):
        assert not set(ids) & {job.id for job in plan(people, **changes)}, changes
    Image.new("RGB", (8, 8), (9, 9, 9)).save(people / "zoe.png")
    assert len(set(ids) & {job.id for job in plan(people)}) == 4


def test_equal_photos_and_prompts_count_once(people, tmp_path):
    (people / "copy.png").write_bytes((people / "person1.png").read_bytes())
    assert len(read_references(people)) == 3
    file = tmp_path / "prompts.txt"
    file.write_text("\ufeffa smile\n\n# a remark\n  a walk  \na smile\n", encoding="utf-8")
    assert read_prompts(file) == ["a smile", "a walk"]


def test_only_what_leads_to_the_video_and_the_latent_is_sent():
    classes = {node["class_type"] for node in load_workflow(BUNDLED).values()}
    assert {"SaveVideo", "SaveLatent", "FantasyIDFaceVertices"} <= classes
    assert not {"SaveGLB", "FantasyIDVerticesToMesh"} & classes


def test_each_variant_takes_out_its_part_and_nothing_else():
    base = load_workflow(BUNDLED)
    graphs = {key: edited(base, key, 3) for key in VARIANTS}
    assert graphs[FULL] == base
    changed = {
        key: {k for k in {**base, **graph} if base.get(k) != graph.get(k)}
        for key, graph in graphs.items()
    }
    (apply,), (sampler,) = nodes_of(base, "FantasyIDApply"), nodes_of(base, "FantasyIDSampler")
    assert changed["no-face-tokens"] == changed["no-vertex-tokens"] == {apply}
    assert graphs["no-face-tokens"][apply]["inputs"]["looks"] == 0.0
    assert graphs["no-vertex-tokens"][apply]["inputs"]["shape"] == 0.0
    assert changed["shared-layer"] == {apply, "share_layer"}
    assert graphs["shared-layer"]["share_layer"]["inputs"]["share_layer"] == 3
    assert changed["no-face-latent"] == {sampler}
    inputs = graphs["no-face-latent"][sampler]["inputs"]
    (latent,) = nodes_of(base, "FantasyIDFaceLatent")
    texts = [inputs[name][0] for name in ("positive", "negative")]
    assert [base[key]["class_type"] for key in texts] == ["CLIPTextEncode"] * 2
    assert base[texts[1]]["inputs"]["text"] == ""
    assert inputs["latent_image"] == [latent, 2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"variants": ["no-hands"]}, 'variant is "no-hands", expected one of: full, no-face-tok'),
        ({"inputs": {("KSampler", "cfg"): 2}}, "the workflow has no KSampler, whose cfg"),
        ({"inputs": {("FantasyIDSampler", "model"): 2}}, "is linked: it takes no value"),
    ],
)
def test_wishes_without_a_place_are_named(people, change, words):
    with pytest.raises(ValueError, match=words):
        plan(people, **change)


def test_other_files_are_named(people, tmp_path):
    (people / "notes.txt").write_text("no photo", encoding="utf-8")
    with pytest.raises(ValueError, match=r"no photo: notes\.txt: not an image"):
        read_references(people)
    with pytest.raises(FileNotFoundError, match="no file of prompts"):
        read_prompts(tmp_path / "absent.txt")
    for content, words in ((b"\n#x\n", "holds no prompt"), (b"\xff\xfe\xff", "is not UTF-8")):
        (tmp_path / "prompts.txt").write_bytes(content)
        with pytest.raises(ValueError, match=words):
            read_prompts(tmp_path / "prompts.txt")


def test_other_workflows_are_refused_by_name(tmp_path):
    path = tmp_path / "graph.json"
    with pytest.raises(FileNotFoundError, match="there is no workflow"):
        load_workflow(path)
    for content in ({"nodes": []}, []):
        path.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(ValueError, match="is not a workflow in API format"):
            load_workflow(path)
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="the workflow has 0 LoadImage nodes, expected one"):
        load_workflow(path)
