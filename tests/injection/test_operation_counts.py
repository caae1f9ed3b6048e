"""The operation counts of docs/performance.md, against torch's own counter, and its meters."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fantasyid.injection.layers import (
    InjectedIdentity,
    InjectionConfig,
    KeysValues,
    LayerInjector,
)

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks"))

import injection_forms as forms  # noqa: E402 - the benchmarks are scripts, not a package
import meters  # noqa: E402

# Not for longer than needed: benchmarks/face.py would hide the folder tests/face from imports.
sys.path.remove(str(ROOT / "benchmarks"))

CONFIG = InjectionConfig(1, forms.DIM, forms.CONTEXT_DIM)
TOKENS = forms.FULL_TOKENS


def counted(work) -> int:
    """Operations of matrix products, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def on_meta(config: InjectionConfig = CONFIG) -> tuple[KeysValues, LayerInjector, torch.Tensor]:
    """Both halves of one injector, and identity tokens, of which only shapes exist."""
    tokens = torch.empty(1, forms.IDENTITY_TOKENS, config.context_dim, device="meta")
    return KeysValues(config, device="meta"), LayerInjector(config, device="meta"), tokens


def small() -> tuple[KeysValues, LayerInjector, torch.Tensor, torch.Tensor]:
    """A small injector with weights, identity tokens and hidden states."""
    torch.manual_seed(0)
    config = InjectionConfig(1, 48, 256)
    injector = LayerInjector(config)
    nn.init.normal_(injector.to_out.weight, std=0.1)  # it starts at zero
    return (
        KeysValues(config),
        injector,
        torch.randn(1, 7, config.context_dim),
        torch.randn(2, 11, config.dim),
    )


@pytest.mark.parametrize("form", [forms.OURS, forms.RELEASED, forms.FOLDED])
def test_an_injection_takes_the_operations_that_are_stated(form: str):
    keys_values, injector, tokens = on_meta()
    hidden = torch.empty(1, TOKENS, forms.DIM, device="meta")
    pair = keys_values(tokens)
    work = {
        forms.OURS: lambda: injector(hidden, [InjectedIdentity(*pair)]),
        forms.RELEASED: lambda: forms.ReleasedForm(keys_values, injector, tokens)(hidden),
        forms.FOLDED: lambda: folded(hidden),
    }[form]
    folded = forms.FoldedForm(injector, *pair)
    assert counted(work) == forms.injection_operations(form, TOKENS)


def test_a_block_takes_the_operations_that_are_stated(host, monkeypatch):  # noqa: ARG001
    from comfy import ops
    from comfy.ldm.cogvideo import model as cogvideo
    from comfy.ldm.modules.attention import attention_pytorch

    monkeypatch.setattr(cogvideo, "optimized_attention", attention_pytorch)
    block = cogvideo.CogVideoXBlock(
        forms.DIM,
        forms.DIM // 64,
        64,
        forms.TIME_DIM,
        device="meta",
        operations=ops.disable_weight_init,
    )
    hidden = torch.empty(1, TOKENS, forms.DIM, device="meta")
    text = torch.empty(1, forms.TEXT_TOKENS, forms.DIM, device="meta")
    time = torch.empty(1, forms.TIME_DIM, device="meta")
    assert counted(lambda: block(hidden, text, time)) == forms.block_operations(TOKENS)
    matrices = sum(p.numel() for p in block.parameters() if p.ndim == 2)
    assert forms.weights_rows()[1][1] == f"{matrices * 2 * forms.LAYERS / 1e6:.0f}"


@pytest.mark.parametrize("form", [forms.OURS, forms.FOLDED])
def test_the_targets_are_those_of_the_counts(form: str):
    more = 1 + forms.injection_operations(form, TOKENS) / forms.block_operations(TOKENS)
    assert round(more, 3) == {forms.OURS: 1.058, forms.FOLDED: 1.050}[form]


@pytest.mark.parametrize("rows", [forms.operations_rows(TOKENS), forms.weights_rows()])
def test_the_document_has_the_counts_of_the_code(rows: list[list[str]]):
    words = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert meters.table(rows, markdown=True) in words


def test_the_adapter_holds_what_is_stated():
    keys_values, injector, tokens = on_meta()
    pair = keys_values(tokens)
    kept = [p for p in injector.parameters() if p.ndim == 2]
    ours, released, folded = (float(row[1].lstrip("+ ")) for row in forms.weights_rows()[2:])

    def megabytes(tensors) -> int:
        return round(sum(t.numel() for t in tensors) * 2 * forms.LAYERS / 1e6)

    assert ours == megabytes([*kept, *pair])
    assert released == megabytes([*kept, keys_values.to_kv.weight])
    form = forms.FoldedForm(injector, *pair)
    assert folded == megabytes([form.to_logits, form.to_out])


def test_all_forms_give_the_same_residual():
    keys_values, injector, tokens, hidden = small()
    pair = keys_values(tokens)
    ours = injector(hidden, [InjectedIdentity(*pair)])
    torch.testing.assert_close(forms.ReleasedForm(keys_values, injector, tokens)(hidden), ours)
    torch.testing.assert_close(forms.FoldedForm(injector, *pair)(hidden), ours)


def test_the_peak_is_what_is_held_at_once():
    def work() -> torch.Tensor:
        first = torch.empty(1 << 20, dtype=torch.uint8)
        del first
        second = torch.empty(2 << 20, dtype=torch.uint8)
        third = torch.empty(1 << 20, dtype=torch.uint8)
        del second
        return third

    peak = meters.activation_peak(work, torch.device("cpu"))
    assert 3 << 20 <= peak < (3 << 20) + 4096


def test_a_value_that_python_asks_for_is_counted():
    values = torch.arange(3.0)
    with torch.inference_mode():
        assert meters.reads(lambda: nn.functional.relu(values) + 1) == 0
        assert meters.reads(lambda: float(values.sum())) == 1
        assert meters.reads(lambda: values.nonzero()) == 1
        assert meters.reads(lambda: bool((values > 1).any())) == 1


def test_one_injection_waits_for_nothing():
    keys_values, injector, tokens, hidden = small()
    pair = keys_values(tokens)
    assert meters.reads(lambda: injector(hidden, [InjectedIdentity(*pair)])) == 0


def test_ratios_are_of_the_same_round():
    times = {"a": [1.0, 9.0, 4.0], "b": [1.0, 3.0, 2.0]}
    assert meters.ratio(times, "a", "b") == "2.000 (1.000 to 3.000)"
