"""Puts a trained miniature together as the shipped files: `python -m miniature ship`."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from fantasyid.face.crop import cut_crop
from fantasyid.geometry.flame import FILE_KEYS
from fantasyid.weights.third_party import (
    COLUMNS,
    read_deca,
    read_eva,
    read_flame,
    read_mesh_tables,
    tables_to_tensors,
)

from .motion import EXPRESSION_FIELDS, PARENTS
from .world.dataset import PHOTO_SIZE
from .world.drawing import PHOTO_ZOOM, draw, five_points
from .world.films import Film
from .world.people import SHAPES, draw_people

# The people whose photos are shipped: drawn from a seed of their own, so that no training, no
# choice of settings and no table has seen them.
SHOWN_SEED = 5
SHOWN = {"Ada": 0, "Bela": 1, "Chidi": 2, "Dara": 3, "Emil": 4, "Fumi": 5}


def ship(models: Path, adapter: Path, vae: dict[str, Tensor], recognizer: Path, out: Path) -> None:
    """Write everything that `FantasyIDMiniLoader` reads, in half precision.

    Args:
        models: Folder of the encoders that training stood on (`parts.write_for_training`).
        adapter: What `python -m fantasyid.training export` wrote; the base lies beside it.
        vae: The VAE, scaled.
        recognizer: ONNX file.
        out: `models/miniature` of the package.
    """
    out.mkdir(parents=True, exist_ok=True)
    base = load_file(adapter.with_name(f"{adapter.stem}_base.safetensors"))
    _write(out / "fantasyid.safetensors", base | load_file(adapter))
    _write(out / "vae.safetensors", vae)
    text = load_file(models / "t5" / "model.safetensors")
    text.pop("encoder.embed_tokens.weight", None)  # is `shared.weight`
    _write(out / "text_encoder.safetensors", text)
    _write(out / "face_encoder.safetensors", read_eva(models / "eva.pt"))
    _write(
        out / "deca.safetensors",
        {f"E_flame.{n}": t for n, t in read_deca(models / "deca.tar").items()},
    )
    _write(out / "mesh.safetensors", tables_to_tensors(read_mesh_tables(models / "transform.pkl")))
    _write(out / "head.safetensors", head_of(read_flame(models / "flame.pkl")))
    shutil.copyfile(recognizer, out / "recognizer.onnx")
    write_people(out / "people")


def head_of(tables: dict[str, Tensor]) -> dict[str, Tensor]:
    """FLAME's tables in the file's names, with the named directions alone; see `read_flame`."""
    kept = torch.tensor([*range(SHAPES), *range(300, 301 + len(EXPRESSION_FIELDS))])
    columns = {"shapedirs": kept, "posedirs": kept[:0]}  # pose moves joints and nothing else
    found = {FILE_KEYS[name]: tensor for name, tensor in tables.items()}
    for name, numbers in columns.items():
        found |= {name: found[name][..., numbers], name + COLUMNS: numbers}
    return found | {"kintree_table": torch.tensor([[-1, *PARENTS[1:]], [*range(len(PARENTS))]])}


def write_people(folder: Path) -> None:
    """The aligned photos of the people in `SHOWN`, 256 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    everyone = draw_people(40, SHOWN_SEED)
    for name, number in SHOWN.items():
        moment = Film(
            motion="", background="", light="", prompt="",
            pose=torch.tensor([[0.12 if number % 2 else -0.12, 0.02, 0.0, 0.0, 0.4]]),
            color=torch.full((3,), 0.6), beam=torch.tensor([0.3, 0.4, 0.8]), shift=torch.zeros(2),
        )  # fmt: skip
        one = everyone[[number]]
        photo = draw(one, [moment], PHOTO_SIZE, 1, PHOTO_ZOOM)[0][0].float() / 255
        crop = cut_crop(photo, five_points(one, moment, PHOTO_SIZE)[0].tolist())
        levels = (crop * 255).round().byte().numpy()
        Image.fromarray(levels).resize((256, 256), Image.Resampling.LANCZOS).save(
            folder / f"{name}.png", optimize=True
        )


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    """In half precision, integers as narrow as they go."""

    def narrow(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point():
            return tensor.half()
        largest = int(tensor.abs().max()) if tensor.numel() else 0
        return tensor.to(torch.int16 if largest < 2**15 else torch.int32)

    save_file({n: narrow(t).contiguous().clone() for n, t in tensors.items()}, path)
