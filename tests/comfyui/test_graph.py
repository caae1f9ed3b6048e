"""The bundled graphs over HTTP on a real server, as a user runs them."""

from __future__ import annotations

import time
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from host_client import Run, bundled, changed, node_of
from safetensors.torch import load_file
from video_files import write_video


@pytest.fixture(scope="module")
def plain(client):
    """One run of the plain case, from photo to MP4."""
    graph = bundled("photo_to_video")
    run = client.finish(graph)
    return graph, run


def saved_file(base: Path, run: Run, node: str) -> Path:
    (entries,) = (v for v in run.outputs[node].values() if v and isinstance(v[0], dict))
    entry = entries[0]
    return base / entry["type"] / entry["subfolder"] / entry["filename"]


def saved_latent(base: Path, graph, run: Run) -> torch.Tensor:
    return load_file(saved_file(base, run, node_of(graph, "SaveLatent")))["latent_tensor"]


def test_the_video_has_the_asked_frames_size_and_rate(plain, host_base):
    import av

    graph, run = plain
    with av.open(str(saved_file(host_base, run, node_of(graph, "SaveVideo")))) as video:
        stream = video.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
        assert stream.average_rate == Fraction(8)
        assert (stream.width, stream.height, len(frames)) == (96, 64, 9)
    assert max(frame.std() for frame in frames) > 1, "the video is blank"


def test_the_nodes_say_what_they_did(plain):
    graph, run = plain
    texts = {graph[k]["class_type"]: v["text"][0] for k, v in run.outputs.items() if "text" in v}
    assert "found by scikit-image cascade" in texts["FantasyIDAlignFace"]
    assert "36 face tokens" in texts["FantasyIDFuse"]
    assert "4 blocks at strength 1" in texts["FantasyIDApply"]
    assert run.outputs[node_of(graph, "FantasyIDAlignFace")]["images"]


def test_sampling_shows_its_steps(plain):
    graph, run = plain
    sampler = node_of(graph, "FantasyIDSampler")
    assert (sampler, 3, 3) in run.steps


def test_another_seed_runs_only_sampling_and_what_follows(client, plain):
    graph, _ = plain
    again = client.finish(changed(graph, "FantasyIDSampler", seed=7))
    ran = {graph[k]["class_type"] for k in again.executed}
    assert ran == {"FantasyIDSampler", "SaveLatent", "FantasyIDDecode", "CreateVideo", "SaveVideo"}


def test_the_same_prompt_twice_is_served_from_the_cache(client, plain):
    graph, _ = plain
    client.run(graph)
    again = client.run(graph)
    assert again.executed == []
    assert set(again.cached) == set(graph)


def test_strength_zero_and_no_apply_node_are_the_same_bits(client, plain, host_base):
    graph, run = plain
    off = changed(graph, "FantasyIDApply", strength=0.0)
    without = changed(graph, "FantasyIDSampler", model=[node_of(graph, "FantasyIDModelLoader"), 0])
    del without[node_of(graph, "FantasyIDApply")]
    latents = [saved_latent(host_base, g, client.run(g)) for g in (off, without)]
    assert torch.equal(*latents)
    with_identity = saved_latent(host_base, graph, run)
    assert (with_identity - latents[0]).norm() / latents[0].norm() > 1e-3


def test_the_look_at_the_face_graph_runs_and_saves_the_head(client, host_base):
    graph = bundled("look_at_the_face")
    run = client.finish(graph)
    glb = saved_file(host_base, run, node_of(graph, "SaveGLB")).read_bytes()
    assert glb[:4] == b"glTF"
    assert len(glb) > 5023 * 24
    assert run.outputs[node_of(graph, "Preview3D")]["result"][0].endswith(".glb")


def test_the_native_sampling_graph_runs_with_a_head_from_a_file(client, host_base, tiny):
    from fantasyid.geometry.files import mesh_bytes
    from fantasyid.weights.safe_pickle import read_pickle

    head = torch.from_numpy(read_pickle(tiny.flame)["v_template"]).float()
    (host_base / "input" / "head.ply").write_bytes(mesh_bytes("ply", head, None))
    client.finish(bundled("native_sampling"))


def test_the_portrait_with_its_released_head_runs(client, host_base, shared):
    for name in ("newton.jpg", "newton.ply"):
        (host_base / "input" / name).write_bytes((shared / "data" / name).read_bytes())
    graph = changed(bundled("native_sampling"), "LoadImage", image="newton.jpg")
    graph = changed(graph, "FantasyIDLoadVertices", file="newton.ply")
    run = client.finish(graph)
    (text,) = run.outputs[node_of(graph, "FantasyIDAlignFace")]["text"]
    assert "Face 0 of 1" in text


def test_the_collect_views_graph_runs(client, host_base, photo):
    import numpy as np
    from PIL import Image

    picture = np.asarray(Image.open(photo))
    pictures = [picture[:480, shift : shift + 480] for shift in range(0, 32, 2)]
    write_video(host_base / "input" / "clip.mp4", pictures)
    graph = changed(bundled("collect_views"), "FantasyIDMultiView", views=2, least_face=32)
    run = client.finish(graph)
    (text,) = run.outputs[node_of(graph, "FantasyIDCombine")]["text"]
    assert "36" in text


def test_an_interrupt_stops_within_one_step_and_leaves_nothing(client, plain, host_base):
    graph, run = plain
    expected = saved_latent(host_base, graph, run)
    long = changed(graph, "FantasyIDSampler", steps=400)
    asked: list[tuple[int, float]] = []

    def stop(message):
        data = message.get("data") or {}
        if message["type"] == "progress" and data["max"] == 400 and not asked:
            asked.append((data["value"], time.monotonic()))
            client.host.interrupt()

    stopped = client.run(long, during=stop)
    assert stopped.ending == "execution_interrupted"
    assert asked
    assert time.monotonic() - asked[0][1] < 10
    assert stopped.steps[-1][1] < 400
    after = client.finish(changed(graph, "FantasyIDSampler", steps=3, denoise=0.999))
    torch.testing.assert_close(saved_latent(host_base, graph, after), expected)
