"""A training small enough to run in a test: a narrow base, drawn inputs, the real modules."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from conftest import ROOT
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX
from safetensors.torch import load_file, save_file
from skimage import data as pictures
from torch import Tensor
from transformers import T5Config, T5EncoderModel

from fantasyid.training.batches import Batch
from fantasyid.training.cache import caption_key
from fantasyid.training.checkpoint import EMA, OPTIMIZER, STATE, WEIGHTS, checkpoints
from fantasyid.training.config import Cache, Config, Curate, Model, Train, Weights
from fantasyid.training.encoders import Encoders
from fantasyid.training.manifest import ClipRow, picture_bytes, write_manifest
from fantasyid.training.part import Part
from fantasyid.training.progress import METRICS
from miniature.checkpoints import transforms_file
from miniature.head import build_head
from miniature.models import write_tiny_models

FRAMES, SIDE, TEXT, VIEWS, DRAWS = 3, 4, 8, 3, 2
BASE = {
    "num_attention_heads": 2, "attention_head_dim": 64, "num_layers": 2, "time_embed_dim": 32,
    "text_embed_dim": 32, "in_channels": 32, "out_channels": 16, "max_text_seq_length": TEXT,
    "use_rotary_positional_embeddings": True,
}  # fmt: skip
SIZES = {
    "tower_dim": 32, "context_dim": 128, "abstractor_dim": 16, "squeeze_first": 8, "squeeze": 8,
    "abstractor_ff": 64, "fusion_dim": 32, "fusion_layers": 1, "face_widths": [32],
    "reducer_widths": [32, 32, 32],
}  # fmt: skip


@pytest.fixture(scope="session")
def transforms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mesh transforms of the drawn head."""
    path = tmp_path_factory.mktemp("mesh") / "transform.pkl"
    path.write_bytes(transforms_file(build_head()))
    return path


@pytest.fixture(scope="session")
def config_of(transforms: Path) -> Callable[[Path], Config]:
    """`config_of(folder)`: its encoders are never loaded, the cache is written by the tests."""

    def make(folder: Path) -> Config:
        nowhere = folder / "nowhere"
        train = Train(
            folder / "run", steps=6, batch_size=4, precision="no", learning_rate=1e-3, warmup=2,
            gradient_checkpointing=False, checkpoint_every=3, log_every=1, workers=0,
            ema_decay=0.9,
        )  # fmt: skip
        return Config(
            folder / "work",
            Curate(nowhere, frames=9, sizes=((32, 32),)),
            Weights(*[nowhere] * 6, mesh_transforms=transforms),
            train,
            Cache(face_latent_draws=DRAWS, dtype="float32"),
            Model(base="full", base_sizes=BASE, adapter_sizes=SIZES),
        )

    return make


@pytest.fixture
def config(tmp_path: Path, config_of: Callable[[Path], Config]) -> Config:
    """Of a test's own folder."""
    return config_of(tmp_path)


def but(config: Config, **changes) -> Config:
    """A configuration with other values: `train__steps=3` is `train.steps`."""
    for name, value in changes.items():
        part, _, key = name.partition("__")
        if key:
            value = dataclasses.replace(getattr(config, part), **{key: value})
        config = dataclasses.replace(config, **{part: value})
    return config


def drawn(*shape: int, seed: int) -> Tensor:
    """Standard normal numbers of a seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rows_of(count: int, people: int | None = None) -> list[ClipRow]:
    """Rows of a manifest that the cache of `cache_of` fits."""
    angles = tuple(10.0 * view for view in range(VIEWS))
    return [
        ClipRow(
            f"clip{i:03d}", f"clip{i:03d}.mp4", 0.0, 32, 32, f"caption {i % 3}",
            f"person{i % (people or count)}", "views.safetensors", angles, angles, angles,
            tuple((4.0, 4.0, 20.0, 20.0) for _ in range(9)),
        )
        for i in range(count)
    ]  # fmt: skip


def cache_of(rows: list[ClipRow], folder: Path) -> dict[str, Part]:
    """A cache on disk of drawn numbers."""
    tensors: dict[str, dict[str, Tensor]] = {
        name: {} for name in ("video", "text", "features", "vertices", "face")
    }
    for i, row in enumerate(rows):
        tensors["video"][row.clip] = drawn(32, FRAMES, SIDE, SIDE, seed=i)
        tensors["features"][row.clip] = drawn(VIEWS, 577, 32, seed=100 + i)
        tensors["vertices"][row.clip] = 0.1 * drawn(VIEWS, 5023, 3, seed=200 + i)
        tensors["face"][row.clip] = drawn(VIEWS, DRAWS, 32, SIDE, SIDE, seed=300 + i)
    for i, caption in enumerate(["", *sorted({row.caption for row in rows})]):
        tensors["text"][caption_key(caption)] = drawn(TEXT, 32, seed=400 + i)
    parts = {}
    for name, content in tensors.items():
        (folder / name).mkdir(parents=True)
        save_file(content, folder / name / "shard-00000.safetensors")
        parts[name] = Part(folder / name).load()
    return parts


def batch_of(count: int = 2, references: int = 2, seed: int = 0) -> Batch:
    """A batch of drawn numbers."""
    shape = (count, FRAMES, 16, SIDE, SIDE)
    return Batch(
        clean=drawn(*shape, seed=seed),
        noise=drawn(*shape, seed=seed + 1),
        timesteps=torch.tensor([37 + 400 * i for i in range(count)]) % 1000,
        text=drawn(count, TEXT, 32, seed=seed + 2),
        face_latent=drawn(references, 16, SIDE, SIDE, seed=seed + 3),
        keep_latent=torch.ones(count),
        features=drawn(references, 577, 32, seed=seed + 4),
        vertices=0.1 * drawn(references, 5023, 3, seed=seed + 5),
        keep=torch.ones(count),
        weight=torch.ones(count),
        mask=torch.ones(count, FRAMES, 1, SIDE, SIDE),
        names=[f"clip{i}" for i in range(count)],
        failures=[],
    )


def state_of(out: Path) -> tuple[dict[str, Tensor], str]:
    """Everything that a run leaves (it notes no times)."""
    last = checkpoints(out)[-1]
    moments = torch.load(last / OPTIMIZER, weights_only=True)
    tensors = {
        f"{file}/{k}": v for file in (WEIGHTS, EMA) for k, v in load_file(last / file).items()
    }
    for name, values in moments["state"].items():
        tensors |= {f"{name}/{k}": torch.as_tensor(v) for k, v in values.items()}
    words = [
        last.name,
        (last / STATE).read_text("utf-8"),
        json.dumps(moments["param_groups"], sort_keys=True),
    ]
    return tensors, "\n".join([*words, (out / METRICS).read_text("utf-8")])


def assert_same(one: Path, other: Path) -> None:
    """Two runs ended in the same bits: weights, average, moments, sampler, rate and metrics."""
    (mine, words), (theirs, others) = state_of(one), state_of(other)
    assert mine.keys() == theirs.keys()
    assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []
    assert words == others


@pytest.fixture(scope="session")
def forked() -> Any:
    """What starts a process that has imported `training.spread` and computed nothing.

    All are forked from one, so that the unbroken run and the killed ones are the same program on
    the same one thread, and none takes seconds to import.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training.spread"])
    with pytest.MonkeyPatch.context() as patch:
        # The server finds what to import there, and is started once.
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
        forkserver.ensure_running()
    return context


CLIP_SIDE, CLIP_FRAMES, CLIP_VIEWS = 64, 9, 2


def write_clip(path, shift):
    """A portrait that moves sideways."""
    photo = pictures.astronaut()
    with av.open(str(path), "w") as video:
        stream = video.add_stream("libx264", rate=8)
        stream.width = stream.height = CLIP_SIDE
        stream.pix_fmt = "yuv420p"
        for i in range(CLIP_FRAMES + 3):
            left = shift + 2 * i
            frame = np.ascontiguousarray(
                photo[: 4 * CLIP_SIDE : 4, left : left + 4 * CLIP_SIDE : 4]
            )
            video.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        video.mux(stream.encode())


@pytest.fixture(scope="session")
def files(tmp_path_factory, comfyui_path):
    """Encoders on disk in the layouts of diffusers, transformers and the releases."""
    root = tmp_path_factory.mktemp("encoders")
    tiny = write_tiny_models(root / "models")
    torch.manual_seed(0)
    vae: Any = AutoencoderKLCogVideoX  # its annotations say tuples of one
    vae(
        block_out_channels=(8, 8, 8, 8), norm_num_groups=4, layers_per_block=1,
        sample_height=CLIP_SIDE, sample_width=CLIP_SIDE, latent_channels=16, scaling_factor=0.7,
    ).save_pretrained(root / "vae")  # fmt: skip
    T5EncoderModel(
        T5Config(d_model=32, d_ff=32, d_kv=8, num_heads=2, num_layers=1)
    ).save_pretrained(root / "t5")
    shutil.copytree(comfyui_path / "comfy/text_encoders/t5_tokenizer", root / "tokenizer")
    return Weights(
        root / "vae", root / "t5", root / "tokenizer", tiny.eva_clip, tiny.deca, tiny.flame,
        tiny.transforms,
    )  # fmt: skip


@pytest.fixture
def setting(tmp_path, files, config):
    """A configuration, its manifest of three clips, and the encoders."""
    curated = tmp_path / "work" / "curated"
    curated.mkdir(parents=True)
    rows, views = [], {}
    for i in range(3):
        path = tmp_path / f"{i}.mp4"
        write_clip(path, 20 * i)
        for view in range(CLIP_VIEWS):
            crop = torch.from_numpy(pictures.astronaut())[:, 10 * view :].repeat(1, 2, 1)[:, :512]
            views[f"clip{i}/{view}"] = picture_bytes(crop)
        rows.append(
            ClipRow(
                f"clip{i}", str(path), 0.0, CLIP_SIDE, CLIP_SIDE, f"a person, take {i}", f"clip{i}",
                "views.safetensors", (0.0, 20.0), (0.0, 0.0), (0.0, 0.0),
                tuple((10.0, 10.0, 50.0, 50.0) for _ in range(CLIP_FRAMES)),
            )
        )  # fmt: skip
    save_file(views, curated / "views.safetensors")
    write_manifest(rows, curated)
    config = dataclasses.replace(
        but(config, work=tmp_path / "work"),
        curate=Curate(tmp_path, frames=CLIP_FRAMES, sizes=((CLIP_SIDE, CLIP_SIDE),)),
        weights=files,
        cache=Cache(face_latent_draws=2, shard_clips=2, device="cpu"),
    )
    return config, rows, Encoders(config.weights, config.cache)


def toml(value) -> str:
    """A value as TOML writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + "}"
    return json.dumps(value)


def write_recipe(folder: Path, weights: Weights, tables: dict[str, dict[str, Any]]) -> Path:
    """A TOML file in a folder whose `work` is beside it."""
    named = {n: str(p) for n in Weights.__dataclass_fields__ if (p := getattr(weights, n))}
    lines = ['work = "work"']
    for name, table in {"weights": named, **tables}.items():
        lines += [f"[{name}]", *(f"{key} = {toml(value)}" for key, value in table.items())]
    path = folder / "recipe.toml"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path
