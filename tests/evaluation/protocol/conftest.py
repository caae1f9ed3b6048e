"""Two people, a prompt, and the command on the real server at the smallest size."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SMALL = ["--width", "96", "--height", "64", "--length", "9", "--steps", "2"]


@pytest.fixture(scope="session")
def people(tmp_path_factory) -> Path:
    """The astronaut of scikit-image, and her mirror image as another person."""
    data = pytest.importorskip("skimage.data", reason="scikit-image is absent")
    folder, photo = tmp_path_factory.mktemp("people"), data.astronaut()
    Image.fromarray(photo).save(folder / "ann.png")
    Image.fromarray(np.ascontiguousarray(photo[:, ::-1])).save(folder / "bea.png")
    return folder


@pytest.fixture(scope="session")
def alone(people, tmp_path_factory) -> list[str]:
    """Arguments for the astronaut alone."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "ann.png").write_bytes((people / "ann.png").read_bytes())
    return ["--references", str(folder)]


@pytest.fixture(scope="session")
def prompts(tmp_path_factory) -> Path:
    """One prompt."""
    path = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    path.write_text('A person <smiles> & says "hello"\n', encoding="utf-8")
    return path


@pytest.fixture
def arguments(server, people, prompts) -> Callable[..., list[str]]:
    """`arguments(out, "--seeds", "7")`: the command line for the server."""

    def make(out: Path, *more: str) -> list[str]:
        where = ["--references", str(people), "--prompts", str(prompts), "--out", str(out)]
        host = ["--host", server.host.url, "--recogniser", "none: FM only"]
        return [*where, *host, "--detector", "cascade", *SMALL, *more]

    return make


@pytest.fixture
def made(host_base) -> Callable[[Path], list[int]]:
    """`made(out)`: how many videos the host has saved for each job of a report."""

    def count(out: Path) -> list[int]:
        videos = json.loads((out / "report.json").read_text("utf-8"))["videos"]
        folder = host_base / "output" / "fantasyid_evaluate"
        return [len(list((folder / row["job"]).glob("video_*.mp4"))) for row in videos]

    return count
