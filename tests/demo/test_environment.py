"""The first half of the demo, without any network: what it checks, fetches and says."""

from __future__ import annotations

import ast
import os
import shutil
import socket
import sys
from pathlib import Path

import pytest

import quickstart
from demo import checks, comfyui, command, environment, suite
from demo.console import Problem, exit_code, folder_size, in_words

ROOT = Path(__file__).resolve().parents[2]


# --- before the environment there is


@pytest.mark.parametrize(
    ("version", "said"),
    [((3, 6, 15), "this is Python 3.6"), ((2, 7), "this is Python 2.7"), ((3, 9, 0), "3.9")],
)
def test_an_old_python_gets_one_sentence(version: tuple[int, ...], said: str):
    sentence = quickstart.python_problem(version) or ""
    assert "needs Python 3.10 or newer" in sentence
    assert said in sentence
    assert "\n" not in sentence
    assert quickstart.python_problem((3, 10, 0)) is quickstart.python_problem((3, 14)) is None


def test_the_entry_file_is_readable_by_old_pythons():
    tree = ast.parse((ROOT / "quickstart.py").read_text("utf-8"), feature_version=(3, 6))
    found = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert found == ["demo.command"], "no `from __future__`: 3.6 lacks it"


def imported_at_once(name: str) -> set[str]:
    """What a module of ours imports when it is imported, from the root, folders on the way too."""
    path = ROOT / name.replace(".", "/")
    folder = name if path.is_dir() else name.rpartition(".")[0]
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found = {folder, folder.partition(".")[0]} - {name, ""}
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = folder.split(".")[: len(folder.split(".")) - node.level + 1]
            module = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            inside = {f"{module}.{alias.name}" for alias in node.names}
            found |= {module, *(m for m in inside if list(ROOT.glob(m.replace(".", "/") + ".py")))}
    return found


def test_the_first_half_needs_only_the_standard_library():
    reached, waiting = set(), {"demo.command", "demo.probe"}
    while waiting:
        name = waiting.pop()
        reached.add(name)
        found = imported_at_once(name)
        own = {other for other in found if other.split(".")[0] in ("demo", "fantasyid")}
        assert {other.split(".")[0] for other in found - own} <= sys.stdlib_module_names, name
        waiting |= own - reached
    assert {"demo.environment", "demo.comfyui", "demo.models", "fantasyid.weights"} <= reached
    assert not {"demo.server", "demo.results"} & reached


def test_a_taken_port_gets_one_sentence():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Problem, match=f"Port {port} is taken: choose another with --port"):
            checks.choose_port(port)
    with pytest.raises(Problem, match="Port 70000 does not exist"):
        checks.choose_port(70000)
    free = checks.choose_port(None)
    assert checks.choose_port(free) == free > 1023


def test_what_is_missing_is_told_before_anything_is_fetched(tmp_path: Path):
    checks.check_disk(tmp_path, 1)
    with pytest.raises(Problem, match=r"GB are needed in .* are free"):
        checks.check_disk(tmp_path, 10**18)
    with pytest.raises(Problem, match=r"There is no photo at .*me\.jpg: give --photo"):
        checks.check_photo(tmp_path / "me.jpg")
    (tmp_path / "me.jpg").touch()
    checks.check_photo(tmp_path / "me.jpg")
    (tmp_path / "a").write_bytes(bytes(1500))
    assert in_words(folder_size(tmp_path)) == "1.5 kB"


# --- the command line


@pytest.mark.parametrize(
    ("failure", "code", "said"),
    [
        (Problem("Something.", code=1), 1, "quickstart: Something.\n"),
        (OSError(28, "No space left on device"), 2, "quickstart: The disk is full: free some"),
        (OSError(13, "Permission denied", "x"), 2, "quickstart: Permission denied: x\n"),
        (KeyboardInterrupt("SIGINT"), 130, "quickstart: stopped on request; no server is left"),
    ],
)
def test_a_failure_is_one_line_and_a_code(
    failure: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
):
    def fail() -> int:
        raise failure

    assert exit_code(fail, verbose=False) == code
    error = capsys.readouterr().err
    assert error.startswith(said)
    assert error.count("\n") == 1


def test_options_reach_the_second_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("python").symlink_to(sys.executable)
    given = ["--photo", "me.jpg", "--prompt=-- a smile", "--seed", "0", "--python", "python"]
    options = command.parser().parse_args([*given, "--verbose"])
    monkeypatch.chdir(ROOT)
    again = command.parser().parse_args(command.arguments_of(options))
    assert vars(again) == vars(options)
    assert (again.photo, again.prompt, again.seed) == (tmp_path / "me.jpg", "-- a smile", 0)
    assert again.python == tmp_path / "python"  # by its link it finds its environment
    assert again.output == ROOT / "quickstart_output"


def test_pytest_gets_every_option_that_is_not_ours():
    options, rest = suite.split_arguments(["--comfyui", "x", "-k", "mesh", "tests/face", "-vv"])
    assert (options.comfyui, rest) == (Path("x"), ["-k", "mesh", "tests/face", "-vv"])


# --- the environment


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
def test_pip_failures_become_one_sentence(output: str, sentence: str, tmp_path: Path):
    problem = environment.pip_problem(output, "X", tmp_path / "pip.log")
    assert sentence in str(problem)
    assert "\n" not in str(problem)
    assert problem.code == 2


def test_the_stamp_follows_the_lists_and_the_python(tmp_path: Path):
    listing, stamp = tmp_path / "list.txt", tmp_path / "stamp.json"
    listing.write_text("a==1\n", encoding="utf-8")
    python = environment.Interpreter(tmp_path, "3.11.7", "2.13.0", False, [])
    other = environment.Interpreter(tmp_path, "3.12.1", "2.13.0", False, [])
    assert not environment.is_stamped(stamp, python, listing)
    stamp.write_text(environment.stamp_of(python, listing), encoding="utf-8")
    assert environment.is_stamped(stamp, python, listing)
    assert not environment.is_stamped(stamp, other, listing)
    listing.write_text("a==2\n", encoding="utf-8")
    assert not environment.is_stamped(stamp, python, listing)


def test_an_interpreter_tells_what_it_lacks(tmp_path: Path):
    assert environment.inspect_python(tmp_path / "python") is None
    found = environment.inspect_python(Path(sys.executable), "numpy", "nobody-has-this")
    assert found is not None
    assert found.missing == ["nobody-has-this"]
    assert found.torch.startswith("2.")
    names = environment.packages_of(environment.HOST_LIST, environment.WITHOUT_DEPENDENCIES)
    assert {"torch", "torchvision", "scikit-image", "pydantic-settings"} <= set(names)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="stands in for the interpreter with a shell script")
@pytest.mark.parametrize(
    "answer", ["", '{"version": "3", "torch": "", "cuda": 0, "missing": ["pip"]}']
)
def test_an_environment_without_pip_is_made_anew(
    answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What is left of a making that was cut off is not tried again and again."""
    python = environment.python_of(tmp_path / ".venv")
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\necho '{answer}'\n")
    python.chmod(0o755)
    left = tmp_path / ".venv" / "left"
    left.touch()
    monkeypatch.setattr(environment, "check_disk", lambda *_: None)
    # A list that pip refuses without looking at the network.
    monkeypatch.setattr(environment, "WITHOUT_DEPENDENCIES", tmp_path / "list.txt")
    (tmp_path / "list.txt").write_text("not a requirement !\n")
    with pytest.raises(Problem, match="pip could not fetch torchvision and torchaudio"):
        environment.ensure_venv(tmp_path, tests=False, verbose=False)
    assert not left.exists()
    assert (tmp_path / ".venv" / "pyvenv.cfg").is_file()


# --- ComfyUI


def test_one_folder_of_an_archive_is_unpacked_or_nothing(tmp_path: Path):
    for name in ("p/in/x.py", "p/in/deep/y.py", "p/out.py"):
        (tmp_path / "made" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "made" / name).write_text(name)
    archive = Path(shutil.make_archive(str(tmp_path / "a"), "gztar", tmp_path / "made"))
    comfyui.unpack(archive, "p/in", tmp_path / "target")
    found = {path.name: path.read_text() for path in (tmp_path / "target").rglob("*.py")}
    assert found == {"x.py": "p/in/x.py", "y.py": "p/in/deep/y.py"}
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(Problem, match=r"a\.tar\.gz cannot be unpacked"):
        comfyui.unpack(archive, "p/in", tmp_path / "other")
    assert {path.name for path in tmp_path.iterdir()} == {"made", "target", archive.name}


def test_an_old_comfyui_is_refused_with_its_version(tmp_path: Path):
    with pytest.raises(Problem, match=r"main.py and comfyui_version.py not found"):
        comfyui.check_comfyui(tmp_path)
    (tmp_path / "main.py").touch()
    version = tmp_path / "comfyui_version.py"
    version.write_text('__version__ = "0.3.51"\n', encoding="utf-8")
    with pytest.raises(Problem, match=r"is version 0\.3\.51 and 0\.30\.0 or newer is needed"):
        comfyui.check_comfyui(tmp_path)
    version.write_text('__version__ = "0.31.2"\n', encoding="utf-8")
    comfyui.check_comfyui(tmp_path)
