"""Encoded inputs on disk: what the frozen encoders say of every clip, computed once.

Five parts, each in a folder that carries the hash of what it depends on, so that another encoder
makes its own part anew and nothing else: `video` and `face` (VAE), `text` (T5), `features`
(EVA02-CLIP), `vertices` (DECA and FLAME). A part is a row of safetensors shards and a Parquet
index; a shard is there whole or not at all.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from .config import Config
from .encoders import Encoders
from .manifest import ClipRow, DataError, decode_frames, read_views
from .order import generator
from .part import Part

PARTS = ("video", "text", "features", "vertices", "face")
# Noise on the pixels of the face before it is encoded, as CogVideoX-I2V trains: its scale is
# exp(N(-3, 0.5)).
NOISE_MEAN, NOISE_STD = -3.0, 0.5


def caption_key(caption: str) -> str:
    """Under which the embedding of a caption is kept: equal captions share one."""
    return hashlib.sha256(caption.encode()).hexdigest()[:32]


def open_parts(config: Config, encoders: Encoders, mend: bool = False) -> dict[str, Part]:
    """The parts of the cache that fit a configuration and its weights; see `Part.load`."""
    settings = {
        "video": (config.curate.frames, config.curate.fps),
        "face": (config.cache.face_latent_draws,),
    }
    parts = {}
    for name in PARTS:
        words = (encoders.fingerprint(name), config.cache.dtype, *settings.get(name, ()))
        digest = hashlib.sha256("/".join(map(str, words)).encode()).hexdigest()[:12]
        parts[name] = Part(config.work / "cache" / f"{name}-{digest}").load(mend)
    return parts


def expected_bytes(rows: Sequence[ClipRow], config: Config, encoders: Encoders) -> dict[str, int]:
    """How much each part takes on disk once it holds all the rows."""
    size = getattr(torch, config.cache.dtype).itemsize
    latent_frames = (config.curate.frames - 1) // 4 + 1
    found: dict[str, int] = dict.fromkeys(PARTS, 0)
    for row in rows:
        views, area = len(row.yaw_deg), row.width * row.height // 64
        found["video"] += 2 * encoders.latent_channels * latent_frames * area * size
        draws = config.cache.face_latent_draws
        found["face"] += views * draws * 2 * encoders.latent_channels * area * size
        found["features"] += views * encoders.feature_tokens * encoders.feature_width * size
        found["vertices"] += views * 5023 * 3 * 4
    captions = len({row.caption for row in rows} | {""})
    found["text"] = captions * encoders.text_tokens * encoders.text_width * size
    return found


def check_space(config: Config, needed: int) -> None:
    """Raise a DataError where the disk of the cache has not enough room."""
    config.work.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(config.work).free
    if needed > free:
        raise DataError(
            f"the cache needs {needed / 1e9:.1f} GB more in {config.work}, {free / 1e9:.1f} GB are "
            "free: free some, or set `work` to another disk"
        )


def fill_cache(
    rows: Sequence[ClipRow],
    config: Config,
    encoders: Encoders,
    note: Callable[[str, str | None], None],
) -> dict[str, Part]:
    """Encode everything that is missing."""
    parts = open_parts(config, encoders, mend=True)
    by_clip = {row.clip: row for row in rows}
    captions = {caption_key(caption): caption for caption in ["", *(row.caption for row in rows)]}
    manifest = config.work / "curated"
    dtype = getattr(torch, config.cache.dtype)

    def frames(clip: str) -> Iterator[Tensor]:
        row, curate = by_clip[clip], config.curate
        return decode_frames(
            Path(row.path), row.start_s, curate.fps, curate.frames, (row.width, row.height)
        )

    encode: dict[str, Callable[[str], Tensor]] = {
        "video": lambda clip: encoders.video(torch.stack(list(frames(clip)))).to(dtype),
        "text": lambda key: encoders.text(captions[key]).to(dtype),
        "features": lambda clip: encoders.features(read_views(by_clip[clip], manifest)).to(dtype),
        "vertices": lambda clip: encoders.vertices(read_views(by_clip[clip], manifest)),
        "face": lambda clip: face_latents(by_clip[clip], manifest, config, encoders).to(dtype),
    }
    for name in PARTS:
        keys = list(captions) if name == "text" else [row.clip for row in rows]
        parts[name].fill(keys, encode[name], config.cache.shard_clips, note)
        encoders.release()
    return parts


def face_latents(row: ClipRow, manifest: Path, config: Config, encoders: Encoders) -> Tensor:
    """`(views, draws, 2 C, H / 8, W / 8)` moments of every view, noised anew for each draw.

    The square crop is stretched to the video's size, as at inference; the noise on the pixels is
    CogVideoX-I2V's. It is drawn from the clip's id, so that a rerun writes the same bytes.
    """
    draws = []
    for view, crop in enumerate(read_views(row, manifest)):
        pixels = encoders.face_pixels(crop, row.width, row.height)  # (1, H, W, 3) in [-1, 1]
        for draw in range(config.cache.face_latent_draws):
            source = generator(row.clip, view, draw)
            scale = torch.exp(NOISE_MEAN + NOISE_STD * torch.randn((), generator=source))
            noisy = pixels + scale * torch.randn(pixels.shape, generator=source)
            draws.append(encoders.moments(noisy)[:, 0])
    count = config.cache.face_latent_draws
    return torch.stack(draws).unflatten(0, (len(draws) // count, count))


def export_webdataset(
    rows: Sequence[ClipRow], parts: dict[str, Part], folder: Path, per_shard: int = 64
) -> None:
    """The cache as tar shards that webdataset reads: one sample a clip, one file a part."""
    folder.mkdir(parents=True, exist_ok=True)
    for first in range(0, len(rows), per_shard):
        target = folder / f"shard-{first // per_shard:05d}.tar"
        with tarfile.open(f"{target}.partial", "w") as archive:
            for row in rows[first : first + per_shard]:
                files = {
                    f"{name}.safetensors": save({name: parts[name].get(_key(row, name))})
                    for name in PARTS
                }
                files["txt"] = row.caption.encode()
                for suffix, content in files.items():
                    entry = tarfile.TarInfo(f"{row.clip}.{suffix}")
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
        os.replace(f"{target}.partial", target)


def _key(row: ClipRow, part: str) -> str:
    return caption_key(row.caption) if part == "text" else row.clip
