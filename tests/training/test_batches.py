"""Batches: the same whatever shares a step, drawn as the configuration says, bad samples named."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from fantasyid.training.batches import Batches, face_mask, kept_text
from fantasyid.training.manifest import DataError
from fantasyid.training.part import Part

from .conftest import SIDE, but, cache_of, rows_of

pytestmark = pytest.mark.slow

TENSORS = ("clean", "noise", "timesteps", "text", "keep_latent", "keep", "weight", "mask")
SHARED = ("face_latent", "features", "vertices")


def batches(config, tmp_path, count=8, people=None, **place):
    rows = rows_of(count, people)
    folder = tmp_path / "cache"
    parts = {p.name: p for p in []} if folder.exists() else cache_of(rows, folder)
    return Batches(config, rows, parts, 0.7, **place)


def test_two_devices_see_what_one_sees(config, tmp_path):
    rows = rows_of(8)
    parts = cache_of(rows, tmp_path / "cache")
    one = Batches(config, rows, parts, 0.7)
    two = [Batches(config, rows, parts, 0.7, rank, 2) for rank in range(2)]
    split = but(config, train__accumulation=2)
    four = [Batches(split, rows, parts, 0.7, rank, 2) for rank in range(2)]
    for step in range(5):
        whole = one[step]
        halves = [b[step] for b in two]
        quarters = [four[rank][2 * step + part] for part in range(2) for rank in range(2)]
        for name in (*TENSORS, *SHARED):
            expected = getattr(whole, name)
            assert torch.equal(torch.cat([getattr(b, name) for b in halves]), expected), name
            assert torch.equal(torch.cat([getattr(b, name) for b in quarters]), expected), name


def test_a_reference_is_a_view_of_the_samples_own_person(config, tmp_path):
    config = but(config, train__samples_per_reference=2)
    rows = rows_of(8, people=4)
    parts = cache_of(rows, tmp_path / "cache")
    found, views = Batches(config, rows, parts, 0.7), set()
    person = {row.clip: row.person for row in rows}
    for step in range(20):
        batch = found[step]
        assert len(batch.names) == 4
        assert len(batch.features) == 2
        for reference, features in enumerate(batch.features):
            clips = [
                (clip, view)
                for clip in parts["features"].places
                for view, own in enumerate(parts["features"].get(clip))
                if torch.equal(own, features)
            ]
            ((clip, view),) = clips
            views.add(view)
            for name in batch.names[2 * reference : 2 * reference + 2]:
                assert person[name] == person[clip]
    assert views == {0, 1, 2}


def test_a_single_view_is_the_most_frontal(config, tmp_path):
    config = but(config, train__single_view=True)
    rows = rows_of(4)
    parts = cache_of(rows, tmp_path / "cache")
    found = Batches(config, rows, parts, 0.7)
    first = {tuple(parts["features"].get(row.clip)[0, 0].tolist()) for row in rows}
    for step in range(4):
        assert all(tuple(f[0].tolist()) in first for f in found[step].features)


@pytest.mark.parametrize(
    ("key", "name"),
    [("identity_dropout", "keep"), ("face_latent_dropout", "keep_latent")],
)
def test_dropping_is_as_often_as_asked(config, tmp_path, key, name):
    config = but(config, **{f"train__{key}": 0.3, "train__steps": 200})
    found = batches(config, tmp_path)
    kept = torch.cat([getattr(found[step], name) for step in range(100)])
    assert float(kept.mean()) == pytest.approx(0.7, abs=0.08)


def test_null_text_is_the_empty_prompt(config, tmp_path):
    rows = rows_of(4)
    parts = cache_of(rows, tmp_path / "cache")
    from fantasyid.training.cache import caption_key

    null = parts["text"].get(caption_key(""))
    for share, expected in ((0.0, 0), (1.0, 4)):
        found = Batches(but(config, train__null_text=share), rows, parts, 0.7)
        assert sum(torch.equal(text, null) for text in found[0].text) == expected


def test_the_latents_are_draws_of_the_cached_gaussian(config, tmp_path):
    rows = rows_of(1)
    parts = cache_of(rows, tmp_path / "cache")
    found = Batches(but(config, train__steps=400), rows, parts, 0.7)
    draws = torch.cat([found[step].clean for step in range(200)])
    mean, log_variance = parts["video"].get("clip000").chunk(2)
    got = draws.mean(0).movedim(1, 0) / 0.7
    error = (got - mean) / (0.5 * log_variance).exp()
    assert float(error.abs().mean()) < 0.05


def test_an_unreadable_sample_is_named_and_counts_as_nothing(config, tmp_path):
    rows = rows_of(6)
    parts = cache_of(rows, tmp_path / "cache")
    found = Batches(config, rows, parts, 0.7)
    found[0]
    shard = parts["video"].folder / "shard-00000.safetensors"
    data = bytearray(shard.read_bytes())
    shard.write_bytes(data[: len(data) // 2])
    parts["video"]._open.clear()
    with pytest.raises(DataError, match=r"nothing in .*video can be read"):
        found[1]
    shard.write_bytes(data)
    del parts["video"].places["clip002"]
    bad = [found[step] for step in range(6)]
    named = [f for batch in bad for f in batch.failures]
    assert named
    assert all("clip002" in words for words in named)
    assert sum(int((batch.weight == 0).sum()) for batch in bad) == len(named)


def test_clips_that_are_not_cached_are_said_before_the_first_step(config, tmp_path):
    parts = cache_of(rows_of(4), tmp_path / "cache")
    with pytest.raises(DataError, match=r"4 of 8 clips are not in the cache .*clip004"):
        Batches(config, rows_of(8), parts, 0.7)


def test_a_batch_that_does_not_divide_is_refused(config, tmp_path):
    rows = rows_of(4)
    parts = cache_of(rows, tmp_path / "cache")
    with pytest.raises(ValueError, match="does not divide among 3 devices"):
        Batches(config, rows, parts, 0.7, 0, 3)


def test_the_mask_is_where_the_face_is():
    (row,) = rows_of(1)
    mask = face_mask(row, 3, SIDE, SIDE)
    assert torch.equal(mask[0, 0], mask[2, 0])
    assert mask[0, 0].tolist() == [[1, 1, 1, 0]] * 3 + [[0] * 4]
    nowhere = dataclasses.replace(row, face_boxes=((0.0, 0.0, 0.0, 0.0),) * 9)
    assert bool((face_mask(nowhere, 3, SIDE, SIDE) == 1).all())


def test_equal_paddings_of_all_texts_are_kept_once(tmp_path):
    part = Part(tmp_path)
    texts = {name: torch.randn(8, 4) for name in "ab"}
    for length, text in zip((2, 3), texts.values(), strict=True):
        text[length:] = text[length]
    part.fill(list(texts), texts.__getitem__, 2, lambda *_: None)
    assert kept_text(part) == (4, 8)


def test_a_batch_says_how_many_paddings_its_last_text_token_stands_for(config, tmp_path):
    rows = rows_of(8)
    parts = cache_of(rows, tmp_path / "cache")
    texts = {}
    for number, key in enumerate(sorted(parts["text"].places)):
        texts[key] = parts["text"].get(key).clone()
        texts[key][2 + number % 2 :] = texts[key][2 + number % 2]
    padded = Part(tmp_path / "padded")
    padded.fill(list(texts), texts.__getitem__, 4, lambda *_: None)
    batch = Batches(config, rows, parts | {"text": padded}, 0.7)[0]
    tokens = len(next(iter(texts.values())))
    assert batch.text.shape[1] == 4
    assert batch.paddings == tokens - 4 + 1
    whole = Batches(config, rows, parts, 0.7)[0]
    assert (whole.text.shape[1], whole.paddings) == (tokens, 1)
