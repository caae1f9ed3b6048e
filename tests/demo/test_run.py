"""The second half of the demo: folders, models, graph, server, results."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from PIL import Image

from demo import folders, models, processes, progress, results, workflow
from demo.__main__ import WORKFLOW
from demo.console import Problem
from demo.server import Server, stop_tree
from fantasyid.evaluation.answers import Ending, Graph, Result

ROOT = Path(__file__).resolve().parents[2]
REAL = {role: f"real_{role}" for role in models.TINY}
posix_only = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


@pytest.fixture
def bundled() -> Graph:
    """The workflow that the demo submits."""
    return json.loads((ROOT / WORKFLOW).read_text("utf-8"))


# --- the graph


def test_the_bundled_workflow_takes_every_name(bundled: Graph):
    before = json.dumps(bundled)
    adapted = workflow.adapt(bundled, models.TINY, "face.png", "a person sings", 7, tiny=True)
    assert json.dumps(bundled) == before
    by_class = {node["class_type"]: node["inputs"] for node in adapted.values()}
    named = {role: by_class[kind][name] for (kind, name), role in workflow.MODEL_FILES.items()}
    assert named == models.TINY
    assert by_class["LoadImage"]["image"] == "face.png"
    latent = by_class["FantasyIDFaceLatent"]
    assert (latent["width"], latent["height"], latent["length"]) == (96, 64, 9)
    assert (by_class["FantasyIDSampler"]["steps"], by_class["FantasyIDSampler"]["seed"]) == (4, 7)
    texts = {key: node["inputs"].get("text") for key, node in adapted.items()}
    changed = [key for key, text in texts.items() if text != bundled[key]["inputs"].get("text")]
    assert [texts[key] for key in changed] == ["a person sings"]  # the negative prompt stays
    assert changed == [latent["positive"][0]]


def test_every_file_of_a_tiny_run_says_what_it_is(bundled: Graph):
    adapted = workflow.adapt(bundled, models.TINY, "face.png", tiny=True)
    prefixes = [n["inputs"].get("filename_prefix", "-") for n in adapted.values()]
    names = [prefix.rpartition("/")[2] for prefix in prefixes if prefix != "-"]
    assert len(names) >= 2
    assert all(name.startswith("tiny_random_weights_") for name in names)


def test_real_weights_keep_the_released_size(bundled: Graph):
    adapted = workflow.adapt(bundled, REAL, "photo.png")
    for (kind, name), role in workflow.MODEL_FILES.items():
        for key, node in adapted.items():
            if node["class_type"] == kind:
                assert node["inputs"][name] == REAL[role]
                node["inputs"][name] = bundled[key]["inputs"][name]
    assert adapted == bundled


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda node: node["inputs"].pop("steps", 0), "no FantasyIDSampler with .* 'steps'"),
        (lambda node: node["inputs"].update(steps=["8", 0]), "no FantasyIDSampler with .* 'steps'"),
        (lambda node: node["inputs"].pop("positive", 0), "no CLIPTextEncode"),
    ],
)
def test_a_workflow_that_does_not_fit_is_told(bundled: Graph, spoil, words: str):
    for node in bundled.values():
        if "positive" in node["inputs"]:
            spoil(node)
    with pytest.raises(ValueError, match=words):
        workflow.adapt(bundled, models.TINY, "face.png", "words", tiny=True)


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
    "vae/tiny_cogvideox_vae.safetensors",
)


def test_real_files_are_found_and_listed_for_the_server(tmp_path: Path):
    folder, listing = tmp_path / "my models", tmp_path / "paths.yaml"
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    found = models.find_real(folder)
    assert set(found) == set(models.TINY)
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


# --- the server and its end


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> bool:
    """Poll a function until it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def pid_in(note: Path) -> int:
    """The process id that a process is about to write."""
    assert wait_for(lambda: note.is_file() and note.read_text().strip())
    return int(note.read_text())


def gone(pid: int) -> bool:
    """Whether a process comes to its end (a zombie has)."""
    zombie = psutil.STATUS_ZOMBIE
    return wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == zombie)


PARENT = """
import signal, subprocess, sys, time
if sys.argv[2] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open(sys.argv[1], "w").write(str(child.pid))
time.sleep(60)
"""


@posix_only
@pytest.mark.parametrize("manner", ["polite", "stubborn"])
def test_stopping_ends_the_whole_family(manner: str, tmp_path: Path):
    process = psutil.Popen([sys.executable, "-c", PARENT, str(tmp_path / "pid"), manner])
    child = pid_in(tmp_path / "pid")
    assert psutil.pid_exists(child)
    stop_tree(process, timeout_s=0.5)
    assert process.poll() is not None
    assert gone(child)
    stop_tree(process)  # once more does no harm


def test_a_server_that_dies_shows_its_last_words(tmp_path: Path):
    (tmp_path / "main.py").write_text("print('the reason'); raise SystemExit(3)")
    with (
        pytest.raises(Problem, match=r"ended by itself with code 3(.|\n)*the reason"),
        Server(tmp_path, tmp_path),
    ):
        pytest.fail("it must not count as started")


RUNNER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from demo.console import exit_code
from demo.processes import listen_for_end
from demo.server import Server
listen_for_end()
folder = Path(sys.argv[2])
def work():
    with Server(folder, folder):  # which never answers
        return 0
sys.exit(exit_code(work, False))
"""
SLEEPER = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"


@posix_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_end_leaves_no_server(number: signal.Signals, tmp_path: Path):
    (tmp_path / "main.py").write_text(SLEEPER)
    with subprocess.Popen([sys.executable, "-c", RUNNER, str(ROOT), str(tmp_path)]) as demo:
        pid = pid_in(tmp_path / "pid")
        demo.send_signal(number)
        assert demo.wait(20) == 130
    assert gone(pid)


@posix_only
def test_a_request_to_end_is_only_put_off():
    done: list[bool] = []

    def work():
        with processes.delayed_interrupts():
            os.kill(os.getpid(), signal.SIGINT)
            done.append(True)

    with pytest.raises(KeyboardInterrupt, match="SIGINT"):
        work()
    assert done == [True]


@posix_only
def test_the_first_half_gives_its_place_to_the_second(tmp_path: Path):
    script = "from demo.processes import hand_over; import sys; from pathlib import Path\n"
    script += "hand_over([sys.executable, 'main.py'], Path(sys.argv[1]))"
    (tmp_path / "main.py").write_text(SLEEPER + "; raise SystemExit(7)")
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT) as process:
        assert pid_in(tmp_path / "pid") == process.pid  # what is killed is the second half
        process.kill()


# --- what comes back


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (1, "Node 3 (Align the face) failed with ValueError: row"),
        (100, "and 94 more lines in the server's log"),
    ],
)
def test_a_failed_node_is_told_by_its_title(lines: int, told: str):
    graph = {"3": {"class_type": "A", "inputs": {}, "_meta": {"title": "Align the face"}}}
    error = {"node_id": "3", "exception_type": "a.ValueError", "exception_message": "row\n" * lines}
    problem = progress.node_failed(error, graph)
    assert str(problem).endswith(told)
    assert str(problem).count("\n") == min(lines - 1, progress.MOST_LINES)
    assert problem.code == 1


@pytest.mark.parametrize("inputs", [{"width": -1}, {"width": 8, "height": 8, "batch_size": 1}])
def test_a_prompt_is_run_or_its_refusal_told(
    inputs: dict[str, int], server: Server, capsys: pytest.CaptureFixture[str]
):
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": {"color": 77_011, **inputs}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    if inputs["width"] < 0:
        with pytest.raises(
            Problem, match=r"did not accept the workflow:\n(.|\n)*input width: Value -1"
        ):
            progress.run_prompt(server, graph)
    else:
        assert progress.run_prompt(server, graph).ending is Ending.SUCCESS
        assert "[ 2/2]" in capsys.readouterr().out


def test_results_are_copied_never_replaced(tmp_path: Path):
    import av
    import numpy as np

    base, folder = tmp_path / "base", tmp_path / "results"
    (base / "output" / "video").mkdir(parents=True)
    made = {"filename": "a.mp4", "subfolder": "video", "type": "output"}
    result = Result(Ending.SUCCESS, {"7": {"images": [made]}})
    with pytest.raises(Problem, match="ended without saving a video"):
        results.collect(result, base, folder, tiny=True)
    (base / "output" / "video" / "a.mp4").write_bytes(b"no video")
    with pytest.raises(Problem, match=r"00001\.mp4 could not be decoded"):
        results.collect(result, base, folder, tiny=True)
    with av.open(str(base / "output" / "video" / "a.mp4"), "w") as video:
        stream = video.add_stream("h264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for value in range(20):
            picture = np.full((64, 96, 3), 10 * value, np.uint8)
            video.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        video.mux(stream.encode())
    found = results.collect(result, base, folder, tiny=True)
    assert (found["frames"], found["size"], found["fps"], found["mesh"]) == (20, [96, 64], 8, None)
    assert found["video"].endswith("tiny_random_weights_00002.mp4")
    with Image.open(found["contact_sheet"]) as sheet:
        assert sheet.size == (8 + 4 * 392, 40 + 4 * 296)  # 16 frames, four times as large
