"""A folder for a file, a file for a folder, 5,000 letters: each command answers in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from fantasyid.doctor.__main__ import main as doctor
from fantasyid.evaluation.metrics.command import main as metrics
from fantasyid.evaluation.protocol.command import main as evaluate
from fantasyid.training.__main__ import main as training
from fantasyid.weights.convert.command import main as convert
from fantasyid.weights.download.command import main as download

# Command -> what it is given; BAD is where the wrong thing goes, the rest is right.
COMMANDS: dict[str, tuple[Callable, str]] = {
    "a file to convert": (convert, "safetensors BAD"),
    "its target": (convert, "safetensors FILE --to BAD"),
    "a folder to split": (convert, "split BAD --base OUT.safetensors --adapter OUT2.safetensors"),
    "a clip": (metrics, "BAD"),
    "a reference": (metrics, "FILE --reference BAD"),
    "where measures go": (metrics, "FILE --out BAD"),
    "prompts": (evaluate, "--references PHOTOS --prompts BAD --out OUT"),
    "items": (evaluate, "--protocol opens2v-human --references PHOTOS --prompts BAD --out OUT"),
    "references": (evaluate, "--references BAD --prompts FILE --out OUT"),
    "a workflow": (evaluate, "--references PHOTOS --prompts FILE --out OUT --workflow BAD"),
    "where a report goes": (evaluate, "--references PHOTOS --prompts FILE --out BAD"),
    "models to look at": (doctor, "--models BAD"),
    "models to fetch": (download, "--models BAD mesh"),
    "a training": (training, "train BAD"),
    "an export": (training, "export BAD OUT.safetensors"),
}
# A folder is right there, so only the others are wrong.
FOLDERS = ("a folder to split", "where measures go", "where a report goes", "models")
# A file is right there, and text is no wrong prompt.
FILES = ("its target", "prompts", "a reference")


@pytest.mark.parametrize("what", ["a folder", "a file", "a long name"])
@pytest.mark.parametrize("where", COMMANDS)
def test_what_is_something_else_is_said(where, what, tmp_path, capsys):
    if where.startswith(FOLDERS if what == "a folder" else FILES if what == "a file" else "-"):
        pytest.skip("that is right there")
    words: dict[str, Path] = {name: tmp_path / name.lower() for name in ("PHOTOS", "OUT", "OUT2")}
    words["FILE"] = tmp_path / "file.txt"
    words["FILE"].write_bytes(b"a smile\n\xff")
    words["PHOTOS"].mkdir()
    Image.new("RGB", (64, 64)).save(words["PHOTOS"] / "a.png")
    folder = tmp_path / "folder.safetensors"
    folder.mkdir()
    kinds = {"a folder": folder, "a file": words["FILE"], "a long name": tmp_path / ("x" * 5000)}
    main, line = COMMANDS[where]
    given = [str((words | {"BAD": kinds[what]}).get(word, word)) for word in line.split()]
    try:
        status = main(given)
    except SystemExit as ended:  # of argparse
        status = ended.code
    said = capsys.readouterr().err.strip()
    assert status not in (0, None)
    assert len(said.splitlines()[-1]) > 20
    assert "x" * 100 not in said
    assert "Errno" not in said
    assert "codec" not in said or "UTF-8" in said or "TOML" in said
