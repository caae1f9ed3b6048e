"""The doctor on the real host: tiny models, positions, other people's patches, dials."""

from __future__ import annotations

import json

import pytest
import torch
from host_client import bundled, changed
from host_graph import apply, sample


def examine(host, **inputs):
    size = {"width": 96, "height": 64, "length": 9, "check_hashes": False}
    text, facts = host.run("FantasyIDDoctor", **(size | inputs))
    return text, json.loads(facts)["findings"]


def about(found, topic):
    """The only finding of a topic."""
    (finding,) = (f for f in found if f["topic"] == topic)
    return finding


def patch(found, name):
    return next(f for f in found if f["topic"] == "patch" and f["facts"]["patch"] == name)


def windowed(host, model, **options):
    """A model with Context Windows on it, as asked."""
    (model,) = host.run(
        "ContextWindowsManual",
        model=model,
        context_schedule="standard_static",
        context_stride=1,
        closed_loop=False,
        fuse_method="pyramid",
        **options,
    )
    return model


def test_nothing_connected_still_tells_files_host_and_packages(host):
    text, found = examine(host)
    assert {f["topic"] for f in found} == {"host", "file", "package"}
    assert "FLAME" in text
    versions = [f["facts"].get("version") for f in found if f["topic"] == "host"]
    assert "0.30.0" in versions
    assert {f["facts"]["state"] for f in found if f["topic"] == "file"} <= {"there", "missing"}


def test_a_tiny_model_with_an_identity(host, loaded, identity):
    model = apply(host, loaded, identity)
    text, found = examine(host, model=model, adapter=loaded["adapter"])
    assert "tiny stand-in" in about(found, "model")["sentence"]
    rotary = about(found, "rotary")
    assert rotary["level"] == "ok"
    assert rotary["facts"]["present"]
    assert rotary["facts"]["corrected"]
    on = about(found, "identity")
    assert (on["level"], on["facts"]["strength"], on["facts"]["blocks"]) == ("ok", 1.0, 4)
    assert about(found, "adapter")["facts"]["fits"] is True
    assert about(found, "memory")["facts"]["total"] > 1_000_000
    assert "FantasyID Sampler" in about(found, "sampler")["sentence"]
    assert not [f for f in found if f["topic"] == "patch"]
    assert "identity 1 of 1 is on at strength 1" in text


def test_a_model_of_the_hosts_loader_has_its_defects(host, native):
    text, found = examine(host, model=native)
    rotary = about(found, "rotary")
    assert rotary["level"] == "warning"
    assert (rotary["facts"]["present"], rotary["facts"]["corrected"]) == (True, False)
    assert rotary["facts"]["scale"] == 1.875
    assert about(found, "sampler")["facts"]["input_scale"] > 1000
    assert "NO IDENTITY" in about(found, "identity")["sentence"]
    assert "does not correct" in text


def test_a_repaired_host_is_found_right(host, ours, native, monkeypatch):
    from comfy.ldm.cogvideo.model import CogVideoXTransformer3DModel as Transformer

    def repaired(_self, h, w, t, device):
        assert device is not None
        return ours("fantasyid.cogvideox.positions").rotary_table(t, h, w, 64)

    monkeypatch.setattr(Transformer, "_get_rotary_emb", repaired)
    rotary = about(examine(host, model=native)[1], "rotary")
    assert (rotary["level"], rotary["facts"]["present"]) == ("ok", False)


def test_a_host_without_the_scale_alone_is_right_at_one_size(host, native, monkeypatch):
    transformer = native.model.diffusion_model
    monkeypatch.setattr(transformer, "spatial_interpolation_scale", 1.0)
    rotary = about(examine(host, model=native)[1], "rotary")
    assert rotary["level"] == "warning"
    assert "at sizes other than 720x480" in rotary["sentence"]


def test_learned_positions_are_measured(host, ours, tiny, tmp_path):
    from miniature.checkpoints import transformer_files

    folder = tmp_path / "transformer"
    folder.mkdir()
    for name, content in transformer_files(learned=True).items():
        (folder / name).write_bytes(content)
    weights, defects = ours("fantasyid.comfyui.weights"), ours("fantasyid.comfyui.defects")
    model, _ = weights.load_model(tmp_path, tiny.transforms, {})
    finding = defects.rotary_beside_learned(model)
    assert finding.facts == {"present": True, "corrected": True, "learned": True}
    bare = model.clone()
    bare.remove_wrappers_with_key("apply_model", "fantasyid_positions")
    assert defects.rotary_beside_learned(bare).level == "warning"
    assert host


def test_caches_and_wrong_windows_are_named(host, loaded, identity):
    model = apply(host, loaded, identity)
    cache = {"start_percent": 0.15, "end_percent": 0.95, "verbose": False}
    (cached,) = host.run("EasyCache", model=model, reuse_threshold=0.5, **cache)
    wrong = windowed(host, cached, context_length=16, context_overlap=0, dim=0, freenoise=False)
    _, found = examine(host, model=wrong)
    assert patch(found, "EasyCache")["level"] == "warning"
    windows = patch(found, "context windows")
    assert windows["level"] == "warning"
    for word in ("dim is 0", "context_length is 16", "causal_window_fix", "cond_retain", "overlap"):
        assert word in windows["sentence"]
    (lazy,) = host.run("LazyCache", model=model, reuse_threshold=0.2, **cache)
    assert patch(examine(host, model=lazy)[1], "LazyCache")["level"] == "note"


def test_right_windows_are_right_and_shorten_the_estimate(host, loaded, identity):
    model = apply(host, loaded, identity)
    right = {"dim": 2, "freenoise": True, "cond_retain_index_list": "0"}
    right |= {"context_length": 5, "context_overlap": 2, "causal_window_fix": False}
    _, found = examine(host, model=windowed(host, model, **right), length=49)
    assert patch(found, "context windows")["level"] == "ok"
    assert not [f for f in found if f["topic"] == "patch" and f["facts"]["patch"] == "wrappers"]
    whole = about(examine(host, model=model, length=49)[1], "memory")["facts"]["activations"]
    assert about(found, "memory")["facts"]["activations"] < whole


def test_other_peoples_patches_are_named(host, loaded, identity):
    model = apply(host, loaded, identity).clone()
    weight = "diffusion_model.blocks.0.attn_out.weight"
    assert model.add_patches({weight: (torch.zeros(192, 192),)})
    model.add_object_patch("diffusion_model.spatial_interpolation_scale", 1.0)
    model.set_model_unet_function_wrapper(lambda call, options: call(**options))
    model.set_model_attn2_replace(lambda *_: None, "middle", 0)
    options = model.model_options["transformer_options"]
    options["optimized_attention_override"] = lambda function, *a, **k: function(*a, **k)
    model.add_wrapper_with_key("diffusion_model", "somebody", lambda executor, *a: executor(*a))
    _, found = examine(host, model=model)
    assert patch(found, "LoRA")["facts"]["weights"] == 1
    assert patch(found, "object")["level"] == "note"
    assert patch(found, "model_function_wrapper")["level"] == "note"
    assert patch(found, "unread")["level"] == "warning"
    assert patch(found, "attention")["level"] == "note"
    assert patch(found, "wrappers")["facts"]["names"] == ["somebody (diffusion_model)"]


def test_compile_is_named(host, loaded, identity):
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    model = apply(host, loaded, identity).clone()
    set_torch_compile_wrapper(model, backend="eager")
    _, found = examine(host, model=model)
    assert patch(found, "torch.compile")["level"] == "ok"


def test_a_replaced_forward_on_the_shared_model_is_named(host, loaded, identity, monkeypatch):
    model = apply(host, loaded, identity)
    block = loaded["model"].model.diffusion_model.blocks[2]
    monkeypatch.setattr(block, "forward", lambda *a, **k: type(block).forward(block, *a, **k))
    _, found = examine(host, model=model)
    assert patch(found, "forward was replaced")["facts"]["where"] == ["block 2"]


def test_nothing_is_left_on_a_model_after_a_run(host, loaded, identity, conditioned):
    model = apply(host, loaded, identity)
    before = [f for f in examine(host, model=model)[1] if f["topic"] in ("patch", "identity")]
    sample(host, model, conditioned, steps=1)
    after = [f for f in examine(host, model=model)[1] if f["topic"] in ("patch", "identity")]
    assert after == before


@pytest.mark.parametrize(
    ("dials", "words"),
    [
        ({"strength": 0.1}, "strength 0.1 leaves little"),
        ({"strength": 2.0}, "freezes the face"),
        ({"strength": -1.0}, "pushes away"),
        ({"looks": 0.0}, "looks is 0"),
        ({"start_percent": 0.5, "end_percent": 0.6}, "of the schedule"),
        ({"start_percent": 0.5}, "after the first steps"),
    ],
)
def test_dials_that_take_the_identity_away_are_named(host, ours, loaded, identity, dials, words):
    steering = ours("fantasyid.injection.steering").Steering(**dials)
    model = ours("fantasyid.comfyui.apply").apply_identity(
        loaded["model"], loaded["adapter"], identity, steering
    )
    finding = about(examine(host, model=model)[1], "identity")
    assert finding["level"] == "warning"
    assert words in finding["sentence"]


def test_a_small_mask_and_two_faces_without_masks(host, ours, loaded, identity):
    steering, put = (
        ours("fantasyid.injection.steering").Steering,
        ours("fantasyid.comfyui.apply").apply_identity,
    )
    mask = torch.zeros(1, 64, 96)
    mask[:, :4, :4] = 1
    one = put(loaded["model"], loaded["adapter"], identity, steering(mask=mask))
    assert "its mask covers 0.3%" in about(examine(host, model=one)[1], "identity")["sentence"]
    both = put(one, loaded["adapter"], identity, steering())
    assert "their faces will mix" in examine(host, model=both)[0]


def test_prompt_and_vae_are_measured(host, loaded):
    _, found = examine(host, clip=loaded["clip"], vae=loaded["vae"])
    assert about(found, "prompt")["facts"]["tokens"] > 226
    encoding, decoding = (f for f in found if f["topic"] == "VAE")
    assert encoding["facts"]["present"] is True
    assert decoding["facts"]["needed"] > 0


def test_a_strange_model_and_an_impossible_size(host, loaded):
    class Strange:
        model = torch.nn.Linear(1, 1)

    _, found = examine(host, model=Strange())
    assert about(found, "model")["level"] == "error"
    with pytest.raises(ValueError, match="width is 97"):
        examine(host, model=loaded["model"], width=97)


def test_a_missing_file_is_an_error_and_comes_back(host, tiny):
    folder = tiny.vae.parent
    names = sorted(path.name for path in folder.iterdir())
    for name in names:
        (folder / name).rename(folder / f"{name}.away")
    try:
        text, found = examine(host)
    finally:
        for name in names:
            (folder / f"{name}.away").rename(folder / name)
    missing = [f for f in found if f["level"] == "error"]
    assert [f["facts"]["name"] for f in missing] == ["CogVideoX VAE"]
    assert str(folder) in text


def test_the_bundled_graph_runs_without_any_model(client):
    graph = bundled("doctor")
    run = client.finish(graph)
    (text,) = (v["text"][0] for k, v in run.outputs.items() if "Doctor" in graph[k]["class_type"])
    assert "identity" not in text.lower().replace("fantasyid", "")  # no MODEL is connected
    assert "CogVideoX VAE" in text
    client.finish(changed(graph, "FantasyIDDoctor", check_hashes=True))
