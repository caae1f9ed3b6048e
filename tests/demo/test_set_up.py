"""A set-up that is killed at any moment: the same command again works."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from demo import environment

ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("SET_UP_KILLS", "1"))
NAMES, FILES = ("fantasyid_set_up_a", "fantasyid_set_up_b", "torch"), 400
# What the quickstart asks of torch.
TORCH = "__version__ = '2.0'\nclass cuda:\n    is_available = staticmethod(lambda: False)\n"
# The quickstart's own step, with lists of packages that are made here.
SET_UP = """
import sys
from pathlib import Path
from demo import environment
root = Path(sys.argv[1])
environment.WITHOUT_DEPENDENCIES, environment.HOST_LIST = root / "few.txt", root / "more.txt"
environment.check_disk = environment.mend_cpu_extras = lambda *_: None
environment.ensure_venv(root, tests=False, verbose=False)
"""


def make_wheel(folder: Path, name: str) -> None:
    """A package of many files, which takes a while to install."""
    facts = f"{name}-1.0.dist-info"
    contents = {f"{name}/{'__init__' if i == 0 else f'm{i}'}.py": "" for i in range(FILES)}
    if name == "torch":
        contents["torch/__init__.py"] = TORCH
    contents[f"{facts}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    contents[f"{facts}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    contents[f"{facts}/RECORD"] = "".join(f"{path},,\n" for path in contents)
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        for path, text in contents.items():
            wheel.writestr(path, text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in NAMES:
        make_wheel(tmp_path, name)
    for listing, chosen in (("few.txt", NAMES[:1]), ("more.txt", NAMES[1:])):
        lines = [
            "--no-index",
            f"--find-links {tmp_path.as_posix()}",
            *(f"{n}==1.0" for n in chosen),
        ]
        (tmp_path / listing).write_text("\n".join(lines) + "\n")
    return tmp_path


def begin(root: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", SET_UP, str(root)]
    pipe = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, start_new_session=True)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kills a group of processes")
def test_after_kills_at_random_moments_the_same_command_works(root: Path):
    started = time.monotonic()
    assert begin(root).wait(600) == 0
    whole = time.monotonic() - started
    draw = random.Random(int(os.environ.get("SET_UP_SEED", "1")))
    venv = root / ".venv"
    for number in range(KILLS):
        if number % 2:  # half from nothing, half on what the kill before has left
            (venv / "quickstart-host.json").unlink(missing_ok=True)
        else:
            shutil.rmtree(venv, ignore_errors=True)
        run = begin(root)
        time.sleep(draw.uniform(0, whole))
        os.killpg(run.pid, draw.choice([signal.SIGKILL, signal.SIGINT, signal.SIGTERM]))
        run.wait(60)
        time.sleep(0.5)
        assert begin(root).wait(600) == 0, f"kill {number} has broken the set-up"
        check = "; ".join(f"import {name}.m{FILES - 1}" for name in NAMES)
        subprocess.run([str(environment.python_of(venv)), "-c", check], check=True)


def test_what_pip_has_not_finished_is_forgotten(tmp_path: Path):
    packages = tmp_path / "lib" / "python3" / "site-packages"
    for name, record in (("whole", "a,,\n"), ("cut", None), ("empty", "")):
        facts = packages / f"{name}-1.dist-info"
        facts.mkdir(parents=True)
        (facts / "METADATA").touch()
        if record is not None:
            (facts / "RECORD").write_text(record)
    environment.drop_half_installed(tmp_path)
    assert [path.name for path in packages.iterdir()] == ["whole-1.dist-info"]
