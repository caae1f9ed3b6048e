"""The converter: same tensors in new files, resumable at any point, nothing replaced unasked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fantasyid.weights.convert import convert_file, sources, split_model, write
from fantasyid.weights.convert.command import main
from fantasyid.weights.keys import sort_released_keys
from fantasyid.weights.third_party import read_deca, read_eva, read_flame, read_mesh_tables

pytestmark = pytest.mark.slow


def split(folder, files, **options):
    return split_model(folder, files.base, files.adapter, **options)


def is_the_base(path: Path, released) -> bool:
    """Whether every tensor of a base file is the released one, under the host's name."""
    base, keys = load_file(path), sort_released_keys(released)
    return set(base) == set(keys.base) and all(
        same_bits(base[ours], released[key]) for ours, key in keys.base.items()
    )


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


def same_bits(got: torch.Tensor, expected: torch.Tensor) -> bool:
    return got.dtype == expected.dtype and torch.equal(
        got.reshape(-1).view(torch.uint8), expected.reshape(-1).view(torch.uint8)
    )


def test_base_and_adapter_hold_every_live_tensor_bit_for_bit(folder, files, released):
    written = split(folder, files)
    keys = sort_released_keys(released)
    adapter = load_file(files.adapter)
    assert is_the_base(files.base, released)
    live = [k for part in (keys.abstractor, keys.fusion, keys.injection) for k in part.values()]
    assert set(adapter) == set(live)
    assert keys.dead
    assert all(same_bits(adapter[key], released[key]) for key in live)
    assert [w.num_bytes for w in written] == [f.stat().st_size for f in (files.base, files.adapter)]
    assert not any(path.name.endswith(".part") for path in files.base.parent.iterdir())


def test_the_metadata_name_sources_and_kind(folder, files):
    split(folder, files)
    metadata = metadata_of(files.base)
    assert metadata["fantasyid_kind"] == "base"
    assert metadata_of(files.adapter)["fantasyid_kind"] == "adapter"
    assert metadata["fantasyid_format"] == write.FORMAT
    sizes = {s["name"]: s["size"] for s in json.loads(metadata["fantasyid_sources"])}
    shards = (folder / "transformer").glob("*.safetensors")
    assert sizes == {path.name: path.stat().st_size for path in shards}


def test_the_second_run_does_nothing_and_another_conversion_is_refused(folder, files):
    split(folder, files)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in vars(files).values()}
    assert all(file.was_there for file in split(folder, files))
    with pytest.raises(FileExistsError, match=r"b\.safetensors is there already"):
        split(folder, files, dtype="fp16")
    now = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in before}
    assert now == before
    split(folder, files, dtype="fp16", overwrite=True)
    assert {t.dtype for t in load_file(files.base).values()} == {torch.float16}


def test_a_foreign_file_under_the_name_survives(folder, files):
    files.adapter.write_bytes(b"somebody's work")
    with pytest.raises(FileExistsError, match=r"a\.safetensors"):
        split(folder, files)
    assert files.adapter.read_bytes() == b"somebody's work"
    assert not files.base.exists()
    part = files.base.with_name(files.base.name + ".part")
    part.write_bytes(b"another program's download")
    files.adapter.unlink()
    with pytest.raises(FileExistsError, match="was not begun by this converter"):
        split(folder, files)
    assert part.read_bytes() == b"another program's download"


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp8_e4m3fn"])
def test_precisions(folder, files, released, dtype):
    split(folder, files, dtype=dtype)
    base, adapter = load_file(files.base), load_file(files.adapter)
    keys = sort_released_keys(released)
    wanted = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp8_e4m3fn": torch.float8_e4m3fn}
    for name, tensor in base.items():
        low = dtype != "fp8_e4m3fn" or (name.startswith("blocks.") and tensor.ndim == 2)
        expected = released[keys.base[name]]
        assert same_bits(tensor, expected.to(wanted[dtype]) if low else expected), name
    assert {t.dtype for t in adapter.values()} == {
        torch.float16 if dtype == "fp16" else torch.bfloat16
    }


def test_an_fp8_adapter_is_raised_to_16_bits(tmp_path, files, released):
    path = tmp_path / "fp8.safetensors"
    save_file({k: t.to(torch.float8_e4m3fn) for k, t in released.items()}, path)
    split_model(path, None, files.adapter)
    assert {t.dtype for t in load_file(files.adapter).values()} == {torch.bfloat16}


def test_values_too_large_for_the_precision_stop_it(tmp_path, files, released):
    path = tmp_path / "large.safetensors"
    name = "transformer_blocks.1.ff.net.2.weight"
    save_file(released | {name: released[name] * 1e8}, path)
    with pytest.raises(ValueError, match=r"blocks\.1\.ff_out\.weight has values beyond 65504"):
        split_model(path, files.base, None, dtype="fp16")
    with pytest.raises(ValueError, match=r"beyond 448"):
        split_model(path, files.base, None, dtype="fp8_e4m3fn")
    assert not files.base.exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_a_bin_file_gives_the_same_tensors(tmp_path, files, released, legacy, monkeypatch):
    monkeypatch.setattr(sources, "MAX_MAPPED_BYTES", 1_000_000)  # the map is renewed many times
    other = tmp_path / "bin"
    other.mkdir()
    content = dict(released)
    turned = "layer_attention.0.to_q.weight"
    content[turned] = released[turned].t().contiguous().t()  # a view that is not contiguous
    torch.save(
        content,
        other / "diffusion_pytorch_model.bin",
        _use_new_zipfile_serialization=not legacy,
    )
    split(other, files)
    assert is_the_base(files.base, released)
    adapter = load_file(files.adapter)
    assert all(same_bits(tensor, released[key]) for key, tensor in adapter.items())


def test_odd_targets_are_refused(folder, files, tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.safetensors"):
        split_model(folder, tmp_path / "b.pt", None)
    with pytest.raises(ValueError, match="cannot both go to"):
        split_model(folder, files.base, files.base)
    with pytest.raises(ValueError, match="a base file, an adapter file or both"):
        split_model(folder, None, None)
    shard = next((folder / "transformer").glob("*.safetensors"))
    with pytest.raises(ValueError, match="is one of the files that are read"):
        split_model(folder, shard, None, overwrite=True)


def test_an_incomplete_folder_is_refused_before_anything_is_written(tmp_path, files, released):
    path = tmp_path / "broken.safetensors"
    some = {k: t for k, t in released.items() if k != "norm_out.linear.weight"}
    save_file(some, path)
    with pytest.raises(ValueError, match=r"broken\.safetensors.*1 missing: norm_out\.linear"):
        split(path, files)
    assert not files.base.parent.joinpath("b.safetensors.part").exists()


def test_the_command_line(folder, files, capsys):
    arguments = ["split", str(folder), "--base", str(files.base), "--adapter", str(files.adapter)]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "writing b.safetensors" in out
    assert "b.safetensors: 112 tensors" in out
    assert main([*arguments, "--dtype", "fp16"]) == 1
    assert "is there already" in capsys.readouterr().err
    assert main(arguments) == 0
    assert "was there already, unchanged" in capsys.readouterr().out


def test_every_published_file_reads_the_same_when_converted(tiny, tmp_path, capsys):
    for path, read in (
        (tiny.eva_clip, read_eva),
        (tiny.deca, read_deca),
        (tiny.flame, read_flame),
    ):
        to = tmp_path / f"{path.stem}.any.safetensors"
        assert main(["safetensors", str(path), "--to", str(to)]) == 0
        before, after = read(path), read(to)
        assert set(before) == set(after)
        assert all(same_bits(after[name], before[name]) for name in before)
    to = tmp_path / "tables.safetensors"
    convert_file(tiny.transforms, to)
    before, after = read_mesh_tables(tiny.transforms), read_mesh_tables(to)
    for one, two in zip(
        (before.coarse_index, *before.spirals, before.triangles),
        (after.coarse_index, *after.spirals, after.triangles),
        strict=True,
    ):
        assert same_bits(one, two)
    for one, two in zip(before.pools, after.pools, strict=True):
        assert same_bits(one.index, two.index)
        assert same_bits(one.weight, two.weight)
    assert metadata_of(to)["fantasyid_kind"] == "mesh tables"
    assert "written and checked" in capsys.readouterr().out


def test_converted_files_lose_what_is_not_read(tiny, tmp_path):
    convert_file(tiny.eva_clip, eva := tmp_path / "eva.safetensors")
    names = set(load_file(eva))
    assert "blocks.19.mlp.w3.weight" in names
    assert not any(n.startswith(("blocks.20.", "text.", "norm.", "head.")) for n in names)
    convert_file(tiny.deca, deca := tmp_path / "deca.safetensors")
    assert all(name.startswith("E_flame.") for name in load_file(deca))


def test_a_converted_table_that_names_missing_vertices_is_refused(tiny, tmp_path):
    convert_file(tiny.transforms, path := tmp_path / "tables.safetensors")
    good = load_file(path)
    for name, change, words in (
        ("coarse_index", lambda t: t + 10**6, "coarse_index does not number vertices"),
        ("pools.0.index", lambda t: t - 10**6, r"pools\.0\.index does not number vertices"),
        ("pools.1.weight", lambda t: t[:-1], r"pools\.1\.weight has shape"),
        ("spirals.0", lambda t: t[:, :5].contiguous(), "spirals.0"),
        ("triangles", lambda t: t.float(), "triangles"),
    ):
        save_file(good | {name: change(good[name])}, path)
        with pytest.raises(ValueError, match=words) as caught:
            read_mesh_tables(path)
        assert str(path) in str(caught.value)


def test_a_file_that_is_none_of_the_four_is_refused(tmp_path, folder):
    torch.save({"something": torch.ones(2)}, path := tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"x\.pt.*its first keys are something"):
        convert_file(path)
    shard = next((folder / "transformer").glob("*.safetensors"))
    with pytest.raises(ValueError, match="use `split`"):
        convert_file(shard)
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        convert_file(tmp_path / "absent.pkl")
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]
