"""Whatever happens, nothing of ours is left on what the host shares."""

from __future__ import annotations

import gc
import weakref
from contextlib import contextmanager

import pytest
import torch
from host_graph import apply, make_identity, sample
from host_traces import hooks_on, leaves_no_trace

pytestmark = pytest.mark.slow

BLOCKS = 4


@pytest.fixture(scope="module")
def native(host, conditioned):
    """The host's own MODEL, sampled once, so that the host has set what it sets itself."""
    name = "cogvideox_5b_i2v.safetensors"
    (model,) = host.run("UNETLoader", unet_name=name, weight_dtype="default")
    sample(host, model, conditioned)
    return model


@pytest.fixture(scope="module")
def on(host, loaded, native, identity):
    return apply(host, loaded, identity, model=native)


@pytest.fixture(scope="module")
def expected(host, on, conditioned):
    return sample(host, on, conditioned)


@pytest.fixture(scope="module")
def bare(host, native, conditioned):
    return sample(host, native, conditioned)


@pytest.fixture
def interrupt(host):
    """Presses the stop button; whatever is left of it is taken away after the test."""
    assert host
    import comfy.model_management as management

    yield lambda *_: management.interrupt_current_processing(True)
    management.interrupt_current_processing(False)


@contextmanager
def before_call(module, action, call=1):
    """Do something when a module is called for the given time."""
    calls = []

    def act(*_given):
        calls.append(1)
        if len(calls) == call:
            action()

    handle = module.register_forward_pre_hook(act)
    try:
        yield
    finally:
        handle.remove()
    assert len(calls) >= call, "never reached"


def watched(model, kind, function):
    """A clone with a wrapper of the test's own."""
    clone = model.clone()
    clone.add_wrapper_with_key(kind, "test", function)
    return clone


def test_a_then_b_then_a(host, native, on, conditioned, expected, bare, compatible):
    with leaves_no_trace(native, on):
        for _ in range(2):
            assert torch.equal(sample(host, on, conditioned), expected)
            assert torch.equal(sample(host, native, conditioned), bare)
        assert torch.equal(sample(host, on, conditioned), expected)
    assert not torch.allclose(expected, bare, atol=1e-3)
    compatible("no trace: A, B, A", "the same bits, nothing left")


def test_the_walk_notices_what_is_left(native):
    """The assertion itself: each kind of trace is seen."""
    transformer = native.model.diffusion_model
    kind = type(transformer)
    for leave, remove in (
        (lambda: setattr(transformer, "ours", 1), lambda: delattr(transformer, "ours")),
        (lambda: setattr(kind, "ours", 1), lambda: delattr(kind, "ours")),
        (
            lambda: transformer.blocks[1].q.weight.data.add_(1.0),
            lambda: transformer.blocks[1].q.weight.data.sub_(1.0),
        ),
        (
            lambda: native.add_wrapper_with_key("apply_model", "ours", print),
            lambda: native.wrappers.pop("apply_model"),
        ),
    ):
        before = transformer.blocks[1].q.weight.detach().clone()
        with pytest.raises(AssertionError), leaves_no_trace(native):
            leave()
        remove()
        transformer.blocks[1].q.weight.data.copy_(before)
    handle = transformer.blocks[0].register_forward_hook(print)
    assert hooks_on(transformer) == ["blocks.0"]
    handle.remove()


class Broken(Exception):
    """What a test raises."""


def fail():
    raise Broken


EXCEPTIONS = {f"block {i}": (f"blocks.{i}.q", 2) for i in (0, 2, BLOCKS - 1)}
INTERRUPTS = {f"block {i}": (f"blocks.{i}", 2) for i in (0, 1, BLOCKS - 1)}
EXCEPTIONS["injector"], INTERRUPTS["injector"] = ("injectors.1.to_out", 1), ("injectors.2.to_q", 1)
ENDS = [("an exception", place) for place in EXCEPTIONS]
ENDS += [("an interrupt", place) for place in INTERRUPTS]


@pytest.mark.parametrize(("end", "place"), ENDS)
def test_an_end_inside_a_call(
    host, loaded, native, on, conditioned, expected, bare, interrupt, end, place, compatible
):
    """A failure, or the stop button, in a block or in an injector."""
    from comfy.model_management import InterruptProcessingException

    raised, action, places = {
        "an exception": (Broken, fail, EXCEPTIONS),
        "an interrupt": (InterruptProcessingException, interrupt, INTERRUPTS),
    }[end]
    name, call = places[place]
    owner = loaded["adapter"].injectors if name.startswith("injectors") else native
    owner = owner.model if place == "injector" else owner.model.diffusion_model
    with leaves_no_trace(native, on):
        with pytest.raises(raised), before_call(owner.get_submodule(name), action, call):
            sample(host, on, conditioned)
        assert torch.equal(sample(host, native, conditioned), bare)
    assert torch.equal(sample(host, on, conditioned), expected)
    compatible(f"no trace: {end}", "nothing left", place)


def test_an_exception_in_the_hosts_sampling(
    host, ours, native, on, conditioned, expected, compatible
):
    """Between two steps, outside of any call of the model."""

    def stop_after_one(executor, *args, **kwargs):
        executor(*args, **kwargs)
        raise Broken

    with leaves_no_trace(native, on), pytest.raises(Broken):
        sample(host, watched(on, "predict_noise", stop_after_one), conditioned)
    (injection,) = on.get_wrappers("apply_model", ours("fantasyid.comfyui.injection").IDENTITY_KEY)
    assert not injection.holds_tensors
    assert torch.equal(sample(host, on, conditioned), expected)
    compatible("no trace: an exception", "nothing left", "between steps")


def test_an_interrupt_before_the_first_step(
    host, native, on, conditioned, expected, bare, interrupt, compatible
):
    from comfy.model_management import InterruptProcessingException

    with leaves_no_trace(native, on):
        interrupt()
        with pytest.raises(InterruptProcessingException):
            sample(host, on, conditioned)
    assert torch.equal(sample(host, native, conditioned), bare)
    assert torch.equal(sample(host, on, conditioned), expected)
    compatible("no trace: an interrupt", "nothing left", "before the first step")


def test_an_interrupt_between_steps(
    host, native, on, conditioned, expected, bare, interrupt, compatible
):
    from comfy.model_management import InterruptProcessingException

    steps: list[int] = []

    def after_the_second_step(executor, *args, **kwargs):
        result = executor(*args, **kwargs)
        steps.append(1)
        if len(steps) == 2:
            interrupt()
        return result

    with leaves_no_trace(native, on), pytest.raises(InterruptProcessingException):
        sample(host, watched(on, "predict_noise", after_the_second_step), conditioned, steps=9)
    assert len(steps) == 2
    assert torch.equal(sample(host, native, conditioned), bare)
    assert torch.equal(sample(host, on, conditioned), expected)
    compatible("no trace: an interrupt", "nothing left", "between steps")


def test_an_interrupt_while_keys_and_values_are_made(
    host, loaded, native, conditioned, photo_image, interrupt, compatible
):
    """Apply stops, keeps no half result, and the next Apply is as if nothing had been."""
    from comfy.model_management import InterruptProcessingException

    person = make_identity(host, loaded, photo_image.flip(1).sqrt())
    layer = loaded["adapter"].keys_values.model.injectors[1].to_kv
    with leaves_no_trace(native):
        with pytest.raises(InterruptProcessingException), before_call(layer, interrupt):
            apply(host, loaded, person, model=native)
        one, other = (
            sample(host, apply(host, loaded, person, model=native), conditioned) for _ in range(2)
        )
    assert torch.isfinite(one).all()
    assert torch.equal(one, other)
    compatible("no trace: an interrupt", "nothing left", "keys and values")


def test_clones_that_are_collected(
    host, loaded, native, identity, on, conditioned, expected, bare, compatible
):
    """A used clone, and an unused clone of a loaded MODEL."""
    with leaves_no_trace(native, on):
        used = apply(host, loaded, identity, 0.7, model=native)
        sample(host, used, conditioned)
        unused = on.clone()
        gone = [weakref.ref(used), weakref.ref(unused)]
        del used, unused
        assert torch.equal(sample(host, native, conditioned), bare)
        gc.collect()
        assert [reference() for reference in gone] == [None, None], "something holds a clone"
        assert torch.equal(sample(host, on, conditioned), expected)
    compatible("no trace: clones that go away", "nothing left", "used and unused clone")


def test_a_model_that_is_dropped_while_it_samples(
    host, loaded, native, identity, conditioned, expected, bare, compatible
):
    holders: list = []

    def drop(executor, *args, **kwargs):
        holders.clear()
        gc.collect()
        return executor(*args, **kwargs)

    with leaves_no_trace(native):
        holders.append(watched(apply(host, loaded, identity, model=native), "predict_noise", drop))
        video = sample(host, holders[0], conditioned)
        assert not holders
        assert torch.equal(video, expected)
    assert torch.equal(sample(host, native, conditioned), bare)
    compatible("no trace: clones that go away", "nothing left", "dropped in mid-run")


def test_a_host_with_the_right_positions(
    host, ours, loaded, native, identity, on, conditioned, expected, monkeypatch, compatible
):
    """Its own table is then used, and the video does not change."""
    rotary, transformer = ours("fantasyid.cogvideox.positions"), native.model.diffusion_model
    asked = []

    def right(self, height, width, frames, device):
        asked.append((frames, height, width))
        cosines, sines = rotary.rotary_table(frames, height, width, self.attention_head_dim)
        return cosines.to(device), sines.to(device)

    monkeypatch.setattr(type(transformer), "_get_rotary_emb", right)
    fresh = apply(host, loaded, identity, model=native)
    with leaves_no_trace(native):
        assert torch.allclose(sample(host, fresh, conditioned), expected, rtol=1e-4, atol=1e-5)
    assert asked
    monkeypatch.undo()
    assert torch.equal(sample(host, on, conditioned), expected)
    compatible("no trace: another host version", "the same video", "right positions")


def test_a_host_with_conditions_that_we_do_not_know(
    host, native, on, conditioned, expected, compatible
):
    import comfy.conds

    extra = {"a_later_condition": comfy.conds.CONDRegular(torch.ones(1, 3))}
    branches = [
        [[tensor, {**values, "model_conds": extra}] for tensor, values in branch]
        for branch in conditioned[:2]
    ]
    with leaves_no_trace(native, on):
        assert torch.equal(sample(host, on, (*branches, conditioned[2])), expected)
    compatible("no trace: another host version", "the same video", "unknown condition")


def test_a_host_that_gives_options_by_keyword(
    host, loaded, native, identity, on, conditioned, expected, compatible
):
    def by_keyword(executor, x, t, c_concat, c_crossattn, control, options, **kwargs):
        return executor(x, t, c_concat, c_crossattn, control, transformer_options=options, **kwargs)

    first = apply(host, loaded, identity, model=watched(native, "apply_model", by_keyword))
    with leaves_no_trace(native, on):
        assert torch.equal(sample(host, first, conditioned), expected)
    compatible("no trace: another host version", "the same video", "options by keyword")


@pytest.mark.parametrize(
    ("change", "works"),
    [(list, True), (lambda pair: (*pair, None), False), (lambda pair: pair[0], False)],
    ids=["list", "three", "tensor"],
)
def test_a_host_whose_blocks_return_something_else(
    host, native, on, conditioned, expected, bare, change, works, compatible
):
    block = native.model.diffusion_model.blocks[1]
    with leaves_no_trace(native, on):
        handle = block.register_forward_hook(lambda _block, _given, pair: change(pair))
        try:
            if works:
                assert torch.equal(sample(host, on, conditioned), expected)
            else:
                with pytest.raises(ValueError, match="a block of the transformer returned a"):
                    sample(host, on, conditioned)
        finally:
            handle.remove()
    assert torch.equal(sample(host, native, conditioned), bare)
    assert torch.equal(sample(host, on, conditioned), expected)
    compatible(
        "no trace: another host version",
        "the same video" if works else "an error, nothing left",
        "blocks return lists" if works else "blocks return something else",
    )
