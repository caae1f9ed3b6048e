"""Model files: which are there, what the others cost, and what becomes of each."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from weights.download.file_server import Served, good, publish

from fantasyid.weights.download import hubs
from fantasyid.weights.download.files import EVERYTHING, FILES, choices, chosen
from fantasyid.weights.download.present import find, missing, offer
from fantasyid.weights.download.provide import Downloader
from fantasyid.weights.download.retry import Retry
from fantasyid.weights.download.validate import CHECKS, validate_content
from fantasyid.weights.progress import in_words
from miniature.checkpoints import deca_file, eva_file, transformer_files
from miniature.host_files import t5_file, vae_file

ROOT = Path(__file__).resolve().parents[3]
QUICK = Retry(timeout=2.0, attempts=2, backoff=0.0)
MODEL, EVA, TRANSFORMS, T5, T5_FP8, VAE, DECA, FLAME, YUNET = FILES


@pytest.fixture(scope="module")
def released() -> dict[str, bytes]:
    return {f"transformer/{name}": raw for name, raw in transformer_files(shards=2).items()}


@pytest.fixture
def hub(web, released):
    """The repositories of the table, with tiny files."""
    extra = {"README.md": b"# x", "transformer/old.bin": b"PK\3\4", "vae/config.json": b"{}"}
    publish(web, "acvlab/FantasyID", released | extra)
    publish(web, "QuanSun/EVA-CLIP", {"EVA02_CLIP_L_336_psz14_s6B.pt": eva_file()})
    publish(web, "comfyanonymous/flux_text_encoders", {"t5xxl_fp16.safetensors": t5_file()})
    vae = {"vae/diffusion_pytorch_model.safetensors": vae_file()}
    publish(web, "THUDM/CogVideoX-5b-I2V", vae)
    return web


@pytest.fixture
def places(tmp_path) -> dict[str, list[Path]]:
    names = ("fantasyid", "text_encoders", "vae")
    return {name: [tmp_path / "models" / name, tmp_path / "more" / name] for name in names}


@pytest.fixture(autouse=True)
def endpoint(web, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    monkeypatch.setattr(hubs, "MODELSCOPE", web.url)


def provide(items, places, mirror="huggingface", report=lambda _: None):
    return Downloader(mirror, report, QUICK).provide(items, places)


def test_everything_on_the_hub_comes_and_is_found(hub, places, released):
    items = [MODEL, EVA, T5, VAE]
    outcomes = provide(items, places)
    assert [(o.name, o.ok) for o in outcomes] == [(item.name, True) for item in items]
    assert "SHA-256 of 2 of 4 files checked, size and format of all" in outcomes[0].text
    folder = places["fantasyid"][0] / "FantasyID"
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    assert {n: p.read_bytes() for n, p in found.items() if n.startswith("transformer")} == released
    assert (folder.parent / "EVA02_CLIP_L_336_psz14_s6B.pt").read_bytes() == eva_file()
    assert (places["vae"][0] / "cogvideox_vae.safetensors").read_bytes() == vae_file()
    assert missing(items, places) == []
    asked = len(hub.asked)
    assert all(": there, " in o.text for o in provide(items, places))
    assert len(hub.asked) == asked, "what is there needs no network"


def test_tables_come_before_the_shards_they_name(hub, places):
    hub.script = [good(), good(), good(), good(send=0), good(send=0)]
    (outcome,) = provide([MODEL], places)
    assert not outcome.ok
    assert "gave up" in outcome.text
    assert find(MODEL, places) is None, "an index without its shards is no model"
    (outcome,) = provide([MODEL], places)
    assert outcome.ok


def test_files_in_further_folders_and_subfolders_count(places):
    path = places["text_encoders"][1] / "t5" / "t5xxl_fp16.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(t5_file())
    assert find(T5, places) == path


def test_substitutes_count_only_where_they_are_asked_for(places):
    path = places["text_encoders"][0] / "t5xxl_fp8_e4m3fn.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(t5_file())
    adapter = places["fantasyid"][0] / "fantasyid_adapter.safetensors"
    adapter.parent.mkdir(parents=True)
    adapter.write_bytes(t5_file())
    assert missing([T5, MODEL], places, substitutes=True) == []
    assert missing([T5, MODEL], places) == [T5, MODEL]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"<!doctype html>", "is an HTML page"),
        (b"", "is empty"),
        (vae_file()[:-10], "is a damaged safetensors file, or cut short"),
    ],
)
def test_rubbish_under_the_name_is_named_and_not_touched(web, places, raw, words):
    path = places["vae"][0] / "cogvideox_vae.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(raw)
    (outcome,) = provide([VAE], places)
    assert not outcome.ok
    assert words in outcome.text
    assert "It was not touched: delete it and run again" in outcome.text
    assert path.read_bytes() == raw
    assert web.asked == []


def test_another_model_under_the_name_is_refused_and_the_rest_comes(hub, places):
    publish(hub, "comfyanonymous/flux_text_encoders", {"t5xxl_fp16.safetensors": vae_file()})
    t5, vae = provide([T5, VAE], places)
    assert "expected the weights of a t5, it is the CogVideoX VAE" in t5.text
    assert not t5.ok
    assert list(places["text_encoders"][0].iterdir()) == []
    assert vae.ok


def test_modelscope_has_the_model_and_the_encoder(web, places, released):
    eva = {"face_encoder/EVA02_CLIP_L_336_psz14_s6B.pt": eva_file()}
    publish(web, "amap_cvlab/FantasyID", released | eva)
    outcomes = provide([MODEL, EVA], places, mirror="modelscope")
    assert all(outcome.ok for outcome in outcomes), outcomes
    assert "SHA-256 of 4 of 4 files checked" in outcomes[0].text
    assert missing([MODEL, EVA], places) == []
    lists = [a.path for a in web.asked if a.path.startswith("/api/")]
    assert lists == [
        "/api/v1/models/amap_cvlab/FantasyID/repo/files?Revision=master&Recursive=true"
    ]


def test_a_page_instead_of_a_file_never_gets_its_name(hub, places):
    path = "/THUDM/CogVideoX-5b-I2V/resolve/main/vae/diffusion_pytorch_model.safetensors"
    hub.files[path] = Served(b"<html>log in</html>")
    (outcome,) = provide([VAE], places)
    assert "or a page was sent instead of the file" in outcome.text
    assert list(places["vae"][0].iterdir()) == []


def test_a_file_outside_the_hubs_is_pinned(web, places, shared):
    raw = bytes(TRANSFORMS.size)
    web.files["/transform.pkl"] = Served(raw)
    item = dataclasses.replace(TRANSFORMS, url=f"{web.url}/transform.pkl")
    (outcome,) = provide([item], places)
    assert hashlib.sha256(raw).hexdigest() in outcome.text
    assert TRANSFORMS.sha256 in outcome.text
    assert list(places["fantasyid"][0].iterdir()) == []
    web.files["/transform.pkl"] = Served((shared / "data" / "transform.pkl").read_bytes())
    (outcome,) = provide([item], places)
    assert outcome.ok, outcome.text


def test_registration_is_explained_and_nothing_asked_of_anybody(web, places):
    outcomes = provide([DECA, FLAME], places)
    assert not any(o.ok for o in outcomes)
    assert "register at https://deca.is.tue.mpg.de" in outcomes[0].text
    assert str(places["fantasyid"][0]) in outcomes[1].text
    assert web.asked == []
    path = places["fantasyid"][0] / "deca_model.tar"
    path.parent.mkdir(parents=True)
    path.write_bytes(deca_file())
    (outcome,) = provide([DECA], places)
    assert outcome.ok


def test_what_a_mirror_has_not_is_said(web, places):
    (outcome,) = provide([T5], places, mirror="modelscope")
    assert "it is not on modelscope under a known name: choose another mirror" in outcome.text
    publish(web, "THUDM/CogVideoX-5b-I2V", {"other": b"x"})
    publish(web, "acvlab/FantasyID", {"README.md": b"x"})
    vae, model = provide([VAE, MODEL], places)
    assert "has no vae/diffusion_pytorch_model.safetensors any more" in vae.text
    assert "has no folder transformer with weights" in model.text


def test_space_is_counted_for_all_shards_before_the_first(hub, places, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0))
    (outcome,) = provide([MODEL], places)
    assert "not enough space on the disk" in outcome.text
    assert len(hub.asked) == 1
    assert not places["fantasyid"][0].exists()


@pytest.mark.usefixtures("hub")
def test_pieces_of_another_model_are_said(places):
    index = places["fantasyid"][0] / "FantasyID/transformer"
    index.mkdir(parents=True)
    name = "diffusion_pytorch_model.safetensors.index.json"
    (index / name).write_text('{"weight_map": {"a": "other.safetensors"}}')
    (outcome,) = provide([MODEL], places)
    assert "files that were there do not belong to this model" in outcome.text


@pytest.mark.usefixtures("hub")
def test_an_exception_of_the_report_stops_everything(places):
    class Stop(Exception):
        pass

    def stop(_: object) -> None:
        raise Stop

    with pytest.raises(Stop):
        provide([VAE, T5], places, report=stop)


def test_the_offer_names_size_license_and_page(places):
    text = offer(chosen(EVERYTHING), places)
    for item in FILES:
        if item.needed:
            assert re.search(f"^{re.escape(item.name)}: .*{re.escape(item.license)}", text, re.M)
            assert in_words(item.size) in text
            assert item.page in text
    assert T5_FP8.name not in text


def test_the_table_agrees_with_the_documents():
    readme = (ROOT / "docs" / "models.md").read_text("utf-8")
    for item in FILES:
        assert item.target.rpartition("/")[2].replace("_fp8_e4m3fn", "_fp16") in readme
        assert item.page.removeprefix("https://") in readme
        assert item.kind in CHECKS
        assert bool(item.registration) != bool(item.huggingface or item.url)
    assert len({item.name for item in FILES}) == len(FILES) == len(choices()) - 1
    with pytest.raises(ValueError, match=f'no model file called "x"; there are: {EVERYTHING}, '):
        chosen("x")


def test_every_kind_knows_its_own_and_refuses_a_page(tmp_path, tiny, shared):
    own = {
        "eva": tiny.eva_clip,
        "mesh tables": tiny.transforms,
        "t5": tiny.text_encoder,
        "vae": tiny.vae,
        "deca": tiny.deca,
        "flame": tiny.flame,
        "face detector": shared / "data/yunet_n_dynamic.onnx",
    }
    page = tmp_path / "page"
    page.write_text("<html>")
    table = tmp_path / "table"
    table.write_text("[1]")
    for path in (tiny.model / "transformer").iterdir():
        validate_content(path, "transformer")
    with pytest.raises(ValueError, match="holds no table"):
        validate_content(table, "transformer")
    for kind, path in own.items():
        validate_content(path, kind)
        with pytest.raises(ValueError, match="HTML page"):
            validate_content(page, kind)
        for other in (p for k, p in own.items() if k != kind):
            with pytest.raises((ValueError, OSError)):
                validate_content(other, kind)
    assert {*own, "transformer"} == set(CHECKS)
