"""The second half of the demo: folders, models, graph, results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from video_files import write_video

from demo import folders, mini, models, results, workflow
from demo.__main__ import WORKFLOW
from demo.console import Problem
from fantasyid.evaluation.answers import Ending, Graph, Result

ROOT = Path(__file__).resolve().parents[2]
REAL = {role: f"real_{role}" for role in models.REAL}


@pytest.fixture
def bundled() -> Graph:
    """The workflow that the demo submits."""
    return json.loads((ROOT / WORKFLOW).read_text("utf-8"))


# --- the graph


def test_real_weights_keep_the_released_size(bundled: Graph):
    before = json.dumps(bundled)
    adapted = workflow.adapt(bundled, REAL, "photo.png", "a person sings", 7)
    assert json.dumps(bundled) == before
    by_class = {node["class_type"]: node["inputs"] for node in adapted.values()}
    named = {role: by_class[kind][name] for (kind, name), role in workflow.MODEL_FILES.items()}
    assert named == REAL
    assert by_class["LoadImage"]["image"] == "photo.png"
    assert by_class["FantasyIDSampler"]["seed"] == 7
    latent = by_class["FantasyIDFaceLatent"]
    assert (latent["width"], latent["height"], latent["length"]) == (720, 480, 49)
    texts = {key: node["inputs"].get("text") for key, node in adapted.items()}
    changed = [key for key, text in texts.items() if text != bundled[key]["inputs"].get("text")]
    assert [texts[key] for key in changed] == ["a person sings"]  # the negative prompt stays
    assert changed == [latent["positive"][0]]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda node: node.update(class_type="x" + node["class_type"]), "has no LoadImage"),
        (lambda node: node["inputs"].update(vae_name=["8", 0]), r"vae_name of node .* is linked"),
        (lambda node: node["inputs"].pop("positive", 0), "no CLIP Text Encode"),
    ],
)
def test_a_workflow_that_does_not_fit_is_told(bundled: Graph, spoil, words: str):
    for node in bundled.values():
        if node["class_type"] == "LoadImage":
            node["inputs"] = {"image": node["inputs"]["image"]}
        spoil(node)
    with pytest.raises(ValueError, match=words):
        workflow.adapt(bundled, REAL, "face.png", "words")


def test_the_mini_model_makes_two_people_with_two_prompts():
    takes = mini.takes(None, photo=False)
    assert [(t.person, t.prompt) for t in takes] == [
        (person, prompt) for prompt in mini.PROMPTS for person in mini.PEOPLE
    ]
    graph = mini.graph_of(takes[3], None, 7)
    by_class = {node["class_type"]: node["inputs"] for node in graph.values()}
    assert by_class["FantasyIDMiniLoader"]["person"] == mini.PEOPLE[1]
    assert by_class["FantasyIDSampler"]["seed"] == 7
    assert mini.PROMPTS[1] in [node["inputs"].get("text") for node in graph.values()]


def test_a_photo_takes_the_place_of_the_drawn_person():
    (take,) = mini.takes("a person nods", photo=True)
    graph = mini.graph_of(take, "me.png", None)
    faces = [node["inputs"]["face"] for node in graph.values() if "face" in node["inputs"]]
    assert faces == [["align", 0]] * 3
    assert graph["photo"]["inputs"]["image"] == "me.png"


# --- folders and models


def test_links_are_kept_renewed_and_never_followed_by_removal(tmp_path: Path):
    first, second, link = tmp_path / "first", tmp_path / "second", tmp_path / "link"
    for folder in (first, second):
        folder.mkdir()
        (folder / "file.txt").write_text(folder.name, encoding="utf-8")
    for target in (first, first, second):
        folders.link_folder(link, target)
        assert (link / "file.txt").read_text(encoding="utf-8") == target.name
    assert (first / "file.txt").is_file()
    with pytest.raises(OSError, match="first"):
        folders.link_folder(first, second)  # somebody's folder
    assert (first / "file.txt").is_file()


def test_a_photo_is_placed_upright(tmp_path: Path):
    base, photo = folders.prepare_base(tmp_path / "base"), tmp_path / "me.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # a camera that was held on its side
    Image.new("L", (30, 20), 90).save(photo, exif=exif)
    name = folders.place_photo(base, photo)
    with Image.open(base / "input" / name) as placed:
        assert (placed.format, placed.mode, placed.size) == ("PNG", "RGB", (20, 30))
    photo.write_bytes(b"no picture")
    with pytest.raises(Problem, match=r"photo \(.*me\.jpg\) could not be read as an image"):
        folders.place_photo(base, photo)


FILES = (
    "fantasyid/FantasyID/transformer/config.json",
    "fantasyid/EVA02_CLIP_L_336_psz14_s6B.pt",
    "fantasyid/deca_model.tar",
    "fantasyid/flame/generic_model.pkl",
    "fantasyid/transform.pkl",
    "text_encoders/t5xxl_fp16.safetensors",
    "vae/CogVideoX_vae.safetensors",
)


def test_real_files_are_found_and_listed_for_the_server(tmp_path: Path):
    folder, listing = tmp_path / "my models", tmp_path / "paths.yaml"
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    found = models.find_real(folder)
    assert set(found) == set(models.REAL)
    assert found["model"] == "FantasyID"
    assert found["flame"] == "flame/generic_model.pkl"
    assert found["vae"] == "CogVideoX_vae.safetensors"
    assert models.write_model_paths(folder, listing)[1] == str(listing)
    assert json.dumps(str(folder)) in listing.read_text(encoding="utf-8")


def test_missing_real_files_are_all_named_with_their_places(tmp_path: Path):
    with pytest.raises(Problem, match="There is no folder"):
        models.find_real(tmp_path / "none")
    for name in (FILES[0], FILES[6]):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    with pytest.raises(Problem, match=r"5 of 7 model files are missing") as caught:
        models.find_real(tmp_path)
    text = str(caught.value)
    for words in ("EVA02_CLIP_L_336", "deca_model.tar", "generic_model.pkl", "t5xxl_fp16"):
        assert words in text
    assert str(tmp_path / "text_encoders") in text
    assert "VAE" not in text


# --- what comes back


def test_results_are_copied_never_replaced(tmp_path: Path):
    import numpy as np

    base, folder = tmp_path / "base", tmp_path / "results"
    (base / "output" / "video").mkdir(parents=True)
    made = {"filename": "a.mp4", "subfolder": "video", "type": "output"}
    result = Result(Ending.SUCCESS, {"7": {"images": [made]}})
    with pytest.raises(Problem, match="ended without saving a video"):
        results.collect(result, base, folder)
    (base / "output" / "video" / "a.mp4").write_bytes(b"no video")
    with pytest.raises(Problem, match=r"00001\.mp4 could not be decoded"):
        results.collect(result, base, folder)
    pictures = [np.full((64, 96, 3), 10 * value, np.uint8) for value in range(20)]
    write_video(base / "output" / "video" / "a.mp4", pictures)
    found = results.collect(result, base, folder)
    assert (found["frames"], found["size"], found["fps"], found["mesh"]) == (20, [96, 64], 8, None)
    assert found["video"].endswith("fantasyid_00002.mp4")
    with Image.open(found["contact_sheet"]) as sheet:
        assert sheet.size == (8 + 4 * 392, 8 + 4 * 296)  # 16 frames, four times as large
