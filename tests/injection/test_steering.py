"""The dials of an applied identity: layers, time, place."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from fantasyid.injection.report import InjectionReport, measured_layers
from fantasyid.injection.steering import (
    PRESET_LINES,
    PRESETS,
    LayerWeights,
    Steering,
    leveled,
    mask_tokens,
    parse_layers,
    validate_layers,
)


def test_the_defaults_are_the_released_model():
    steering = Steering()
    assert steering.per_layer(42) == [1.0] * 42
    assert [steering.at(p / 50) for p in range(51)] == [1.0] * 51
    assert not steering.changes_over_time


def test_layers_of_the_help_page():
    assert parse_layers("0-20, 25:0.5") == [(0, 20, 1.0), (25, 25, 0.5)]
    weights = LayerWeights("custom", "0-20, 25:0.5").resolve(42)
    assert weights == [1.0] * 21 + [0.0] * 4 + [0.5] + [0.0] * 16


@given(
    st.lists(st.tuples(st.integers(0, 41), st.integers(0, 41), st.floats(0, 4)), max_size=6),
    st.sampled_from(PRESETS),
)
def test_later_parts_win_and_the_rest_is_the_presets(parts, preset):
    text = ", ".join(f"{min(a, b)}-{max(a, b)}:{w:.3f}" for a, b, w in parts)
    expected = LayerWeights(preset).resolve(42)
    for a, b, weight in parts:
        for layer in range(min(a, b), max(a, b) + 1):
            expected[layer] = float(f"{weight:.3f}")
    assert LayerWeights(preset, text).resolve(42) == expected


@pytest.mark.parametrize("count", [1, 4, 42])
def test_presets_go_from_likeness_to_motion(count):
    likeness, balanced, motion, custom = (LayerWeights(p).resolve(count) for p in PRESETS)
    assert likeness == [1.0] * count
    assert sum(likeness) > sum(balanced) > sum(motion) > sum(custom) == 0.0
    if count > 1:  # a line from the first layer to the last
        assert [(line[0], line[-1]) for line in (balanced, motion)] == [
            PRESET_LINES[preset] for preset in PRESETS[1:3]
        ]
        assert LayerWeights(curve=lambda depth: depth).resolve(count)[-1] == 1.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("abc", '"abc" is not understood'),
        ("1-", '"1-" is not understood'),
        ("3-1", '"3-1" runs backwards; write 1-3'),
        ("1:x", '"1:x" is not understood'),
        ("99999", '"99999" is not understood'),
    ],
)
def test_texts_that_are_no_layers(text, words):
    assert words in (validate_layers(text) or "")
    with pytest.raises(ValueError, match="layers:"):
        parse_layers(text)


def test_a_layer_that_the_adapter_does_not_have():
    with pytest.raises(ValueError, match="names layer 42, the adapter has layers 0 to 41"):
        LayerWeights(layers="40-42").resolve(42)
    with pytest.raises(ValueError, match='preset is "fast"'):
        LayerWeights("fast").resolve(42)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text):
    assert (validate_layers(text) is None) == isinstance(_layers(text), list)


def _layers(text):
    try:
        return parse_layers(text)
    except ValueError:
        return None


def test_start_and_end():
    steering = Steering(start_percent=0.2, end_percent=0.6)
    assert [steering.at(p) for p in (0.0, 0.19, 0.2, 0.59, 0.6, 1.0)] == [0, 0, 1, 1, 0, 0]
    assert Steering(start_percent=0.5).at(1.0) == 1.0
    assert Steering(curve=lambda p: 1 - p).at(0.25) == 0.75


@pytest.mark.parametrize(
    ("dials", "words"),
    [
        ({"start_percent": 0.5, "end_percent": 0.5}, "would never be injected"),
        ({"branches": "none"}, 'branches is "none"'),
        ({"mask": torch.ones(4, 4)}, "mask is"),
        ({"mask": torch.full((1, 4, 4), torch.nan)}, "finite"),
        ({"mask": torch.ones(0, 4, 4)}, "mask is"),
    ],
)
def test_impossible_dials_are_named(dials, words):
    with pytest.raises(ValueError, match=words):
        Steering(**dials)


def test_a_mask_on_tokens_is_the_mean_over_each_tokens_pixels_and_frames():
    torch.manual_seed(0)
    mask = torch.rand(9, 64, 96)
    tokens = mask_tokens(mask, 3, 4, 6)
    assert tokens.shape == (1, 3 * 4 * 6, 1)
    for t, frames in enumerate(([0], [1, 2, 3, 4], [5, 6, 7, 8])):
        for row in range(4):
            for column in range(6):
                patch = mask[frames, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
                got = tokens[0, t * 24 + row * 6 + column, 0]
                torch.testing.assert_close(got, patch.mean())


@given(st.integers(1, 40), st.integers(1, 13), st.floats(0, 1))
def test_a_constant_mask_stays_constant(frames, latents, value):
    tokens = mask_tokens(torch.full((frames, 20, 30), value), latents, 4, 6)
    torch.testing.assert_close(tokens, torch.full((1, latents * 24, 1), value))


@given(st.integers(1, 5), st.integers(1, 5))
def test_complementary_masks_add_up_to_one(frames, seed):
    torch.manual_seed(seed)
    mask = torch.rand(frames, 33, 47)
    total = mask_tokens(mask, 4, 4, 6) + mask_tokens(1 - mask, 4, 4, 6)
    torch.testing.assert_close(total, torch.ones_like(total))


def test_a_window_sees_its_own_frames():
    mask = torch.rand(7, 8, 8)
    whole = mask_tokens(mask, 7, 4, 4).reshape(7, 16)
    seen = mask_tokens(mask, 7, 4, 4, window=[0, 3, 4]).reshape(3, 16)
    assert torch.equal(seen, whole[[0, 3, 4]])


def test_one_frame_serves_all_and_values_are_clamped():
    mask = torch.tensor([[[-1.0, 2.0]]])
    tokens = mask_tokens(mask, 3, 2, 2).reshape(3, 2, 2)
    assert torch.equal(tokens, torch.tensor([0.0, 1.0]).expand(3, 2, 2))
    rough = interpolate(mask.clamp(0, 1)[:, None], (2, 2), mode="area")[0, 0]
    assert torch.equal(tokens[0], rough)


@given(
    measured=st.lists(st.floats(0.0, 10.0), min_size=1, max_size=42).filter(
        lambda m: sum(m) > 1e-3
    ),
    share=st.floats(0.0, 1.0),
)
def test_leveling_leaves_the_share_and_holds_back_the_strongest(measured, share):
    weights = leveled(measured, share)
    given_now = [w * m for w, m in zip(weights, measured, strict=True)]
    assert sum(given_now) == pytest.approx(share * sum(measured), rel=1e-6, abs=1e-9)
    top = max(given_now)
    assert all(0.0 <= w <= 1.0 for w in weights)
    for weight, left in zip(weights, given_now, strict=True):
        assert weight == 1.0 or left == pytest.approx(top, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("preset", ["balanced", "motion"])
def test_equal_layers_leave_what_the_presets_line_leaves(preset):
    line, level = LayerWeights(preset).resolve(42), LayerWeights(preset, measured=(0.1,) * 42)
    assert sum(level.resolve(42)) == pytest.approx(sum(line))
    assert LayerWeights("likeness", measured=(0.1,) * 42).resolve(42) == [1.0] * 42
    with pytest.raises(ValueError, match="of a run with 42 layers, the adapter has 4"):
        level.resolve(4)


def test_a_report_says_what_each_layer_gave():
    table = torch.tensor([[0.1, 0.4], [0.3, float("nan")]])
    report = InjectionReport((0.0, 0.5), table, torch.zeros(2, 2))
    assert measured_layers(report.as_json()) == pytest.approx((0.2, 0.4))
    silent = InjectionReport((0.0,), torch.zeros(1, 2), torch.zeros(1, 2)).as_json()
    for text, words in (
        ("not json", "no JSON"), ("[]", "no JSON"), ('{"format": "x"}', "no JSON"),
        (silent, "nothing was injected"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            measured_layers(text)
