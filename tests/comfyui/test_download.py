"""The download node on the real host: its folders, its bar, its stop button, and no fetching
without consent.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from host_client import bundled, node_of
from weights.download.file_server import FileServer, good, publish, running, web  # noqa: F401 (fixtures)

from fantasyid.weights.download.fetch import PIECE_BYTES, part_of, size_of
from fantasyid.weights.download.files import EVERYTHING
from miniature.host_files import t5_file, vae_file

T5 = "T5 text encoder (fp8)"
TARGET = "text_encoders/t5xxl_fp8_e4m3fn.safetensors"


@pytest.fixture
def models(host_base, host) -> Iterator[Path]:
    assert host
    yield host_base / "models"
    for path in (host_base / "models").glob(f"{TARGET}*"):
        path.unlink()


@pytest.fixture
def hub(web: FileServer, monkeypatch) -> FileServer:  # noqa: F811 (the fixture)
    repository = {"t5xxl_fp8_e4m3fn.safetensors": t5_file()}
    publish(web, "comfyanonymous/flux_text_encoders", repository)
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    return web


def run(host, what: str, *, accept: bool = True, mirror: str = "huggingface") -> str:
    (text,) = host.run("FantasyIDDownload", what=what, mirror=mirror, accept_licence=accept)
    return text


def only(monkeypatch, name: str, *folders: object) -> None:
    """Let the host search these folders alone."""
    known = importlib.import_module("folder_paths").folder_names_and_paths
    monkeypatch.setitem(known, name, ([str(folder) for folder in folders], known[name][1]))


def test_without_consent_it_lists_and_fetches_nothing(host, hub, models):
    text = run(host, T5, accept=False)
    assert f"{T5}: about 4.9 GB into {models / TARGET}. License: Apache-2.0" in text
    assert "switch accept_licence on" in text
    assert hub.asked == []
    assert not (models / TARGET).exists()


def test_with_consent_the_loader_finds_the_file(host, hub, models):
    folder_paths = importlib.import_module("folder_paths")
    text = run(host, T5)
    assert f"{T5}: " in text
    assert "SHA-256 of 1 of 1 files checked" in text
    assert (models / TARGET).read_bytes() == t5_file()
    assert "t5xxl_fp8_e4m3fn.safetensors" in folder_paths.get_filename_list("text_encoders")
    asked = len(hub.asked)
    assert ": there, " in run(host, T5, accept=False), "what is there needs no consent"
    assert len(hub.asked) == asked


def test_who_wants_everything_needs_no_second_file_for_the_same_work(
    host, hub, tmp_path, monkeypatch
):
    full = "T5 text encoder (fp16)"
    only(monkeypatch, "text_encoders", tmp_path)
    assert full in run(host, EVERYTHING, accept=False)
    (tmp_path / "t5xxl_fp8_e4m3fn.safetensors").write_bytes(t5_file())
    assert full not in run(host, EVERYTHING, accept=False)
    assert full in run(host, full, accept=False), "asked for by its name it is offered"
    assert hub.asked == []


def test_another_run_looks_again(host, hub, models):
    node = host.nodes.NODE_CLASS_MAPPINGS["FantasyIDDownload"]

    def seen() -> str:
        return node.fingerprint_inputs(what=T5, mirror="huggingface", accept_licence=True)

    before = seen()
    run(host, T5)
    there = seen()
    (models / TARGET).unlink()
    assert hub.asked
    assert before != there
    assert seen() == before
    assert "unknown" in node.fingerprint_inputs(what="x", mirror="", accept_licence=False)


def test_files_in_extra_model_paths_count(host, hub, models, tmp_path, monkeypatch):
    folder_paths = importlib.import_module("folder_paths")
    own = folder_paths.get_folder_paths("text_encoders")
    only(monkeypatch, "text_encoders", *own, tmp_path)
    (tmp_path / Path(TARGET).name).write_bytes(t5_file())
    assert f"there, {tmp_path}" in run(host, T5)
    assert hub.asked == []
    assert not (models / TARGET).exists()


def test_the_stop_button_works_and_the_next_run_goes_on(host, hub, models, stop_button):
    half = 32 * PIECE_BYTES
    part = part_of(models / TARGET, hashlib.sha256(t5_file()).hexdigest())

    def press_midway(handler) -> None:
        good(send=half)(handler)
        for _ in range(400):
            if size_of(part) == half:
                break
            handler.server.over.wait(0.02)
        stop_button.press()

    hub.script = [good(), press_midway]
    with stop_button.stops():
        run(host, T5)
    assert size_of(part) == half
    assert not (models / TARGET).exists()
    run(host, T5)
    assert (models / TARGET).read_bytes() == t5_file()
    assert hub.ranges()[-1] == f"bytes={half}-"


def test_the_bar_runs_to_the_end(host, hub, models, monkeypatch):
    utils, seen = importlib.import_module("comfy.utils"), []
    monkeypatch.setattr(
        utils, "PROGRESS_BAR_HOOK", lambda now, total, *_, **__: seen.append((now, total))
    )
    run(host, T5)
    assert (models / TARGET).stat().st_size == len(t5_file())
    assert len(hub.asked) == 2
    assert seen
    assert all(0 <= now <= total for now, total in seen)


def test_a_failure_is_an_error_that_names_the_file(host, hub, models):
    publish(hub, "comfyanonymous/flux_text_encoders", {"t5xxl_fp8_e4m3fn.safetensors": vae_file()})
    with pytest.raises(OSError, match=r"T5 text encoder \(fp8\): .*it is the CogVideoX VAE"):
        run(host, T5)
    assert not (models / TARGET).exists()


def test_registration_is_explained_with_and_without_consent(host, hub, tmp_path, monkeypatch):
    only(monkeypatch, "fantasyid", tmp_path)
    for accept in (False, True):
        text = run(host, "FLAME", accept=accept)
        assert "register at https://flame.is.tue.mpg.de" in text
        assert f"put it into {tmp_path}" in text
    assert hub.asked == []


def test_the_bundled_graph_fetches_nothing(client):
    graph = bundled("download_models")
    assert not graph[node_of(graph, "FantasyIDDownload")]["inputs"]["accept_licence"]
    run = client.finish(graph)
    (text,) = run.outputs[node_of(graph, "FantasyIDDownload")]["text"]
    assert text.startswith("YuNet"), "all else that is needed is there"
    assert "Nothing was fetched" in text


def test_the_drop_down_offers_every_file(host):
    schema = host.nodes.NODE_CLASS_MAPPINGS["FantasyIDDownload"].GET_SCHEMA()
    (what,) = (i for i in schema.inputs if i.id == "what")
    assert what.options[0] == EVERYTHING
    assert T5 in what.options
    assert {"DECA", "FLAME"} <= set(what.options)
