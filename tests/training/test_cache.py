"""The cache with real encoders at tiny sizes: once, resumable, and only what changed anew."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
import torch
from transformers import T5Config, T5EncoderModel

from fantasyid.training.cache import (
    PARTS,
    caption_key,
    check_space,
    expected_bytes,
    export_webdataset,
    fill_cache,
    open_parts,
)
from fantasyid.training.config import Cache, Config
from fantasyid.training.encoders import Encoders
from fantasyid.training.manifest import DataError

from .conftest import CLIP_SIDE as SIDE
from .conftest import CLIP_VIEWS as VIEWS
from .conftest import but

pytestmark = pytest.mark.slow


def fill(config: Config, rows, encoders) -> tuple[dict, list[str]]:
    left_out: list[str] = []
    parts = fill_cache(
        rows, config, encoders, lambda _key, why: left_out.append(why) if why else None
    )
    return parts, left_out


def stamps(config):
    return {p: p.stat().st_mtime_ns for p in (config.work / "cache").rglob("shard-*")}


def contents(config):
    folder = config.work / "cache"
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("shard-*"))}


def test_it_holds_what_the_encoders_say_and_a_rerun_does_nothing(setting):
    config, rows, encoders = setting
    parts, left_out = fill(config, rows, encoders)
    assert left_out == []
    shapes = {name: tuple(parts[name].get("clip1").shape) for name in PARTS if name != "text"}
    assert shapes == {
        "video": (32, 3, SIDE // 8, SIDE // 8),
        "face": (VIEWS, 2, 32, SIDE // 8, SIDE // 8),
        "features": (VIEWS, 577, encoders.feature_width),
        "vertices": (VIEWS, 5023, 3),
    }
    assert parts["text"].get(caption_key("")).shape == (226, 32)
    draws = parts["face"].get("clip0")[0]
    assert not torch.equal(draws[0], draws[1])
    needed = expected_bytes(rows, config, encoders)
    for name in PARTS:
        size = sum(p.stat().st_size for p in parts[name].folder.glob("shard-*"))
        assert needed[name] <= size <= needed[name] + 2000, name
    before = stamps(config)
    fill(config, rows, encoders)
    assert stamps(config) == before
    check_space(config, sum(needed.values()))
    with pytest.raises(DataError, match=r"the cache needs .* GB more in"):
        check_space(config, 1 << 60)


def test_another_encoder_makes_its_own_part_anew(setting, tmp_path):
    config, rows, encoders = setting
    fill(config, rows, encoders)
    before = stamps(config)
    other = tmp_path / "t5"
    torch.manual_seed(1)
    T5EncoderModel(
        T5Config(d_model=32, d_ff=32, d_kv=8, num_heads=2, num_layers=1)
    ).save_pretrained(other)
    changed = dataclasses.replace(
        config, weights=dataclasses.replace(config.weights, text_encoder=other)
    )
    fill(changed, rows, Encoders(changed.weights, changed.cache))
    after = stamps(config)
    assert {p: t for p, t in after.items() if p in before} == before
    assert {p.parent.name.split("-")[0] for p in after.keys() - before.keys()} == {"text"}


def test_stopped_anywhere_it_ends_in_the_same_bytes(setting, tmp_path):
    config, rows, encoders = setting
    fill(config, rows, encoders)
    expected = contents(config)
    again = but(config, work=tmp_path / "again")
    shutil.copytree(config.work / "curated", again.work / "curated")
    for stop in (1, 3, 6, 9):
        seen = 0

        def note(_key, _why, stop=stop):
            nonlocal seen
            seen += 1
            if seen == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fill_cache(rows, again, encoders, note)
    fill(again, rows, encoders)
    assert contents(again) == expected


def test_a_shard_that_was_cut_short_is_made_anew(setting):
    config, rows, encoders = setting
    parts, _ = fill(config, rows, encoders)
    expected = contents(config)
    shard = parts["video"].folder / "shard-00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:100])
    parts, left_out = fill(config, rows, encoders)
    assert left_out == []
    assert contents(config) == expected


def test_a_clip_that_cannot_be_read_is_named_and_left_out(setting, tmp_path):
    config, rows, encoders = setting
    (tmp_path / "1.mp4").write_bytes(b"no video at all")
    parts, left_out = fill(config, rows, encoders)
    (why,) = left_out
    assert "1.mp4 cannot be decoded as a video" in why
    assert "clip1" not in parts["video"]
    assert "clip2" in open_parts(config, encoders)["video"]


def test_it_can_leave_as_tar_shards(setting, tmp_path):
    import tarfile

    config, rows, encoders = setting
    parts, _ = fill(config, rows, encoders)
    export_webdataset(rows, parts, tmp_path / "tar", per_shard=2)
    names = []
    for path in sorted((tmp_path / "tar").glob("*.tar")):
        with tarfile.open(path) as archive:
            names += archive.getnames()
    assert len(names) == 3 * (len(PARTS) + 1)
    assert {name.split(".", 1)[0] for name in names} == {"clip0", "clip1", "clip2"}


def test_weights_that_are_not_there_are_all_named(files):
    missing = dataclasses.replace(files, vae=files.vae / "x", deca=files.deca.with_name("y"))
    with pytest.raises(DataError, match=r"weights\.vae is .*weights\.deca is"):
        Encoders(missing, Cache())
