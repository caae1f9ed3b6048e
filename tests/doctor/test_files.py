"""What the doctor says of files: what they are, where they are, and what is wrong with them."""

from __future__ import annotations

import json
import shutil
import string
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from fantasyid.doctor.__main__ import main
from fantasyid.doctor.findings import ERROR, NOTE, OK, WARNING, Finding
from fantasyid.doctor.packages import host_version
from fantasyid.doctor.places import extra_folders, places_of
from fantasyid.doctor.weights_on_disk import check_files
from fantasyid.weights.content import inspect_file, is_real
from fantasyid.weights.describe import recognize
from fantasyid.weights.download.files import FILES
from fantasyid.weights.fingerprint import sha256_of_file
from miniature.layouts import TinySizes, adapter_shapes, deca_shapes, eva_shapes, transformer_shapes
from miniature.models import TinyModels, write_tiny_models

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
NAMES = {item.kind: item.name for item in reversed(FILES)}


@pytest.fixture(scope="module")
def generated(tmp_path_factory) -> TinyModels:
    return write_tiny_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def models(generated, tmp_path) -> TinyModels:
    """A copy that a test may spoil."""
    shutil.copytree(generated.directory, tmp_path / "models")
    return TinyModels.at(tmp_path / "models")


def check(models: TinyModels, **options) -> dict[str, Finding]:
    """Findings by the name of the file."""
    return {f.facts["name"]: f for f in check_files(places_of(models.directory), **options)}


def test_tiny_files_are_found_under_their_own_names_and_called_tiny(generated):
    found = check(generated)
    needed = [item for item in FILES if item.needed]
    assert {found[item.name].level for item in needed} == {NOTE}
    assert all(found[item.name].facts["real"] is False for item in needed)
    assert found["DECA"].facts["path"] == str(generated.deca)
    assert "choose it in the loader" in found["DECA"].sentence
    assert found["FantasyID model"].facts["tensors"] > 100
    for item in needed:
        assert item.license in found[item.name].sentence


def test_a_released_name_wins_and_deep_compares_hashes(models):
    released = models.transforms.with_name("transform.pkl")
    models.transforms.rename(released)
    shutil.copyfile(models.eva_clip, models.eva_clip.with_name("other.pt"))
    found = check(models, deep=True)
    assert found["mesh transforms"].facts["path"] == str(released)
    assert found["mesh transforms"].facts["hash"] == "tiny"
    assert found["FLAME"].facts["hash"] == "tiny"
    assert found["EVA02-CLIP face encoder"].facts["hash"] == "tiny"
    assert found["FLAME"].facts["sha256"] == {models.flame.name: sha256_of_file(models.flame)}
    assert check(models)["FLAME"].facts["hash"] == "not asked"


def test_changed_bytes_under_a_released_name_are_noticed(models):
    (models.directory / "fantasyid_tiny.json").unlink()
    models.transforms.rename(models.transforms.with_name("transform.pkl"))
    finding = check(models)["mesh transforms"]
    assert finding.level == WARNING
    assert finding.facts["hash"] == "other"
    assert "not that of the release" in finding.sentence


def test_a_file_with_the_published_hash_is_the_release(models):
    models.transforms.rename(path := models.transforms.with_name("transform.pkl"))
    (models.directory / "fantasyid_tiny.json").unlink()
    (item,) = (item for item in FILES if item.kind == "mesh tables")
    item = replace(item, sha256=sha256_of_file(path))
    (finding,) = check_files(places_of(models.directory), items=[item])
    assert (finding.level, finding.facts["real"]) == (OK, True)


@pytest.mark.parametrize("name", ["eva_clip", "deca", "flame", "transforms", "text_encoder", "vae"])
def test_a_missing_file_is_an_error_with_folders_and_a_way_to_get_it(models, name):
    kinds = {"eva_clip": "eva", "transforms": "mesh tables", "text_encoder": "t5"}
    kind = kinds.get(name) or name
    getattr(models, name).unlink()
    finding = check(models)[NAMES[kind]]
    assert finding.level == ERROR
    assert finding.facts["state"] == "missing"
    assert all(folder in finding.sentence for folder in finding.facts["searched"])
    assert "register at" in finding.sentence or "fantasyid.download" in finding.sentence


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
@pytest.mark.parametrize(("name", "kind"), [("vae", "vae"), ("deca", "deca"), ("eva_clip", "eva")])
def test_a_file_that_is_cut_short_is_damaged(models, name, kind, share):
    (item,) = (item for item in FILES if item.kind == kind)
    path = getattr(models, name).rename(getattr(models, name).with_name(Path(item.target).name))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    finding = check(models)[item.name]
    assert (finding.level, finding.facts["state"]) == (ERROR, "damaged")
    assert str(path) in finding.sentence


def test_a_missing_shard_is_named(models):
    folder = models.directory / "fantasyid" / "FantasyID"
    models.model.rename(folder)
    gone = sorted((folder / "transformer").glob("*.safetensors"))[0]
    gone.unlink()
    finding = check(models)["FantasyID model"]
    assert finding.level == ERROR
    assert gone.name in finding.sentence


def test_a_file_in_the_wrong_folder_is_sent_to_the_right_one(models):
    (models.directory / "checkpoints").mkdir()
    models.vae.rename(models.directory / "checkpoints" / "cogvideox_vae.safetensors")
    finding = check(models)["CogVideoX VAE"]
    assert finding.facts["state"] == "wrong folder"
    assert "checkpoints: move it" in finding.sentence


def test_another_file_under_the_name_says_what_it_is(models):
    shutil.copyfile(models.text_encoder, models.vae.with_name("cogvideox_vae.safetensors"))
    models.vae.unlink()
    finding = check(models)["CogVideoX VAE"]
    assert finding.level == ERROR
    assert "it looks like a T5 text encoder" in finding.sentence


def test_a_stopped_download_is_mentioned(models):
    models.vae.unlink()
    (models.vae.parent / "cogvideox_vae.safetensors.0123.part").write_bytes(b"half")
    assert "was stopped" in check(models)["CogVideoX VAE"].sentence


def test_real_sizes_are_told_from_tiny_ones(tmp_path):
    real = TinySizes(dim=3072, blocks=1, context_dim=128, eva_dim=1024, eva_blocks=1)
    real = replace(real, deca_widths=(64, 8, 8, 8, 8))
    for shapes, kind in (
        (transformer_shapes(real) | adapter_shapes(replace(real, eva_dim=64)), "transformer"),
        (eva_shapes(real), "eva"),
        ({f"E_flame.{n}": s for n, s in deca_shapes(real).items()}, "deca"),
    ):
        assert recognize(shapes)[0] == kind
        content = replace(inspect_file(one_tensor(tmp_path)), kind=kind, shapes=shapes)
        assert is_real(content, 1) is True, kind


def test_a_converted_flame_is_neither_called_tiny_nor_real(tmp_path):
    tensors = {"v_template": torch.zeros(5023, 3), "shapedirs": torch.zeros(5023, 3, 4)}
    save_file(tensors, tmp_path / "generic_model.safetensors")
    content = inspect_file(tmp_path / "generic_model.safetensors")
    assert content.kind == "flame"
    assert is_real(content, 53_000_000) is None


def test_hashing_can_be_stopped(generated):
    def stop(_bytes):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_files(places_of(generated.directory), deep=True, report=stop)


def one_tensor(folder: Path) -> Path:
    path = folder / "one.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    return path


@given(content=st.binary(max_size=200), suffix=st.sampled_from([".safetensors", ".pt", ".pkl"]))
def test_no_bytes_make_the_doctor_fall(tmp_path_factory, content, suffix):
    root = tmp_path_factory.mktemp("any")
    folder = root / "fantasyid"
    folder.mkdir()
    (folder / f"deca_model{suffix}").write_bytes(content)
    (folder / "deca_model.tar").write_bytes(content)
    found = {f.facts["name"]: f for f in check_files(places_of(root))}
    assert found["DECA"].level == ERROR


LINE = st.text(string.ascii_letters + "_", min_size=1, max_size=8)


@given(base=LINE, folders=st.lists(LINE, min_size=1, max_size=3))
def test_extra_paths_are_read_as_the_host_reads_them(tmp_path_factory, base, folders):
    root = tmp_path_factory.mktemp("yaml")
    lines = [f'"b":\n  base_path: "{base}"\n  is_default: true\n  fantasyid: |']
    lines += [f"    {folder}" for folder in folders]
    (root / "extra.yaml").write_text("\n".join(lines))
    expected = [("fantasyid", root / base / folder) for folder in folders]
    assert extra_folders(root / "extra.yaml") == expected


def test_an_unreadable_yaml_is_named(tmp_path):
    (tmp_path / "extra.yaml").write_text("a: [")
    with pytest.raises(ValueError, match=r"extra\.yaml cannot be read"):
        extra_folders(tmp_path / "extra.yaml")


def comfyui(folder: Path, models: TinyModels) -> Path:
    """What the command reads of a ComfyUI, with its models elsewhere."""
    (folder / "models").mkdir(parents=True)
    (folder / "comfyui_version.py").write_text('__version__ = "0.30.0"\n')
    (folder / "extra_model_paths.yaml").write_text(
        f"elsewhere:\n  base_path: {models.directory}\n  fantasyid: fantasyid\n"
        "  clip: text_encoders\n  vae: vae\n"
    )
    return folder


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fantasyid.doctor", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_the_command_reads_a_comfyui_without_starting_it(models, tmp_path):
    folder = comfyui(tmp_path / "ComfyUI", models)
    assert host_version(folder) == "0.30.0"
    good = run("--comfyui", folder, "--json", "--size", "96x64x9")
    assert good.returncode == 0, good.stdout + good.stderr
    content = json.loads(good.stdout)
    topics = {f["topic"] for f in content["findings"]}
    assert {"host", "file", "package", "memory"} <= topics
    models.flame.unlink()
    bad = run("--comfyui", folder)
    assert bad.returncode == 1
    assert bad.stdout.startswith("Found 1 error")
    assert "FLAME" in bad.stdout.splitlines()[1]


def test_the_command_says_how_it_is_used(tmp_path, capsys):
    assert main(["--models", str(tmp_path / "none")]) == 2
    assert "--comfyui DIR" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(["--models", str(tmp_path), "--size", "720x481x49"])
    assert stopped.value.code == 2


def test_an_old_host_is_an_error(generated, tmp_path, capsys):
    folder = comfyui(tmp_path / "ComfyUI", generated)
    (folder / "comfyui_version.py").write_text('__version__ = "0.3.9"\n')
    assert main(["--comfyui", str(folder)]) == 1
    assert "ComfyUI 0.3.9 is too old" in capsys.readouterr().out
