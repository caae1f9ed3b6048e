"""The demo's server, which never outlives it, and what it says of a prompt."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from demo import processes, progress
from demo.console import Problem
from demo.server import Server, stop_tree
from fantasyid.evaluation.answers import Ending

ROOT = Path(__file__).resolve().parents[2]
posix_only = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


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


@pytest.mark.parametrize("wish", [None, "ACTIVE"])
def test_idle_threads_of_the_server_sleep_unless_told_otherwise(tmp_path: Path, monkeypatch, wish):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if wish:
        monkeypatch.setenv("OMP_WAIT_POLICY", wish)
    (tmp_path / "main.py").write_text(
        "import os; print('threads', os.environ['OMP_WAIT_POLICY']); raise SystemExit(3)"
    )
    words = rf"code 3(.|\n)*threads {wish or 'PASSIVE'}"
    with pytest.raises(Problem, match=words), Server(tmp_path, tmp_path):
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
