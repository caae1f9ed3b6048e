"""The tiny files have the released layouts, load safely, and are written once."""

from __future__ import annotations

import hashlib
import json
import pickletools
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from fantasyid.geometry.topology import mesh_tables
from fantasyid.weights.safe_pickle import read_pickle
from miniature import TinyModels, write_tiny_models
from miniature.checkpoints import deca_file, num_positions, transformer_files
from miniature.host_files import T5_MARK, vae_shapes
from miniature.layouts import (
    TINY,
    TinySizes,
    adapter_shapes,
    deca_shapes,
    eva_shapes,
    transformer_shapes,
)
from miniature.weights import tiny_weight

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
REAL = TinySizes(
    dim=3072,
    blocks=42,
    context_dim=2048,
    time_dim=512,
    text_dim=4096,
    eva_dim=1024,
    eva_mlp=2730,
    eva_embed=768,
    abstractor_hidden=256,
    fusion_dim=128,
    fusion_blocks=6,
    face_widths=(2048, 1024, 512, 256, 128),
    reducer_widths=(128, 256, 512, 1024, 2048),
    deca_widths=(64, 64, 128, 256, 512),
    deca_blocks=(3, 4, 6, 3),
    deca_hidden=1024,
)
FLAME_GLOBALS = {
    "chumpy.ch Ch",
    "scipy.sparse.csc csc_matrix",
    "numpy ndarray",
    "numpy dtype",
    "numpy.core.multiarray _reconstruct",
    "__builtin__ set",
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    return write_tiny_models(tmp_path_factory.mktemp("models"))


def digests(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def released(name: str) -> dict:
    return json.loads((GOLDEN / name).read_text(encoding="utf-8"))


def as_lists(shapes: dict) -> dict[str, list[int]]:
    return {name: list(shape) for name, shape in shapes.items()}


def transformer(models: TinyModels) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = {}
    for path in sorted((models.model / "transformer").glob("*.safetensors")):
        state |= load_file(path)
    return state


def test_transformer_layout_at_real_sizes_is_the_released_one() -> None:
    groups = released("released_transformer_keys.json")["groups"]
    expected = {name: shape for group in groups.values() for name, shape in dict(group).items()}
    assert as_lists(transformer_shapes(REAL) | adapter_shapes(REAL)) == expected


def test_eva_layout_at_real_sizes_is_the_released_one() -> None:
    expected = released("eva02_clip_l_336_visual.json")["params"]
    found = {name.removeprefix("visual."): shape for name, shape in eva_shapes(REAL).items()}
    # `id_embedding_mapping` above proves the widths of ArcFace (512) and of this head (768)
    assert as_lists(found) == expected


def test_deca_layout_at_real_sizes_is_the_released_one() -> None:
    assert as_lists(deca_shapes(REAL)) == released("deca_E_flame.json")["keys"]


def test_tiny_layout_differs_in_sizes_only() -> None:
    def families(shapes: dict) -> dict[str, set[int]]:
        found: dict[str, set[int]] = {}
        for name, shape in shapes.items():
            found.setdefault(re.sub(r"\d+", "#", name), set()).add(len(shape))
        return found

    for layout in (transformer_shapes, adapter_shapes, eva_shapes, deca_shapes):
        assert families(layout(TINY)) == families(layout(REAL))


def test_files_hold_the_tiny_layout(models: TinyModels) -> None:
    state = transformer(models)
    expected = transformer_shapes() | adapter_shapes()
    assert {name: tuple(t.shape) for name, t in state.items()} == expected
    assert sum(name.startswith("face_abstractor.") for name in state) == 962
    index = json.loads(
        (models.model / "transformer/diffusion_pytorch_model.safetensors.index.json").read_text()
    )
    for name, file_name in index["weight_map"].items():
        with safe_open(models.model / "transformer" / file_name, "pt") as file:
            assert name in file.keys()  # noqa: SIM118
    config = json.loads((models.model / "transformer/config.json").read_text())
    assert config["num_attention_heads"] * config["attention_head_dim"] == TINY.dim
    assert config["use_learned_positional_embeddings"] is False


def test_learned_positions_and_half_precision() -> None:
    files = transformer_files(learned=True, dtype=torch.bfloat16, shards=3)
    assert json.loads(files["config.json"])["use_learned_positional_embeddings"] is True
    assert sum(name.endswith(".safetensors") for name in files) == 3
    shapes = transformer_shapes(TINY, num_positions())
    assert shapes["patch_embed.pos_embedding"] == (1, 17776, 192)


def test_eva_file_is_a_zip_of_half_precision_tensors(models: TinyModels) -> None:
    assert zipfile.is_zipfile(models.eva_clip)
    state = torch.load(models.eva_clip, weights_only=True)
    image = {name for name in state if name.startswith("visual.")}
    rotary = {name for name in image if ".freqs_" in name}
    assert len(image - rotary) == 512
    expected = released("eva02_clip_l_336_visual.json")["float_buffers_not_loaded"]
    assert {n.removeprefix("visual."): list(state[n].shape) for n in rotary} == expected
    assert "logit_scale" in state
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}


def test_deca_file_has_the_format_from_before_torch_1_6(models: TinyModels) -> None:
    assert not zipfile.is_zipfile(models.deca)
    content = torch.load(models.deca, weights_only=True)
    assert set(content) == {"E_flame", "E_detail", "D_detail"}
    assert {n: tuple(t.shape) for n, t in content["E_flame"].items()} == deca_shapes()
    assert all(torch.isfinite(tensor).all() for tensor in content["E_flame"].values())


def test_flame_pickle_names_the_six_globals_of_the_released_file(models: TinyModels) -> None:
    steps = list(pickletools.genops(models.flame.read_bytes()))
    assert steps[0][1] == 2
    assert {arg for step, arg, _ in steps if step.name == "GLOBAL"} == FLAME_GLOBALS
    assert not [step.name for step, _, _ in steps if step.name in ("STACK_GLOBAL", "INST", "OBJ")]


def test_flame_pickle_reads(models: TinyModels) -> None:
    model = read_pickle(models.flame)
    assert model["shapedirs"].shape == (5023, 3, 400)
    assert model["posedirs"].shape == (5023, 3, 36)
    assert model["v_template"].shape == (5023, 3)
    assert model["f"].shape == (9976, 3)
    assert model["f"].dtype == "uint32"
    assert hasattr(model["J_regressor"], "toarray")
    assert model["kintree_table"].tolist() == [[4294967295, 0, 1, 1, 1], [0, 1, 2, 3, 4]]
    joints = model["J_regressor"].toarray() @ model["v_template"]
    assert joints == pytest.approx(model["J"], abs=1e-5)


def test_transforms_pickle_names_the_released_globals_and_reads(models: TinyModels) -> None:
    steps = list(pickletools.genops(models.transforms.read_bytes()))
    assert steps[0][1] == 4
    words = [arg for step, arg, _ in steps if step.name == "SHORT_BINUNICODE"]
    assert {w for w in words if w and w.startswith(("numpy", "scipy"))} == {
        "numpy",
        "numpy.core.multiarray",
        "scipy.sparse._csc",
    }
    tables = mesh_tables(read_pickle(models.transforms))
    assert tables.coarse_index.shape == (314,)
    assert len(tables.coarse_index.unique()) == 314


def test_t5_and_vae_files(models: TinyModels) -> None:
    text = load_file(models.text_encoder)
    assert text["shared.weight"].shape == (32128, 64)
    assert text[T5_MARK].shape == (10240, 1)
    video = load_file(models.vae)
    assert {name: tuple(tensor.shape) for name, tensor in video.items()} == vae_shapes()


def test_weights_depend_on_name_and_seed_only() -> None:
    name = "transformer_blocks.0.attn1.to_q.weight"
    first = tiny_weight(name, (64, 64))
    torch.manual_seed(7)
    assert torch.equal(first, tiny_weight(name, (64, 64)))
    assert not torch.equal(first, tiny_weight(name, (64, 64), seed=1))
    assert not torch.equal(first, tiny_weight(name.replace("to_q", "to_k"), (64, 64)))
    assert float(first.std()) == pytest.approx(64**-0.5, rel=0.1)
    assert float(tiny_weight("x.attn1.norm_q.weight", (64,)).mean()) > 1.3


def test_codes_of_the_deca_file_repeat(models: TinyModels) -> None:
    assert deca_file() == models.deca.read_bytes()


def test_two_runs_write_the_same_bytes(models: TinyModels, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "miniature", "--out", str(tmp_path / "again")]
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert "random noise" in run.stdout
    assert digests(tmp_path / "again") == digests(models.directory)
    assert sum(p.stat().st_size for p in (tmp_path / "again").rglob("*") if p.is_file()) < 60e6


def test_second_call_writes_nothing_and_repairs_what_broke(models: TinyModels) -> None:
    before = digests(models.directory)
    times = {path: path.stat().st_mtime_ns for path in models.directory.rglob("*")}
    write_tiny_models(models.directory)
    assert {path: path.stat().st_mtime_ns for path in models.directory.rglob("*")} == times
    models.vae.write_bytes(b"cut short")
    models.text_encoder.unlink()
    assert write_tiny_models(models.directory) == models
    assert digests(models.directory) == before
    assert models.deca.stat().st_mtime_ns == times[models.deca]
