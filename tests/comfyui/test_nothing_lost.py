"""Old graphs, scripts and workflows keep working: what version 0.1.0 offered is still there.

`tests/recorded/version_0_1_0.json` was written from that version and is never written again. A
node may gain optional inputs and outputs at the end; it may not lose or retype what it had.
"""

from __future__ import annotations

import json
import re
import runpy
import sys

import pytest
from browser.build_templates import api_name
from conftest import ROOT
from host_client import WORKFLOWS

pytestmark = pytest.mark.slow

BEFORE = json.loads((ROOT / "tests/recorded/version_0_1_0.json").read_text("utf-8"))


def kind(declared: list) -> str:
    """The socket type of a declared input; a drop-down is a COMBO in either of its spellings."""
    return "COMBO" if isinstance(declared[0], list) else declared[0]


def described(info: dict) -> dict:
    """What old graphs rely on of a node."""
    return {
        "required": {k: kind(v) for k, v in info["input"].get("required", {}).items()},
        "optional": {k: kind(v) for k, v in info["input"].get("optional", {}).items()},
        "outputs": ["COMBO" if isinstance(t, list) else t for t in info["output"]],
        "output_node": info["output_node"],
    }


def choices(info: dict) -> dict[str, list]:
    """Fixed drop-downs by input, which graphs store by value."""
    found = {}
    for group in ("required", "optional"):
        for name, declared in info["input"].get(group, {}).items():
            options = declared[0] if isinstance(declared[0], list) else declared[1].get("options")
            if kind(declared) == "COMBO" and options:
                found[name] = options
    return found


@pytest.fixture(scope="module")
def object_info(server) -> dict:
    return server.host.object_info()


@pytest.mark.parametrize("node_id", BEFORE["nodes"])
def test_a_node_takes_what_old_graphs_give_it(object_info, node_id):
    assert node_id in object_info
    now, before = described(object_info[node_id]), BEFORE["nodes"][node_id]
    everything = now["required"] | now["optional"]
    lost = {k: v for k, v in {**before["required"], **before["optional"]}.items()
            if everything.get(k) != v}  # fmt: skip
    assert lost == {}
    assert set(now["required"]) <= set(before["required"]), "a new input must be optional"
    assert now["outputs"][: len(before["outputs"])] == before["outputs"]
    assert now["output_node"] == before["output_node"]


@pytest.mark.parametrize("node_id", BEFORE["choices"])
def test_a_drop_down_keeps_its_values(object_info, node_id):
    now = choices(object_info[node_id])
    for name, options in BEFORE["choices"][node_id].items():
        assert set(options) <= set(now[name]), name


@pytest.mark.parametrize("name", BEFORE["workflows"])
def test_a_bundled_graph_is_still_there(name):
    """A template may have got a number, which says when to learn it."""
    template, _, api = name.rpartition("/")[2].removesuffix(".json"), *name.partition("api/")[1:]
    names = {api_name(path.stem) for path in WORKFLOWS.glob("*.json")}
    assert (WORKFLOWS / name).is_file() if api else template in names


@pytest.mark.parametrize("command", BEFORE["commands"])
def test_a_command_takes_what_scripts_give_it(command, monkeypatch, capsys):
    """Run as Python runs a module or a file, in this process: its imports take seconds."""
    target, *rest = command.removeprefix("-m ").split()
    monkeypatch.setattr(sys, "argv", [target, *rest, "--help"])
    for module in (target, f"{target}.__main__"):  # one that is run is not imported before
        monkeypatch.delitem(sys.modules, module, raising=False)
    run = runpy.run_module if command.startswith("-m ") else runpy.run_path
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as end:
        run(target, run_name="__main__")
    assert not end.value.code
    text = capsys.readouterr().out
    assert set(BEFORE["commands"][command]) <= set(re.findall(r"--[a-z][a-z-]*", text))
