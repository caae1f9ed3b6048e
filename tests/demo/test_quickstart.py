"""The pieces of `quickstart.py`, without any network."""

from __future__ import annotations

import ast
import base64
import hashlib
import importlib.util
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path, PurePosixPath
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo import base, command, environment, host, models, processes, server, submit, suite
from demo.console import Problem, folder_size, size_text
from demo.websocket import CLOSE, PONG, TEXT, WebSocket, build_frame, parse_frame
from demo.workflow import (
    TINY_RUN,
    WORKFLOW,
    Graph,
    Wish,
    adapt,
    labelled,
    load_workflow,
    positive_text_nodes,
)

ROOT = Path(__file__).resolve().parents[2]
TINY = models.Weights("tiny", dict(models.TINY))
posix_only = pytest.mark.skipif(os.name == "nt", reason="POSIX process groups")


@pytest.fixture
def quickstart() -> ModuleType:
    """`quickstart.py` as a module."""
    spec = importlib.util.spec_from_file_location("quickstart", ROOT / "quickstart.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bundled() -> Graph:
    """The workflow that the demo submits."""
    return load_workflow(ROOT / WORKFLOW)


def small_graph() -> Graph:
    """The least graph that the tables fit."""
    return {
        "1": {
            "class_type": "FantasyIDModelLoader",
            "inputs": {"model": "a", "mesh_transforms": ""},
        },
        "2": {"class_type": "LoadImage", "inputs": {"image": "x.png"}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "yes", "clip": ["9", 0]}},
        "4": {"class_type": "CLIPTextEncode", "inputs": {"text": "no", "clip": ["9", 0]}},
        "5": {
            "class_type": "FantasyIDFaceLatent",
            "inputs": {
                "positive": ["3", 0],
                "negative": ["4", 0],
                "width": 720,
                "height": 480,
                "length": 49,
            },
        },
        "6": {
            "class_type": "FantasyIDSampler",
            "inputs": {"positive": ["5", 0], "negative": ["5", 1], "seed": 0, "steps": 50},
        },
        "7": {"class_type": "SaveVideo", "inputs": {"filename_prefix": "video/face"}},
    }


# --- an old Python


def test_the_entry_file_is_readable_by_old_pythons() -> None:
    text = (ROOT / "quickstart.py").read_text(encoding="utf-8")
    ast.parse(text, feature_version=(3, 6))
    future = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    assert [node.module for node in future] == ["demo.command"], (
        "no `from __future__`: 3.6 lacks it"
    )


@pytest.mark.parametrize("version", [(3, 6, 15), (3, 9, 0), (2, 7)])
def test_an_old_python_gets_one_sentence(quickstart: ModuleType, version: tuple[int, ...]) -> None:
    sentence = quickstart.python_problem(version)
    assert "needs Python 3.10 or newer" in sentence
    assert f"this is Python {version[0]}.{version[1]}" in sentence
    assert "\n" not in sentence


def test_a_new_python_gets_none(quickstart: ModuleType) -> None:
    assert quickstart.python_problem((3, 10, 0)) is None
    assert quickstart.python_problem(sys.version_info) is None


def test_the_demo_needs_only_the_standard_library() -> None:
    run_elsewhere = {"contact_sheet.py", "cpu_extras.py", "photo.py", "probe.py"}
    for path in (ROOT / "demo").glob("*.py"):
        if path.name in run_elsewhere:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in names:
                assert name.split(".")[0] in sys.stdlib_module_names, f"{path.name}: {name}"


# --- the workflow


def test_the_bundled_workflow_takes_every_name(bundled: Graph) -> None:
    wish = Wish(TINY, "face.png", prompt="a person sings", seed=7)
    adapted = adapt(bundled, wish)
    by_class = {node["class_type"]: node["inputs"] for node in adapted.values()}
    assert by_class["FantasyIDModelLoader"]["model"] == "tiny-fantasyid"
    assert by_class["CLIPLoader"]["clip_name"] == "tiny_t5xxl.safetensors"
    assert by_class["VAELoader"]["vae_name"] == "tiny_cogvideox_vae.safetensors"
    assert by_class["LoadImage"]["image"] == "face.png"
    latent = by_class["FantasyIDFaceLatent"]
    assert (latent["width"], latent["height"], latent["length"]) == (96, 64, 9)
    assert (by_class["FantasyIDSampler"]["steps"], by_class["FantasyIDSampler"]["seed"]) == (4, 7)
    texts = [adapted[key]["inputs"]["text"] for key in positive_text_nodes(adapted)]
    assert texts == ["a person sings"]


def test_every_file_of_a_tiny_run_says_what_it_is(bundled: Graph) -> None:
    prefixes = [
        node["inputs"]["filename_prefix"]
        for node in adapt(bundled, Wish(TINY, "face.png")).values()
        if "filename_prefix" in node["inputs"]
    ]
    assert prefixes
    assert all(models.TINY_LABEL in prefix for prefix in prefixes)


def test_real_weights_keep_the_released_size(bundled: Graph) -> None:
    weights = models.Weights("real", {role: f"real_{role}" for role in models.TINY})
    adapted = adapt(bundled, Wish(weights, "face.png"))
    for key, node in adapted.items():
        for (class_type, name), _ in TINY_RUN.items():
            if node["class_type"] == class_type:
                assert node["inputs"][name] == bundled[key]["inputs"][name]


def test_adapting_leaves_the_original_alone() -> None:
    graph = small_graph()
    adapt(graph, Wish(TINY, "face.png", "other words", 3))
    assert graph == small_graph()


def test_only_the_positive_prompt_changes() -> None:
    adapted = adapt(small_graph(), Wish(TINY, "face.png", "other words"))
    assert adapted["3"]["inputs"]["text"] == "other words"
    assert adapted["4"]["inputs"]["text"] == "no"


def test_an_input_that_is_not_there_is_named() -> None:
    graph = small_graph()
    del graph["6"]["inputs"]["steps"]
    with pytest.raises(ValueError, match=r"node 6 \(FantasyIDSampler\).*no input 'steps'.*seed"):
        adapt(graph, Wish(TINY, "face.png"))


def test_a_linked_input_is_not_overwritten() -> None:
    graph = small_graph()
    graph["6"]["inputs"]["steps"] = ["8", 0]
    with pytest.raises(ValueError, match=r"'steps' of node 6 .* is a link"):
        adapt(graph, Wish(TINY, "face.png"))


def test_a_workflow_without_the_sampler_is_refused() -> None:
    graph = small_graph()
    del graph["6"]
    with pytest.raises(ValueError, match="has no FantasyIDSampler"):
        adapt(graph, Wish(TINY, "face.png"))


def test_labels_stay_in_their_folder() -> None:
    assert labelled("video/face") == "video/tiny_random_weights_face"
    assert labelled("face") == "tiny_random_weights_face"


def test_a_missing_workflow_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"none\.json is missing"):
        load_workflow(tmp_path / "none.json")


# --- the network, the disk, broken files


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("WARNING: Retrying ... Temporary failure in name resolution\nERROR: No matching "
         "distribution found for torch", "index could not be reached while fetching X"),
        ("NewConnectionError: [Errno 111] Connection refused", "index could not be reached"),
        ("ERROR: Could not install: [Errno 28] No space left on device", "The disk is full"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM", "download was broken"),
        ("ERROR: No matching distribution found for torch==2.13.0", "another Python may have it"),
        ("ERROR: something else\n", "could not fetch X: something else"),
        ("", "without a reason"),
    ],
)  # fmt: skip
def test_pip_failures_become_one_sentence(output: str, sentence: str, tmp_path: Path) -> None:
    problem = environment.pip_problem(output, "X", tmp_path / "pip.log")
    assert sentence in str(problem)
    assert "\n" not in str(problem)
    assert problem.code == 2


def test_too_little_disk_is_told_with_both_sizes(tmp_path: Path) -> None:
    environment.check_disk(tmp_path, 1)
    with pytest.raises(Problem, match=r"1000000000\.00 GB are needed in .* are free"):
        environment.check_disk(tmp_path, 10**18)


def test_a_wrong_hash_deletes_the_file(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(b"not what was asked for")
    with pytest.raises(Problem, match=r"a\.tar\.gz was broken.*deleted, run the command again"):
        host.check_archive(archive)
    assert not archive.exists()


def test_the_right_hash_keeps_the_file(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(b"as asked for")
    host.check_archive(archive, hashlib.sha256(b"as asked for").hexdigest())
    assert archive.exists()


def write_tar(path: Path, members: dict[str, bytes | None]) -> None:
    """A gzipped tar; content None makes a symbolic link."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if content is None:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def test_one_folder_of_an_archive_is_unpacked(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tgz", {"p/in/x.py": b"1", "p/in/deep/y.py": b"2", "p/out.py": b"3"})
    host.unpack(tmp_path / "a.tgz", PurePosixPath("p/in"), tmp_path / "target")
    found = {path.name: path.read_bytes() for path in (tmp_path / "target").rglob("*.py")}
    assert found == {"x.py": b"1", "y.py": b"2"}
    assert not (tmp_path / "target.partial").exists()


@pytest.mark.parametrize(
    "members",
    [
        {"p/in/../../../evil": b"x"},
        {"/p/in/evil": b"x"},
        {"p/in/ok": b"x", "p/in/..\\evil": b"x"},
        {"p/in/link": None},
        {"elsewhere/x": b"x"},
    ],
)
def test_an_unsafe_or_empty_archive_leaves_nothing(
    members: dict[str, bytes | None], tmp_path: Path
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    write_tar(folder / "a.tgz", members)
    with pytest.raises(Problem, match=r"unsafe path|link or device|no folder"):
        host.unpack(folder / "a.tgz", PurePosixPath("p/in"), folder / "target")
    assert [path.name for path in folder.iterdir()] == ["a.tgz"]
    assert [path.name for path in tmp_path.iterdir()] == ["work"]


def test_an_old_comfyui_is_refused_with_its_version(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"main.py and comfyui_version.py not found"):
        host.users_comfyui(tmp_path)
    (tmp_path / "main.py").touch()
    (tmp_path / "comfyui_version.py").write_text('__version__ = "0.3.51"\n', encoding="utf-8")
    with pytest.raises(Problem, match=r"is version 0\.3\.51 and 0\.30\.0 or newer is needed"):
        host.users_comfyui(tmp_path)
    (tmp_path / "comfyui_version.py").write_text('__version__ = "0.31.2"\n', encoding="utf-8")
    assert host.users_comfyui(tmp_path) == tmp_path.resolve()


# --- the environment


def test_the_stamp_follows_the_lists_and_the_python(tmp_path: Path) -> None:
    venv, listing = tmp_path / "venv", tmp_path / "list.txt"
    venv.mkdir()
    listing.write_text("a==1\n", encoding="utf-8")
    (venv / "pyvenv.cfg").write_text("home = /x\nversion = 3.11.7\n", encoding="utf-8")
    assert not environment.is_stamped(venv, "host", (listing,))
    environment.write_stamp(venv, "host", (listing,))
    assert environment.is_stamped(venv, "host", (listing,))
    assert not environment.is_stamped(venv, "test", (listing,))
    listing.write_text("a==2\n", encoding="utf-8")
    assert not environment.is_stamped(venv, "host", (listing,))
    listing.write_text("a==1\n", encoding="utf-8")
    (venv / "pyvenv.cfg").write_text("home = /x\nversion = 3.12.1\n", encoding="utf-8")
    assert not environment.is_stamped(venv, "host", (listing,))


def test_an_interpreter_that_does_not_run_is_none(tmp_path: Path) -> None:
    assert environment.inspect_python(tmp_path / "python") is None


def test_links_are_kept_renewed_and_never_followed_by_removal(tmp_path: Path) -> None:
    first, second, link = tmp_path / "first", tmp_path / "second", tmp_path / "link"
    for folder in (first, second):
        folder.mkdir()
        (folder / "file.txt").write_text(folder.name, encoding="utf-8")
    assert base.link_folder(link, first) in ("symlink", "junction", "copy")
    assert base.link_folder(link, first) in ("kept", "copy")
    base.link_folder(link, second)
    assert (link / "file.txt").read_text(encoding="utf-8") == "second"
    assert (first / "file.txt").is_file()


def test_a_photo_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"There is no photo at .*me\.jpg: give --photo"):
        base.given_photo(tmp_path / "me.jpg")
    (tmp_path / "me.jpg").touch()
    assert base.given_photo(tmp_path / "me.jpg") == (tmp_path / "me.jpg").resolve()


def test_sizes_are_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(1500))
    assert size_text(folder_size(tmp_path)) == "2 kB"
    assert size_text(1_760_000_000) == "1.76 GB"


def test_missing_real_files_are_all_named_with_their_places(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    (folder / "fantasyid" / "FantasyID" / "transformer").mkdir(parents=True)
    (folder / "vae").mkdir()
    (folder / "vae" / "cogvideox_vae.safetensors").touch()
    with pytest.raises(Problem, match=r"5 of 7 model files are missing") as caught:
        models.real_weights(folder, tmp_path)
    text = str(caught.value)
    for words in ("EVA02_CLIP_L_336", "deca_model.tar", "generic_model.pkl", "t5xxl_fp16"):
        assert words in text
    assert str(folder / "text_encoders") in text
    assert "VAE" not in text


def test_real_files_are_found_and_listed_for_the_server(tmp_path: Path) -> None:
    folder = tmp_path / "my models"
    (folder / "fantasyid" / "FantasyID" / "transformer").mkdir(parents=True)
    for name in (
        "fantasyid/EVA02_CLIP_L_336_psz14_s6B.pt",
        "fantasyid/deca_model.tar",
        "fantasyid/flame/generic_model.pkl",
        "fantasyid/transform.pkl",
        "text_encoders/t5xxl_fp16.safetensors",
        "vae/CogVideoX_vae.safetensors",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    weights = models.real_weights(folder, tmp_path)
    assert weights.names["model"] == "FantasyID"
    assert weights.names["flame"] == "flame/generic_model.pkl"
    assert weights.names["vae"] == "CogVideoX_vae.safetensors"
    assert not weights.tiny
    listing = Path(weights.server_options[1]).read_text(encoding="utf-8")
    assert json.dumps(str(folder.resolve())) in listing


# --- the server


def test_a_taken_port_gets_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Problem, match=f"Port {port} is taken: choose another with --port"):
            server.choose_port(port)


def test_a_free_port_can_be_bound() -> None:
    port = server.choose_port(None)
    assert port > 1023
    assert server.choose_port(port) == port


def test_a_port_that_cannot_exist_is_told() -> None:
    with pytest.raises(Problem, match="Port 70000 does not exist"):
        server.choose_port(70000)


def test_a_server_that_dies_shows_its_last_words(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    dying = [sys.executable, "-c", "print('the reason'); raise SystemExit(3)"]
    with (
        pytest.raises(Problem, match=r"ended by itself with code 3(.|\n)*the reason"),
        server.Server(dying, tmp_path, server.choose_port(None), log),
    ):
        pytest.fail("it must not count as started")


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.is_file() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_for(condition: object, seconds: float = 10.0) -> bool:
    """Poll a function until it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if callable(condition) and condition():
            return True
        time.sleep(0.02)
    return False


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
def test_stopping_ends_the_whole_group(manner: str, tmp_path: Path) -> None:
    note = tmp_path / "child.pid"
    parent = [sys.executable, "-c", PARENT, str(note), manner]
    process = processes.start_group(parent, tmp_path, tmp_path / "log")
    assert wait_for(lambda: note.is_file() and note.read_text().strip())
    child = int(note.read_text())
    assert alive(child)
    processes.stop_group(process, patience_s=0.5)
    assert process.poll() is not None
    assert wait_for(lambda: not alive(child))
    processes.stop_group(process)  # once more does no harm


RUNNER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from demo import processes, server
processes.listen_for_end()
folder = Path(sys.argv[2])
sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
started = server.Server(sleeper, folder, 1, folder / "log")
started._wait = lambda: None
try:
    with started:
        (folder / "pid").write_text(str(started.process.pid))
        import time; time.sleep(60)
except KeyboardInterrupt:
    sys.exit(130)
"""


@posix_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_end_leaves_no_server(number: signal.Signals, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", RUNNER, str(ROOT), str(tmp_path)]) as demo:
        note = tmp_path / "pid"
        assert wait_for(lambda: note.is_file() and note.read_text().strip())
        pid = int(note.read_text())
        demo.send_signal(number)
        assert demo.wait(20) == 130
    assert wait_for(lambda: not alive(pid))


@posix_only
def test_a_request_to_end_is_only_put_off_while_undisturbed() -> None:
    done: list[bool] = []

    def work() -> None:
        with processes.undisturbed():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            done.append(True)

    with pytest.raises(KeyboardInterrupt, match="SIGINT"):
        work()
    assert done == [True]


# --- the websocket


@given(
    st.binary(max_size=200) | st.sampled_from([bytes(125), bytes(126), bytes(65535), bytes(70000)]),
    st.binary(min_size=4, max_size=4),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_frame_reads_back_and_waits_for_its_end(payload: bytes, mask: bytes) -> None:
    data = build_frame(TEXT, payload, mask)
    parsed = parse_frame(data + b"next")
    assert parsed is not None
    frame, used = parsed
    assert (frame.final, frame.opcode, frame.payload, used) == (True, TEXT, payload, len(data))
    assert all(parse_frame(data[:end]) is None for end in {0, 1, 3, len(data) - 1})


def test_frames_of_the_standard() -> None:
    """The examples of RFC 6455 section 5.7."""
    plain = parse_frame(bytes.fromhex("810548656c6c6f"))
    masked = parse_frame(bytes.fromhex("818537fa213d7f9f4d5158"))
    first = parse_frame(bytes.fromhex("010348656c"))
    assert plain is not None
    assert masked is not None
    assert first is not None
    assert plain[0].payload == masked[0].payload == b"Hello"
    assert first[0] == type(first[0])(False, TEXT, b"Hel")


def serve_once(listener: socket.socket, frames: bytes, heard: list[bytes]) -> None:
    """Accept one websocket, send frames, keep what comes back."""
    connection, _ = listener.accept()
    with connection:
        request = connection.recv(4096).decode()
        key = next(
            line.split(": ")[1]
            for line in request.split("\r\n")
            if line.startswith("Sec-WebSocket-Key")
        )
        digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        answer = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: "
        connection.sendall((answer + base64.b64encode(digest).decode() + "\r\n\r\n").encode())
        for at in range(0, len(frames), 3):  # in crumbs
            connection.sendall(frames[at : at + 3])
        heard.append(connection.recv(100))


def test_a_connection_reads_text_and_answers_pings() -> None:
    frames = bytes([0x82, 2, 1, 2])  # a picture, passed over
    frames += bytes([0x01, 3]) + b"one" + bytes([0x89, 1]) + b"p" + bytes([0x80, 4]) + b" two"
    frames += bytes([0x80 | CLOSE, 0])
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=serve_once, args=(listener, frames, heard))
        thread.start()
        connection = WebSocket(port, "/ws")
        assert connection.receive(5) == "one two"
        with pytest.raises(ConnectionError, match="closed"):
            connection.receive(5)
        thread.join(5)
        connection.close()
    pong = parse_frame(heard[0])
    assert pong is not None
    assert (pong[0].opcode, pong[0].payload) == (PONG, b"p")


# --- what the server answers


def test_refused_inputs_are_told_by_node_input_and_message() -> None:
    answer = {
        "error": {"message": "Prompt outputs failed validation", "details": ""},
        "node_errors": {
            "6": {
                "class_type": "FantasyIDSampler",
                "errors": [
                    {
                        "message": "Value 0 smaller than min of 1",
                        "details": "steps",
                        "extra_info": {"input_name": "steps"},
                    }
                ],
            }
        },
    }
    rows = submit.error_rows(answer, small_graph())
    assert rows == [
        "    node 6 (FantasyIDSampler), input 'steps': Value 0 smaller than min of 1: steps"
    ]
    assert submit.error_rows({"prompt_id": "x", "node_errors": {}}, small_graph()) == []
    assert submit.error_rows({"error": "no prompt"}, {}) == ["    no prompt"]


def test_a_failed_node_is_told_by_its_title() -> None:
    graph = {"3": {"class_type": "A", "inputs": {}, "_meta": {"title": "Align the face"}}}
    data = {"node_id": "3", "exception_type": "ValueError", "exception_message": "no face\n"}
    problem = submit.run_failed(data, graph)
    assert str(problem) == "Node 3 (Align the face) failed with ValueError: no face"
    assert problem.code == 1


def test_a_long_error_message_is_cut() -> None:
    data = {"node_id": "3", "exception_type": "a.B", "exception_message": "row\n" * 100}
    text = str(submit.run_failed(data, {}))
    assert text.count("\n") == submit.MOST_LINES
    assert text.endswith("and 94 more lines in the server's log")


# --- the command line


def test_pytest_gets_every_option_that_is_not_ours() -> None:
    options, rest = suite.split_arguments(["--comfyui", "x", "-k", "mesh", "tests/face", "-vv"])
    assert (options.comfyui, rest) == (Path("x"), ["-k", "mesh", "tests/face", "-vv"])


def test_a_problem_is_one_line_and_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    before = {number: signal.getsignal(number) for number in processes.ENDS}
    try:
        code = command.main(["--port", "70000"])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    said = capsys.readouterr()
    assert code == 2
    assert said.err.startswith("quickstart: Port 70000 does not exist")
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err
