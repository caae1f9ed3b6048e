"""The bundled workflow on servers that were started with other flags."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch
from host_client import Client, bundled, node_of
from safetensors.torch import load_file

from demo.server import Server

NEEDS_GPU = {"--lowvram", "--novram"}


def latent_of(client: Client, base: Path) -> torch.Tensor:
    """Run the plain workflow and read the latent that it saves."""
    graph = bundled("photo_to_video")
    run = client.finish(graph)
    ((entry,),) = run.outputs[node_of(graph, "SaveLatent")].values()
    return load_file(base / entry["type"] / entry["subfolder"] / entry["filename"])["latent_tensor"]


@pytest.mark.parametrize("flag", ["--lowvram", "--novram", "--cache-none"])
def test_a_server_with_a_flag_gives_the_same_video(
    client, comfyui_path, host_base, another_server, flag, compatible
):
    if flag in NEEDS_GPU and not torch.cuda.is_available():
        pytest.skip(f"the host takes either {flag} or --cpu, and there is no GPU here")
    expected = latent_of(client, host_base)
    with contextlib.ExitStack() as end:
        if flag in NEEDS_GPU:
            log = host_base / "flag.log"
            running = end.enter_context(Server(comfyui_path, host_base, flag, log=log))
        else:
            running = another_server()
            assert flag in running.command
        flagged = Client(running)
        found = latent_of(flagged, host_base)
        again = latent_of(flagged, host_base)
    assert torch.equal(found, again)
    if flag in NEEDS_GPU:  # the plain server computes on the CPU
        torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)
    else:
        assert torch.equal(found, expected)
    compatible("server flags", "within 1%" if flag in NEEDS_GPU else "the same bits", f"`{flag}`")
