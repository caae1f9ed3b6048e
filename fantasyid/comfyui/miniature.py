"""The bundled mini model as the host's own objects, nothing downloaded, the host unchanged.

Its files have the released key names and go through the loaders of the released ones. Two things
the host cannot read from a file by itself, since it knows one size of each: the text encoder, which
takes its sizes as an option, and the VAE, whose class takes them as arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.utils
import numpy as np
import torch
from comfy.ldm.cogvideo.vae import AutoencoderKLCogVideoX
from PIL import Image

from ..identity import FaceCrops
from .weights import Adapter, Deca, FaceEncoder, load_deca, load_face_encoder, load_model

FOLDER = Path(__file__).resolve().parents[2] / "models" / "miniature"
MODEL, MESH, TOWER = "fantasyid.safetensors", "mesh.safetensors", "face_encoder.safetensors"
DECA, HEAD = "deca.safetensors", "head.safetensors"
TEXT, VAE = "text_encoder.safetensors", "vae.safetensors"
PEOPLE = "people"
VAE_SIZES: dict[str, Any] = {
    "block_out_channels": (8, 16, 32, 64),
    "layers_per_block": 1,
    "groups": 4,
}
TEXT_SIZES: dict[str, Any] = {
    "num_layers": 2,
    "d_model": 32,
    "d_ff": 64,
    "d_kv": 8,
    "num_heads": 4,
}
# The host knows a T5-XXL by this tensor of its last block; here it is empty but for its height.
TEXT_MARK, TEXT_MARK_SHAPE = "encoder.block.23.layer.1.DenseReluDense.wi_1.weight", (10240, 1)


@dataclass(frozen=True, slots=True)
class Miniature:
    """Everything that the graph of the released model loads from seven files."""

    model: Any
    adapter: Adapter
    clip: Any
    vae: Any
    face_encoder: FaceEncoder
    head_model: Deca


def people() -> list[str]:
    """The drawn people whose photos are bundled, by name."""
    return sorted(path.stem for path in (FOLDER / PEOPLE).glob("*.png"))


def photo_of(name: str) -> FaceCrops:
    """A drawn person's photo, aligned when it was drawn.

    Raises:
        FileNotFoundError: Nobody of that name is bundled.
    """
    path = FOLDER / PEOPLE / f"{name}.png"
    if name not in people():
        raise FileNotFoundError(f"there is no drawn person {name!r} in {path.parent}")
    picture = Image.open(path).convert("RGB").resize((512, 512), Image.Resampling.BICUBIC)
    image = torch.from_numpy(np.array(picture)).float()[None] / 255
    return FaceCrops(image, image, "drawn: aligned by its maker")


def load_miniature() -> Miniature:
    """Read the bundled files.

    Raises:
        FileNotFoundError: Some are missing; all of them are named.
    """
    names = (MODEL, MESH, TOWER, DECA, HEAD, TEXT, VAE)
    absent = [name for name in names if not (FOLDER / name).is_file()]
    if absent:
        raise FileNotFoundError(
            f"the bundled mini model is incomplete: {', '.join(absent)} should be in {FOLDER}. "
            "Install ComfyUI-FantasyID again"
        )
    model, adapter = load_model(FOLDER / MODEL, FOLDER / MESH, {})
    return Miniature(
        model,
        adapter,
        _text_encoder(),
        _vae(),
        load_face_encoder(FOLDER / TOWER),
        load_deca(FOLDER / DECA, FOLDER / HEAD),
    )


def _text_encoder() -> Any:
    weights: Any = comfy.utils.load_torch_file(str(FOLDER / TEXT))
    weights[TEXT_MARK] = torch.zeros(TEXT_MARK_SHAPE, dtype=torch.float16)
    return comfy.sd.load_text_encoder_state_dicts(
        [weights],
        clip_type=comfy.sd.CLIPType.COGVIDEOX,
        model_options={"t5xxl_model_config": TEXT_SIZES},
    )


def _vae() -> comfy.sd.VAE:
    """The host's VAE object of a full CogVideoX VAE, without memory, around the narrow module."""
    with torch.device("meta"):
        made = comfy.sd.VAE(sd=AutoencoderKLCogVideoX().state_dict())
    narrow = AutoencoderKLCogVideoX(**VAE_SIZES).eval()
    weights: Any = comfy.utils.load_torch_file(str(FOLDER / VAE))
    narrow.load_state_dict(weights)
    narrow.to(made.vae_dtype)
    comfy.model_management.archive_model_dtypes(narrow)
    made.first_stage_model = narrow
    made.patcher = comfy.model_patcher.CoreModelPatcher(
        narrow,
        load_device=made.device,
        offload_device=comfy.model_management.vae_offload_device(),
    )
    made.size = None
    made.model_size()
    return made
