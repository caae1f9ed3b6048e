"""Many prompts, stops and /free in one server; two servers that save into one folder.

`LOAD_PROMPTS=200 pytest -s tests/comfyui/test_load.py` is the whole measurement.
"""

from __future__ import annotations

import copy
import json
import os
import random
import sys
import threading
from pathlib import Path

import psutil
import pytest
import torch
from host_client import Client, changed, node_of
from host_process import ROOT
from safetensors.torch import load_file

from demo.server import Server
from fantasyid.weights.identity_file import read_identity

from .test_graph import saved_file

pytestmark = pytest.mark.slow

PROMPTS = int(os.environ.get("LOAD_PROMPTS", "16"))
PEOPLE = sorted(path.stem for path in (ROOT / "models" / "miniature" / "people").glob("*.png"))
SETTLED = PROMPTS // 4  # prompts after which nothing should grow
SAVES = 4


@pytest.fixture(scope="module")
def graph():
    """The mini model's graph, small, up to the latent."""
    whole = json.loads((ROOT / "workflows" / "api" / "try_it_now.json").read_text("utf-8"))
    decode = node_of(whole, "VAEDecode")
    kept = {key: node for key, node in whole.items() if int(key) < int(decode)}
    kept["save"] = {
        "class_type": "SaveLatent",
        "inputs": {"samples": [node_of(whole, "FantasyIDSampler"), 0], "filename_prefix": "load"},
    }
    kept = changed(kept, "FantasyIDFaceLatent", width=48, height=48, length=9)
    return changed(kept, "FantasyIDSampler", steps=2)


def state_of(server: Server) -> tuple[int, int, int]:
    """Bytes in memory, threads and open files of the server."""
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    files = process.num_fds() if os.name != "nt" else process.num_handles()
    return process.memory_info().rss, process.num_threads(), files


def test_many_prompts_leave_nothing(server, client, host_base, graph, capsys):
    dice, endings, seen = random.Random(14), [], []

    def reference() -> torch.Tensor:
        run = client.run(graph)
        assert run.ending == "execution_success", run.errors
        return load_file(saved_file(host_base, run, "save"))["latent_tensor"]

    before = reference()
    for number in range(1, PROMPTS + 1):
        other = changed(graph, "FantasyIDMiniLoader", person=dice.choice(PEOPLE))
        other = changed(other, "FantasyIDApply", strength=round(dice.uniform(0.1, 1.5), 3))
        other = changed(other, "FantasyIDSampler", seed=number)
        stop = dice.random() < 0.2

        def during(message, stop=stop):
            if stop and message["type"] in ("executing", "progress") and dice.random() < 0.3:
                client.host.interrupt()

        endings.append(client.run(other, during).ending)
        if dice.random() < 0.15:
            client.host.free()
        seen.append(state_of(server))
    after = reference()
    # The most of the first quarter and of the last: from one prompt to the next memory goes up and
    # down by a tenth, with what the host has just unloaded and what the allocator gave back.
    # Of threads and files the least of the last: a connection that is about to close is no leak.
    memory, threads, files = map(max, zip(*seen[:SETTLED], strict=True))
    memory_end = max(state[0] for state in seen[-SETTLED:])
    threads_end, files_end = (min(state[which] for state in seen[-SETTLED:]) for which in (1, 2))
    with capsys.disabled():
        sys.stdout.write(
            f"\n{PROMPTS} prompts, {endings.count('execution_interrupted')} stopped: "
            f"{memory / 2**20:.0f} MB -> {memory_end / 2**20:.0f} MB, threads {threads} -> "
            f"{threads_end}, files {files} -> {files_end}\n"
        )
    assert torch.equal(before, after)
    assert set(endings) <= {"execution_success", "execution_interrupted"}
    assert endings.count("execution_success") > PROMPTS / 2
    if PROMPTS >= 50:  # fewer have not settled
        assert memory_end <= memory * 1.05
    assert threads_end <= threads
    assert files_end <= files


def test_two_servers_on_one_output_folder_lose_nothing(host_base, another_server, client, graph):
    saving = {key: copy.deepcopy(graph[key]) for key in ("1", "4", "5", "6")}
    saving["save"] = {
        "class_type": "FantasyIDSaveIdentity",
        "inputs": {"identity": ["6", 0], "filename_prefix": "both/", "note": ""},
    }
    paths: list[str] = []

    def save(one: Client, who: str) -> None:
        for number in range(SAVES):
            run = one.run(changed(saving, "FantasyIDSaveIdentity", note=f"{who} {number}"))
            assert run.ending == "execution_success", run.errors
            paths.append(str(saved_file(host_base, run, "save")))

    pair = [(client, "one"), (Client(another_server()), "two")]
    threads = [threading.Thread(target=save, args=each) for each in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    notes = {read_identity(Path(path)).provenance.note for path in paths}
    assert notes == {f"{who} {number}" for who in ("one", "two") for number in range(SAVES)}
