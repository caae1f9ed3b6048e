"""Writes a whole folder of tiny models, laid out like ComfyUI's `models` folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .checkpoints import deca_file, eva_file, flame_file, transformer_files, transforms_file
from .head import HeadMesh, build_head
from .host_files import t5_file, vae_file

VERSION = 1  # raise it when the content of any file changes
MANIFEST = "fantasyid_tiny.json"
NOTE = (
    "Tiny stand-ins for the models of FantasyID: weights are random noise, the head is invented. "
    "They show that everything runs; videos made with them show nothing."
)


@dataclass(frozen=True)
class TinyModels:
    """Paths of a folder of tiny models.

    Attributes:
        directory: the folder itself.
        model: folder with `transformer/`, as the released model has it.
        eva_clip: EVA02-CLIP.
        deca: DECA's checkpoint.
        flame: the FLAME model.
        transforms: the mesh transforms.
        text_encoder: T5.
        vae: CogVideoX's VAE.
    """

    directory: Path
    model: Path
    eva_clip: Path
    deca: Path
    flame: Path
    transforms: Path
    text_encoder: Path
    vae: Path

    @classmethod
    def at(cls, directory: str | Path) -> TinyModels:
        """Name the paths below a folder, whether or not the files are there."""
        root = Path(directory)
        own = root / "fantasyid"
        return cls(
            directory=root,
            model=own / "tiny-fantasyid",
            eva_clip=own / "tiny_EVA02_CLIP_L_336_psz14_s6B.pt",
            deca=own / "tiny_deca_model.tar",
            flame=own / "tiny_generic_model.pkl",
            transforms=own / "tiny_transform.pkl",
            text_encoder=root / "text_encoders" / "tiny_t5xxl.safetensors",
            vae=root / "vae" / "tiny_cogvideox_vae.safetensors",
        )


@cache
def _head() -> HeadMesh:
    return build_head()


def _makers(
    paths: TinyModels, seed: int, learned: bool
) -> Iterator[tuple[tuple[Path, ...], Callable[[], tuple[bytes, ...]]]]:
    """Yield groups of files with the function that gives their bytes."""
    shards = 2
    names = (
        "config.json",
        *(
            f"diffusion_pytorch_model-{n + 1:05d}-of-{shards:05d}.safetensors"
            for n in range(shards)
        ),
        "diffusion_pytorch_model.safetensors.index.json",
    )
    folder = paths.model / "transformer"

    def transformer() -> tuple[bytes, ...]:
        files = transformer_files(seed=seed, learned=learned, shards=shards)
        return tuple(files[name] for name in names)

    yield tuple(folder / name for name in names), transformer
    yield (paths.eva_clip,), lambda: (eva_file(seed=seed),)
    yield (paths.deca,), lambda: (deca_file(seed=seed),)
    yield (paths.flame,), lambda: (flame_file(_head(), seed=seed),)
    yield (paths.transforms,), lambda: (transforms_file(_head()),)
    yield (paths.text_encoder,), lambda: (t5_file(seed=seed),)
    yield (paths.vae,), lambda: (vae_file(seed=seed),)


def _read_manifest(path: Path) -> dict[str, object]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _write(path: Path, content: bytes) -> None:
    """Replace a file in one step, so that a run cut short leaves no half file under its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(path.name + ".tmp")
    half.write_bytes(content)
    os.replace(half, path)


def write_tiny_models(directory: str | Path, *, seed: int = 0, learned: bool = False) -> TinyModels:
    """Write the tiny models, or only those that are missing, broken or made otherwise.

    Args:
        directory: a models folder; other files in it are left alone.
        seed: draws other weights; the head's shape is always the same.
        learned: give the transformer a learned position table for 49 frames of 720x480.

    Returns:
        Where everything is.
    """
    paths = TinyModels.at(directory)
    manifest_path = paths.directory / MANIFEST
    made_with = {"version": VERSION, "seed": seed, "learned": learned}
    manifest = _read_manifest(manifest_path)
    known = manifest.get("sha256") if manifest.get("made_with") == made_with else None
    digests: dict[str, str] = dict(known) if isinstance(known, dict) else {}
    for files, make in _makers(paths, seed, learned):
        names = [path.relative_to(paths.directory).as_posix() for path in files]
        if all(
            digests.get(name) and digests[name] == _digest(path)
            for name, path in zip(names, files, strict=True)
        ):
            continue
        for name, path, content in zip(names, files, make(), strict=True):
            _write(path, content)
            digests[name] = hashlib.sha256(content).hexdigest()
    fresh = {"note": NOTE, "made_with": made_with, "sha256": dict(sorted(digests.items()))}
    if fresh != manifest:
        _write(manifest_path, (json.dumps(fresh, indent=2) + "\n").encode())
    return paths
