"""Identity files on the real host: the same video, the right weights, replaced files noticed."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from host_client import bundled, changed, node_of
from host_graph import apply, fuse, load_adapter, sample

from fantasyid.weights.convert import convert_file, split_model
from miniature.models import write_tiny_models

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def saved(host, identity) -> Path:
    (path,) = host.run(
        "FantasyIDSaveIdentity", identity=identity, filename_prefix="ids/one", note="for tests"
    )
    return Path(path)


@pytest.fixture(scope="module")
def other_adapter(host, host_base, tmp_path_factory):
    """An adapter with other numbers in it."""
    tiny = write_tiny_models(tmp_path_factory.mktemp("other"), seed=5)
    folder = host_base / "models" / "fantasyid" / "other-adapter"
    shutil.copytree(tiny.model, folder)
    return load_adapter(host, "other-adapter")


def load(host, saved: Path, **links):
    return host.run("FantasyIDLoadIdentity", file=f"ids/{saved.name} [output]", **links)[0]


def test_an_identity_from_a_file_gives_the_same_video(
    host, loaded, identity, saved, conditioned, expected
):
    found = load(host, saved, adapter=loaded["adapter"], face_encoder=loaded["encoder"])
    for name in ("face_tokens", "vertex_tokens", "thumbnail"):
        assert torch.equal(getattr(found, name), getattr(identity, name)), name
    assert torch.equal(found.geometry.vertices, identity.geometry.vertices)
    assert torch.equal(found.geometry.triangles, identity.geometry.triangles)
    assert torch.equal(sample(host, apply(host, loaded, found), conditioned), expected)


def test_an_identity_says_where_it_comes_from(identity, loaded, aligned):
    origin = identity.provenance
    assert origin.detector == aligned[0].detector
    assert origin.adapter_hash == loaded["adapter"].fingerprint
    assert origin.encoder_hash == loaded["encoder"].fingerprint
    assert all(len(h) == 64 for h in (origin.adapter_hash, origin.encoder_hash))
    assert len(origin.source_hashes) == 1
    assert identity.thumbnail.std() > 0.05
    assert identity.geometry.vertices.shape == (1, 5023, 3)


def test_both_loaders_see_the_same_adapter(host, loaded):
    assert load_adapter(host).fingerprint == loaded["adapter"].fingerprint


def test_the_same_weights_in_other_files_have_the_same_hash(host, loaded, host_base, tiny):
    own = host_base / "models" / "fantasyid"
    split_model(tiny.model, None, own / "hashed_adapter.safetensors")
    convert_file(tiny.eva_clip, own / "hashed_eva.safetensors")
    adapter = load_adapter(host, "hashed_adapter.safetensors")
    assert adapter.fingerprint == loaded["adapter"].fingerprint
    (encoder,) = host.run("FantasyIDFaceEncoderLoader", face_encoder="hashed_eva.safetensors")
    assert encoder.fingerprint == loaded["encoder"].fingerprint


def test_another_adapter_is_refused_with_both_hashes(host, ours, identity, saved, other_adapter):
    hashes = [identity.provenance.adapter_hash[:16], other_adapter.fingerprint[:16]]
    assert hashes[0] != hashes[1]
    with pytest.raises(ValueError, match=f"{hashes[0]}.* is {hashes[1]}") as error:
        load(host, saved, adapter=other_adapter)
    assert str(saved) in str(error.value)
    found = load(host, saved)
    mismatch = ours("fantasyid.identity").identity_mismatch
    assert all(h in mismatch(found.provenance, other_adapter) for h in hashes)
    both = {"identity_a": found, "identity_b": identity, "looks": 0.0, "shape": 0.5}
    with pytest.raises(ValueError, match="the identity was made with the adapter"):
        host.run("FantasyIDBlendIdentities", **both, adapter=other_adapter)


def test_the_right_adapter_is_not_refused(ours, identity, loaded):
    mismatch = ours("fantasyid.identity").identity_mismatch
    assert mismatch(identity.provenance, loaded["adapter"], loaded["encoder"]) is None
    unknown = ours("fantasyid.identity").Provenance()
    assert mismatch(unknown, loaded["adapter"], loaded["encoder"]) is None


def test_another_face_encoder_is_refused_with_both_hashes(host, loaded, saved, identity):
    other = replace(loaded["encoder"], fingerprint="0f" * 32)
    hashes = f"{identity.provenance.encoder_hash[:16]}.* is {'0f' * 8}"
    with pytest.raises(ValueError, match=f"made with the face encoder {hashes}"):
        load(host, saved, face_encoder=other)


def test_tokens_of_another_adapter_are_not_fused(host, loaded, identity, other_adapter):
    _, _, tokens, head = host.run("FantasyIDInspectIdentity", identity=identity)
    with pytest.raises(ValueError, match="the face tokens were made with the adapter"):
        fuse(host, {"adapter": other_adapter}, tokens, head)
    assert torch.equal(fuse(host, loaded, tokens, head).vertex_tokens, identity.vertex_tokens)


def test_looks_of_a_on_the_shape_of_b(host, loaded, identity, other_person):
    other = other_person
    both = {"identity_a": identity, "identity_b": other, "looks": 0.0, "shape": 1.0}
    (plain,) = host.run("FantasyIDBlendIdentities", **both)
    assert torch.equal(plain.face_tokens, identity.face_tokens)
    assert torch.equal(plain.vertex_tokens, other.vertex_tokens)
    (fused,) = host.run("FantasyIDBlendIdentities", **both, adapter=loaded["adapter"])
    _, _, looks, _ = host.run("FantasyIDInspectIdentity", identity=identity)
    expected = fuse(host, loaded, looks, other.geometry)
    assert torch.equal(fused.vertex_tokens, expected.vertex_tokens)
    assert not torch.equal(fused.vertex_tokens, other.vertex_tokens)
    assert len(fused.provenance.source_hashes) == 2


def test_inspect_says_everything(host, saved):
    found = load(host, saved)
    picture, report, _, head = host.run("FantasyIDInspectIdentity", identity=found)
    assert picture.shape == (1, 128, 128, 3)
    assert head.vertices.shape == (1, 5023, 3)
    for words in (
        "36 face tokens (looks) and 79 vertex tokens (shape), 128 wide",
        "Head: 5023 vertices, 100 shape components; tiny_deca_model.tar",
        f"Adapter: {found.provenance.adapter_hash[:16]}",
        f"Face encoder: {found.provenance.encoder_hash[:16]}",
        f"Photos: {found.provenance.source_hashes[0][:16]}",
        "Written by: ComfyUI-FantasyID",
        "Note: for tests",
    ):
        assert words in report
    assert str(saved.parent) not in report


def test_an_empty_identity_goes_through_and_is_not_saved(host, ours):
    kinds = ours("fantasyid.identity")
    empty = kinds.Identity(torch.zeros(0, 36, 128), torch.zeros(0, 79, 128), "no face found")
    picture, report, tokens, head = host.run("FantasyIDInspectIdentity", identity=empty)
    assert picture.max() == 0
    assert report == "EMPTY IDENTITY: no face found."
    assert (tokens.empty_reason, head.empty_reason) == ("no face found", "no face found")
    (blended,) = host.run(
        "FantasyIDBlendIdentities", identity_a=empty, identity_b=empty, looks=0.5, shape=0.5
    )
    assert blended.empty_reason == "no face found"
    with pytest.raises(ValueError, match="there is no identity to save: no face found"):
        host.run("FantasyIDSaveIdentity", identity=empty, filename_prefix="ids/no", note="")


def test_a_note_is_kept_unless_another_one_is_given(host, saved):
    found = load(host, saved)
    for note, expected in (("", "for tests"), ("  \n", "for tests"), ("new", "new")):
        (path,) = host.run(
            "FantasyIDSaveIdentity", identity=found, filename_prefix="ids/two", note=note
        )
        assert load(host, Path(path)).provenance.note == expected


def test_the_drop_down_lists_identities_of_both_folders(host, ours, saved, host_base):
    from safetensors.torch import save_file

    shutil.copyfile(saved, host_base / "input" / "mine.safetensors")
    save_file({"a": torch.zeros(1)}, host_base / "input" / "no_identity.safetensors")
    files = ours("fantasyid.comfyui.files")
    choices = files.file_choices(files.IDENTITY)
    assert choices[0] == "mine.safetensors"
    assert f"ids/{saved.name} [output]" in choices
    assert "no_identity.safetensors" not in choices
    (found,) = host.run("FantasyIDLoadIdentity", file="mine.safetensors")
    assert torch.equal(found.vertex_tokens, load(host, saved).vertex_tokens)


def test_a_missing_file_is_named_before_anything_runs(host, host_base):
    node = host.nodes.NODE_CLASS_MAPPINGS["FantasyIDLoadIdentity"]
    words = node.validate_inputs(file="nobody.safetensors")
    assert 'The identity "nobody.safetensors" is not there' in words
    assert str(host_base / "input") in words
    outside = "../../models/fantasyid/tiny_transform.pkl"
    assert "is not there" in node.validate_inputs(file=outside)
    assert str(host_base / "output") in node.validate_inputs(file="x.safetensors [output]")
    assert node.validate_inputs(file=None) is True


def test_a_replaced_file_is_noticed(host, saved, host_base):
    node = host.nodes.NODE_CLASS_MAPPINGS["FantasyIDLoadIdentity"]
    path = host_base / "input" / "replaced.safetensors"
    assert node.fingerprint_inputs(file=path.name) == "replaced.safetensors: missing"
    shutil.copyfile(saved, path)
    before = node.fingerprint_inputs(file=path.name)
    assert node.fingerprint_inputs(file=path.name, adapter=None) == before
    os.utime(path, ns=(1, 1))
    assert node.fingerprint_inputs(file=path.name) != before


def test_the_identity_graphs_run_one_after_the_other(client, host_base):
    shutil.rmtree(host_base / "output" / "fantasyid", ignore_errors=True)
    graph = bundled("identity_files")
    run = client.finish(graph)
    (entry,) = run.outputs[node_of(graph, "FantasyIDSaveIdentity")]["identities"]
    assert entry == {"filename": "identity_00001_.safetensors", "subfolder": "fantasyid",
                     "type": "output"}  # fmt: skip
    (report,) = run.outputs[node_of(graph, "FantasyIDInspectIdentity")]["text"]
    assert "36 face tokens" in report
    video = bundled("identity_to_video")
    run = client.finish(video)
    ran = {video[key]["class_type"] for key in run.executed}
    assert not ran & {"FantasyIDFaceEncoderLoader", "FantasyIDDecaLoader"}
    # The host notices another file under the same name.
    again = client.run(video)
    assert again.executed == []
    path = host_base / "output" / "fantasyid" / "identity_00001_.safetensors"
    os.utime(path, ns=(1, 1))
    again = client.run(video)
    assert node_of(video, "FantasyIDLoadIdentity") in again.executed


def test_over_http_a_missing_file_is_refused_by_name(client):
    graph = changed(bundled("identity_to_video"), "FantasyIDLoadIdentity", file="gone.safetensors")
    run = client.run(graph)
    assert run.ending == "refused"
    assert "gone.safetensors" in run.errors
