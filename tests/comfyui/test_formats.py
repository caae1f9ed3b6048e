"""Every form in which a model may come, on the real host; and the converter's node."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from host_graph import (
    apply,
    load_adapter,
    load_base,
    load_model,
    make_identity,
    sample,
)  # fmt: skip
from safetensors.torch import load_file, save_file

from fantasyid.weights.convert import convert_file, split_model
from fantasyid.weights.keys import sort_released_keys
from fantasyid.weights.read import read_model

pytestmark = pytest.mark.slow

NAME = "diffusion_pytorch_model"


@pytest.fixture(scope="module")
def own(host_base) -> Path:
    return host_base / "models" / "fantasyid"


@pytest.fixture(scope="module")
def released(tiny):
    return read_model(tiny.model)


def weights_of(model, adapter):
    """All weights of a loaded model by module."""
    parts = {"base": model.model.diffusion_model} if model is not None else {}
    for name in ("abstractor", "fusion", "injectors"):
        parts[name] = getattr(adapter, name).model
    return {f"{p}.{n}": t for p, module in parts.items() for n, t in module.state_dict().items()}


def same(one, two) -> bool:
    return set(one) == set(two) and all(torch.equal(one[n], two[n]) for n in one)


def one_file(folder, weights):
    save_file(weights, folder / f"{NAME}.safetensors")


def three_shards(folder, weights):
    names, index = sorted(weights), {}
    for number in range(3):
        file = f"{NAME}-{number + 1:05d}-of-00003.safetensors"
        save_file({name: weights[name] for name in names[number::3]}, folder / file)
        index |= dict.fromkeys(names[number::3], file)
    (folder / f"{NAME}.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


def zip_bin(folder, weights):
    torch.save(weights, folder / f"{NAME}.bin")


def legacy_bin(folder, weights):
    torch.save(weights, folder / f"{NAME}.bin", _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("write", [one_file, three_shards, zip_bin, legacy_bin])
def test_folders(host, loaded, own, tiny, released, write):
    folder = own / write.__name__ / "transformer"
    folder.mkdir(parents=True)
    shutil.copy(tiny.model / "transformer" / "config.json", folder)
    write(folder, released)
    expected = weights_of(loaded["model"], loaded["adapter"])
    assert same(weights_of(*load_model(host, write.__name__)), expected)
    assert same(weights_of(*load_model(host, f"{write.__name__}/transformer")), expected)


def test_single_merged_files(host, loaded, own, released):
    """With the released names, and with the host's names for the base."""
    keys = sort_released_keys(released)
    adapter = {k: t for k, t in released.items() if k not in keys.base.values()}
    save_file(released, own / "merged.safetensors")
    save_file(
        adapter | {ours: released[key] for ours, key in keys.base.items()},
        own / "merged_host_names.safetensors",
    )
    expected = weights_of(loaded["model"], loaded["adapter"])
    for name in ("merged", "merged_host_names"):
        assert same(weights_of(*load_model(host, f"{name}.safetensors")), expected)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn], ids=str
)
def test_precisions(host, loaded, own, released, aligned, dtype):
    name = f"{str(dtype).split('.')[1]}.safetensors"
    save_file({key: tensor.to(dtype) for key, tensor in released.items()}, own / name)
    model, adapter = load_model(host, name)
    for ours, tensor in weights_of(None, adapter).items():
        assert tensor.dtype == dtype, ours
    keys = sort_released_keys(released)
    base = model.model.diffusion_model.state_dict()
    for ours, key in keys.base.items():
        assert torch.equal(base[ours].float(), released[key].to(dtype).float()), ours
    identity = make_identity(host, loaded | {"adapter": adapter}, aligned[0])
    exact = make_identity(host, loaded, aligned[0])
    error = (identity.tokens - exact.tokens).norm() / exact.tokens.norm()
    assert error <= {4: 0, 2: 0.02, 1: 0.25}[dtype.itemsize]


def test_mixed_precisions_lose_nothing(host, own, released):
    """The first tensor of a file does not decide for the others."""
    keys = sort_released_keys(released)
    mixed = {
        key: tensor if key in keys.injection.values() and tensor.ndim == 1 else tensor.bfloat16()
        for key, tensor in released.items()
    }
    save_file(mixed, own / "mixed.safetensors")
    adapter = load_adapter(host, "mixed.safetensors")
    got = adapter.keys_values.model.state_dict() | adapter.injectors.model.state_dict()
    for ours, key in keys.injection.items():
        assert torch.equal(got[ours].float(), mixed[key].float()), ours


def test_an_adapter_file_is_an_adapter_and_no_model(host, loaded, own, tiny):
    split_model(tiny.model, None, own / "only_adapter.safetensors")
    adapter = load_adapter(host, "only_adapter.safetensors")
    assert same(weights_of(None, adapter), weights_of(None, loaded["adapter"]))
    with pytest.raises(ValueError, match=r"only_adapter\.safetensors has no CogVideoX transformer"):
        load_model(host, "only_adapter.safetensors")
    with pytest.raises(ValueError, match="Load it with Load FantasyID Adapter"):
        load_model(host, "only_adapter.safetensors")


def test_a_base_file_is_no_adapter_and_no_whole_model(host):
    name = "cogvideox_5b_i2v.safetensors"
    with pytest.raises(ValueError, match=r"cogvideox_5b_i2v\.safetensors has no FantasyID adapter"):
        load_adapter(host, name)
    with pytest.raises(ValueError, match="holds a transformer but no FantasyID adapter"):
        load_model(host, name)


def test_converted_third_party_files_give_the_same_identity(
    host, loaded, own, tiny, aligned, identity
):
    converted = {}
    for path in (tiny.eva_clip, tiny.deca, tiny.flame, tiny.transforms):
        # Names that say nothing: the content decides.
        converted[path] = f"converted_{len(converted)}.safetensors"
        convert_file(path, own / converted[path])
    (encoder,) = host.run("FantasyIDFaceEncoderLoader", face_encoder=converted[tiny.eva_clip])
    head = {"deca": converted[tiny.deca], "flame": converted[tiny.flame]}
    (deca,) = host.run("FantasyIDDecaLoader", **head)
    transforms = converted[tiny.transforms]
    names = {"adapter": "tiny-fantasyid", "mesh_transforms": transforms}
    (adapter,) = host.run("FantasyIDAdapterLoader", **names)
    parts = loaded | {"encoder": encoder, "deca": deca, "adapter": adapter}
    assert torch.equal(make_identity(host, parts, aligned[0]).tokens, identity.tokens)


def convert(host, name, **changes):
    inputs = {"model": "tiny-fantasyid", "name": name, "dtype": "keep", "overwrite": False}
    node = host.nodes.NODE_CLASS_MAPPINGS["FantasyIDConvert"]
    return node.PREPARE_CLASS_CLONE(None).execute(**(inputs | changes)).ui["text"][0]


def test_the_nodes_files_give_the_released_video(
    host, host_base, loaded, own, identity, conditioned, expected
):
    text = convert(host, "tiny")
    base = host_base / "models" / "diffusion_models" / "tiny_base.safetensors"
    assert base.is_file()
    assert (own / "tiny_adapter.safetensors").is_file()
    assert "tiny_base.safetensors: 9.9 MB, 112 tensors, written and checked" in text
    assert "tiny_adapter.safetensors: 3.77 MB, 209 tensors" in text
    model = load_base(host, "tiny_base.safetensors")
    adapter = load_adapter(host, "tiny_adapter.safetensors")
    parts = loaded | {"model": model, "adapter": adapter}
    assert torch.equal(sample(host, apply(host, parts, identity), conditioned), expected)
    assert "was there already" in convert(host, "tiny")


def test_the_fp8_base_loads_and_stays_close(
    host, host_base, loaded, identity, conditioned, expected
):
    convert(host, "tiny8", dtype="fp8_e4m3fn")
    file = load_file(host_base / "models" / "diffusion_models" / "tiny8_base.safetensors")
    assert file["blocks.1.ff_proj.weight"].dtype == torch.float8_e4m3fn
    model = load_base(host, "tiny8_base.safetensors")
    parts = loaded | {"model": model, "adapter": load_adapter(host, "tiny8_adapter.safetensors")}
    got = sample(host, apply(host, parts, identity), conditioned)
    assert 0 < (got - expected).norm() / expected.norm() < 0.1


def test_our_own_reader_of_a_base_takes_the_hosts_names(host, ours, host_base, loaded):
    convert(host, "tiny")
    path = host_base / "models" / "diffusion_models" / "tiny_base.safetensors"
    model = ours("fantasyid.comfyui.weights").load_base(str(path), {})
    expected = loaded["model"].model.diffusion_model.state_dict()
    assert same(model.model.diffusion_model.state_dict(), expected)


def test_an_interrupt_stops_it_and_the_next_run_goes_on(
    host, host_base, own, monkeypatch, stop_button
):
    import comfy.utils

    shown = []

    def press_stop(bar, value, *_):
        shown.append((value, bar.total))
        if value >= 5:
            stop_button.press()

    with monkeypatch.context() as patched:
        patched.setattr(comfy.utils.ProgressBar, "update_absolute", press_stop)
        with stop_button.stops():
            convert(host, "stopped")
    base = host_base / "models" / "diffusion_models" / "stopped_base.safetensors"
    assert shown[-1] == (5, 28)
    assert base.with_name("stopped_base.safetensors.part").is_file()
    assert not base.exists()
    convert(host, "stopped")
    expected = base.with_name("tiny_base.safetensors")
    split_model(own / "tiny-fantasyid", expected, None)
    assert base.read_bytes() == expected.read_bytes()


def test_the_node_replaces_only_when_asked(host, host_base):
    base = host_base / "models" / "diffusion_models" / "mine_base.safetensors"
    base.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"mine_base\.safetensors is there already"):
        convert(host, "mine")
    assert base.read_bytes() == b"mine"
    convert(host, "mine", overwrite=True)
    assert load_file(base)


@pytest.mark.parametrize("name", ["../escape", "a/b", "", ".hidden", "C:\\x", "x\0y", "x."])
def test_a_name_cannot_leave_the_folders(host, name):
    with pytest.raises(ValueError, match="cannot be the name of a file"):
        convert(host, name)
