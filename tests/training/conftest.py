"""A training small enough to run in a test: a narrow base, drawn inputs, the real modules."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from fantasyid.training.batches import Batch
from fantasyid.training.cache import Part, caption_key
from fantasyid.training.config import Cache, Config, Curate, Model, Train, Weights
from fantasyid.training.manifest import ClipRow
from miniature.checkpoints import transforms_file
from miniature.head import build_head

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


@pytest.fixture
def config(tmp_path: Path, transforms: Path) -> Config:
    """A configuration whose encoders are never loaded: the cache is written by the tests."""
    nowhere = tmp_path / "nowhere"
    weights = Weights(*[nowhere] * 6, mesh_transforms=transforms)
    train = Train(
        tmp_path / "run", steps=6, batch_size=4, precision="no", learning_rate=1e-3, warmup=2,
        gradient_checkpointing=False, checkpoint_every=3, log_every=1, workers=0, ema_decay=0.9,
    )  # fmt: skip
    return Config(
        tmp_path / "work",
        Curate(nowhere, frames=9, sizes=((32, 32),)),
        weights,
        train,
        Cache(face_latent_draws=DRAWS, dtype="float32"),
        Model(base="full", base_sizes=BASE, adapter_sizes=SIZES),
    )


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
