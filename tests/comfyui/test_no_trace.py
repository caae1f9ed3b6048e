"""Whatever happens, nothing of ours is left on what the host shares."""

from __future__ import annotations

import gc
import weakref
from contextlib import contextmanager

import pytest
import torch
from host_graph import apply, load_base, make_identity, sample, watched
from host_traces import holds_tensors, hooks_on, leaves_no_trace

pytestmark = pytest.mark.slow

BLOCKS = 4


@pytest.fixture(scope="module")
def native(host):
    return load_base(host)


@pytest.fixture(scope="module")
def bare(host, native, conditioned):
    """What the host's own MODEL gives; by this run the host has set what it sets itself."""
    return sample(host, native, conditioned)


@pytest.fixture(scope="module")
def on(host, loaded, native, identity, bare):
    assert torch.isfinite(bare).all()
    return apply(host, loaded, identity, model=native)


@pytest.fixture(scope="module")
def expected(host, on, conditioned):
    return sample(host, on, conditioned)


@pytest.fixture
def as_before(host, native, on, conditioned, expected, bare):
    """`with as_before():` nothing is left of what happens in it, and both MODELs give the same."""

    @contextmanager
    def check():
        with leaves_no_trace(native, on):
            yield
        assert torch.equal(sample(host, native, conditioned), bare)
        assert torch.equal(sample(host, on, conditioned), expected)

    return check


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


def test_a_then_b_then_a(host, native, on, conditioned, expected, bare, compatible):
    with leaves_no_trace(native, on):
        for model, video in ((on, expected), (native, bare), (on, expected)):
            assert torch.equal(sample(host, model, conditioned), video)
    assert not torch.allclose(expected, bare, atol=1e-3)
    compatible("no trace: A, B, A", "the same bits, nothing left")


@pytest.mark.usefixtures("bare")
def test_the_walk_notices_what_is_left(native):
    """The assertion itself: each kind of trace is seen."""
    transformer = native.model.diffusion_model
    kind = type(transformer)
    weight = transformer.blocks[1].q.weight.data
    before = weight.clone()
    for leave, remove in (
        (lambda: setattr(transformer, "ours", 1), lambda: delattr(transformer, "ours")),
        (lambda: setattr(kind, "ours", 1), lambda: delattr(kind, "ours")),
        (lambda: weight.add_(1.0), lambda: weight.copy_(before)),
        (
            lambda: native.add_wrapper_with_key("apply_model", "ours", print),
            lambda: native.wrappers.pop("apply_model"),
        ),
    ):
        with pytest.raises(AssertionError), leaves_no_trace(native):
            leave()
        remove()
    handle = transformer.blocks[0].register_forward_hook(print)
    assert hooks_on(transformer) == ["blocks.0"]
    handle.remove()


class Broken(Exception):
    """What a test raises."""


def fail():
    raise Broken


PLACES = {
    "an exception": {f"block {i}": (f"blocks.{i}.q", 2) for i in (0, 2, BLOCKS - 1)}
    | {"injector": ("injectors.1.to_out", 1)},
    "an interrupt": {f"block {i}": (f"blocks.{i}", 2) for i in (0, 1, BLOCKS - 1)}
    | {"injector": ("injectors.2.to_q", 1)},
}


@pytest.mark.parametrize(("end", "place"), [(end, at) for end in PLACES for at in PLACES[end]])
def test_an_end_inside_a_call(
    host, loaded, native, on, conditioned, as_before, stop_button, end, place, compatible
):
    """A failure, or the stop button, in a block or in an injector."""
    raises, action = pytest.raises(Broken), fail
    if end == "an interrupt":
        raises, action = stop_button.stops(), stop_button.press
    name, call = PLACES[end][place]
    owner = loaded["adapter"].injectors if name.startswith("injectors") else native
    owner = owner.model if place == "injector" else owner.model.diffusion_model
    with as_before(), raises, before_call(owner.get_submodule(name), action, call):
        sample(host, on, conditioned)
    compatible(f"no trace: {end}", "nothing left", place)


def test_an_exception_in_the_hosts_sampling(host, ours, on, conditioned, as_before, compatible):
    """Between two steps, outside of any call of the model."""

    def stop_after_one(executor, *args, **kwargs):
        executor(*args, **kwargs)
        raise Broken

    (injection,) = on.get_wrappers("apply_model", ours("fantasyid.comfyui.injection").IDENTITY_KEY)
    with as_before():
        with pytest.raises(Broken):
            sample(host, watched(on, stop_after_one, "predict_noise"), conditioned)
        assert not holds_tensors(injection)
    compatible("no trace: an exception", "nothing left", "between steps")


def test_an_interrupt_before_the_first_step(
    host, on, conditioned, as_before, stop_button, compatible
):
    with as_before(), stop_button.stops():
        stop_button.press()
        sample(host, on, conditioned)
    compatible("no trace: an interrupt", "nothing left", "before the first step")


def test_an_interrupt_between_steps(host, on, conditioned, as_before, stop_button, compatible):
    steps: list[int] = []

    def after_the_second_step(executor, *args, **kwargs):
        result = executor(*args, **kwargs)
        steps.append(1)
        if len(steps) == 2:
            stop_button.press()
        return result

    with as_before(), stop_button.stops():
        sample(host, watched(on, after_the_second_step, "predict_noise"), conditioned, steps=9)
    assert len(steps) == 2
    compatible("no trace: an interrupt", "nothing left", "between steps")


def test_an_interrupt_while_keys_and_values_are_made(
    host, loaded, native, conditioned, photo_image, stop_button, compatible
):
    """Apply stops, keeps no half result, and the next Apply is as if nothing had been."""
    person = make_identity(host, loaded, photo_image.flip(1).sqrt())
    layer = loaded["adapter"].keys_values.model.injectors[1].to_kv
    with leaves_no_trace(native):
        with stop_button.stops(), before_call(layer, stop_button.press):
            apply(host, loaded, person, model=native)
        one, other = (
            sample(host, apply(host, loaded, person, model=native), conditioned) for _ in range(2)
        )
    assert torch.isfinite(one).all()
    assert torch.equal(one, other)
    compatible("no trace: an interrupt", "nothing left", "keys and values")


def test_clones_that_are_collected(
    host, loaded, native, identity, on, conditioned, bare, as_before, compatible
):
    """A used clone, and an unused clone of a loaded MODEL."""
    with as_before():
        used = apply(host, loaded, identity, 0.7, model=native)
        sample(host, used, conditioned)
        unused = on.clone()
        gone = [weakref.ref(used), weakref.ref(unused)]
        del used, unused
        assert torch.equal(sample(host, native, conditioned), bare)
        gc.collect()
        assert [reference() for reference in gone] == [None, None], "something holds a clone"
    compatible("no trace: clones that go away", "nothing left", "used and unused clone")


def test_a_model_that_is_dropped_while_it_samples(
    host, loaded, native, identity, conditioned, expected, as_before, compatible
):
    holders: list = []

    def drop(executor, *args, **kwargs):
        holders.clear()
        gc.collect()
        return executor(*args, **kwargs)

    with as_before():
        model = apply(host, loaded, identity, model=native)
        holders.append(watched(model, drop, "predict_noise"))
        del model
        video = sample(host, holders[0], conditioned)
        assert not holders
    assert torch.equal(video, expected)
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

    first = apply(host, loaded, identity, model=watched(native, by_keyword))
    with leaves_no_trace(native, on):
        assert torch.equal(sample(host, first, conditioned), expected)
    compatible("no trace: another host version", "the same video", "options by keyword")


@pytest.mark.parametrize(
    ("change", "kind"),
    [(list, "lists"), (lambda pair: (*pair, None), "three"), (lambda pair: pair[0], "tensors")],
    ids=["list", "three", "tensor"],
)
def test_a_host_whose_blocks_return_something_else(
    host, native, on, conditioned, expected, as_before, change, kind, compatible
):
    block = native.model.diffusion_model.blocks[1]
    with as_before():
        handle = block.register_forward_hook(lambda _block, _given, pair: change(pair))
        try:
            if kind == "lists":
                assert torch.equal(sample(host, on, conditioned), expected)
            else:
                with pytest.raises(ValueError, match="a block of the transformer returned a"):
                    sample(host, on, conditioned)
        finally:
            handle.remove()
    result = "the same video" if kind == "lists" else "an error, nothing left"
    part = f"blocks return {'lists' if kind == 'lists' else 'something else'}"
    compatible("no trace: another host version", result, part)
