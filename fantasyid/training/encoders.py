"""The frozen encoders that training inputs come from: VAE, T5, EVA02-CLIP, DECA and FLAME.

Each is loaded when it is first asked and let go when its part of the cache is full, so that a
small card holds one at a time.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..face.eva_clip import EvaVisionTransformer
from ..face.eva_clip import preprocess as tower_pixels
from ..face.eva_keys import EVA_KEYS, EvaConfig
from ..geometry.deca import DecaConfig, DecaEncoder, split_code
from ..geometry.deca_photo import preprocess as deca_pixels
from ..geometry.flame import Flame, FlameConfig
from ..weights.fingerprint import sha256_of_file
from ..weights.keys import shapes_of
from ..weights.released import ModuleWeights, fit_modules
from ..weights.third_party import read_deca, read_eva, read_flame
from .config import Cache, Weights
from .manifest import DataError

TEXT_TOKENS = 226


class Encoders:
    """All of them, behind functions from pictures and words to tensors on the CPU.

    Args:
        weights: Their files.
        cache: Says where they run.
    """

    text_tokens = TEXT_TOKENS

    def __init__(self, weights: Weights, cache: Cache) -> None:
        self.weights = weights
        chosen = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(chosen if cache.device == "auto" else cache.device)
        absent = [
            f"weights.{name} is {path}"
            for name in Weights.__dataclass_fields__
            if (path := getattr(weights, name)) is not None and not path.exists()
        ]
        if absent:
            raise DataError("not there: " + "; ".join(absent))

    def fingerprint(self, part: str) -> str:
        """Hash of the weights that a part of the cache depends on."""
        files = {
            "video": (self.weights.vae,),
            "face": (self.weights.vae,),
            "text": (self.weights.text_encoder,),
            "features": (self.weights.face_encoder,),
            "vertices": (self.weights.deca, self.weights.flame),
        }[part]
        return "-".join(_weights_hash(path) for path in files)

    def release(self) -> None:
        """Let every loaded encoder go."""
        for name in ("vae", "_text", "_tower", "_deca"):
            self.__dict__.pop(name, None)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @cached_property
    def vae(self) -> Any:
        """diffusers' `AutoencoderKLCogVideoX`."""
        from diffusers.models.autoencoders.autoencoder_kl_cogvideox import (
            AutoencoderKLCogVideoX,
        )

        vae: Any = AutoencoderKLCogVideoX.from_pretrained(self.weights.vae)
        return vae.to(self.device).eval().requires_grad_(False)

    @property
    def latent_channels(self) -> int:
        """Of the VAE (CogVideoX: 16)."""
        return self.vae.config.latent_channels

    @property
    def scale(self) -> float:
        """What latents are multiplied with before the transformer sees them (CogVideoX: 0.7)."""
        return float(self.vae.config.scaling_factor)

    @cached_property
    def _text(self) -> tuple[Any, Any]:
        from transformers import AutoTokenizer, T5EncoderModel

        encoder: Any = T5EncoderModel.from_pretrained(self.weights.text_encoder)
        tokenizer = AutoTokenizer.from_pretrained(self.weights.tokenizer)
        return tokenizer, encoder.to(self.device).eval()

    @property
    def text_width(self) -> int:
        """Of the text encoder (T5-XXL: 4096)."""
        return self._text[1].config.d_model

    @cached_property
    def _tower(self) -> Any:
        path = self.weights.face_encoder
        on_disk = read_eva(path)
        weights = {EVA_KEYS.to_ours(name) or name: tensor for name, tensor in on_disk.items()}
        fitted = fit_modules(
            weights, EvaConfig, EvaVisionTransformer, source=str(path), keys=EVA_KEYS
        )
        return self._ready(fitted[0])

    def _ready(self, part: ModuleWeights[Tensor]) -> Any:
        """A module with its weights, in float32, on the device."""
        module = part.build(device=None, dtype=None, operations=nn)
        module.load_state_dict({name: tensor.float() for name, tensor in part.weights.items()})
        return module.to(self.device).eval().requires_grad_(False)

    @property
    def feature_width(self) -> int:
        """Of the vision tower (EVA02-CLIP-L: 1024)."""
        return self._tower.config.dim

    @property
    def feature_tokens(self) -> int:
        """Patches and the class token (577)."""
        return self._tower.config.grid**2 + 1

    @cached_property
    def _deca(self) -> tuple[Any, Any]:
        path = self.weights.deca
        (encoder,) = fit_modules(read_deca(path), DecaConfig, DecaEncoder, source=str(path))
        tables = read_flame(self.weights.flame)
        flame = Flame(FlameConfig.from_shapes(shapes_of(tables)))
        flame.load_state_dict(tables)
        return self._ready(encoder), flame.to(self.device).eval()

    @torch.inference_mode()
    def moments(self, pixels: Tensor) -> Tensor:
        """Means and log variances `(2 C, F', H / 8, W / 8)` of `(F, H, W, 3)` in [-1, 1]."""
        video = pixels.permute(3, 0, 1, 2)[None].to(self.device)
        return self.vae.encode(video).latent_dist.parameters[0].float().cpu().clone()

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """`(1, F', C, H, W)` scaled latents as `(F, H, W, 3)` uint8 frames."""
        video = self.vae.decode(latents.movedim(1, 2).to(self.device) / self.scale).sample[0]
        levels = ((video.float() + 1.0) * 127.5).round().clamp(0, 255)
        return levels.to(torch.uint8).permute(1, 2, 3, 0).cpu().clone()

    def video(self, frames: Tensor) -> Tensor:
        """The moments of a clip, `(F, H, W, 3)` uint8."""
        return self.moments(frames.float() / 127.5 - 1.0)

    @torch.inference_mode()
    def text(self, prompt: str) -> Tensor:
        """`(226, C)`: padded and cut there, no attention mask, as the released pipeline does."""
        tokenizer, encoder = self._text
        tokens = tokenizer(
            prompt, padding="max_length", max_length=TEXT_TOKENS, truncation=True,
            add_special_tokens=True, return_tensors="pt",
        )  # fmt: skip
        return encoder(tokens.input_ids.to(self.device))[0][0].float().cpu().clone()

    @torch.inference_mode()
    def features(self, crops: Tensor) -> Tensor:
        """Hidden states `(V, 577, C)` of aligned crops `(V, 512, 512, 3)` uint8."""
        found = [
            self._tower(tower_pixels(crop[None].to(self.device).float() / 255.0)) for crop in crops
        ]
        return torch.cat(found).float().cpu().clone()

    @torch.inference_mode()
    def vertices(self, crops: Tensor) -> Tensor:
        """Heads `(V, 5023, 3)` in metres, shape alone: pose and expression stay out (paper 3.3)."""
        encoder, flame = self._deca
        heads = []
        for crop in crops:
            code = split_code(encoder(deca_pixels(crop[None].to(self.device).float() / 255.0)))
            rest = torch.zeros_like(code.expression), torch.zeros_like(code.pose)
            heads.append(flame(code.shape, *rest))
        return torch.cat(heads).float().cpu().clone()

    def face_pixels(self, crop: Tensor, width: int, height: int) -> Tensor:
        """A crop stretched to the video's size, `(1, H, W, 3)` in [-1, 1] , as released."""
        picture = Image.fromarray(crop.numpy()).resize((width, height), Image.Resampling.LANCZOS)
        return torch.from_numpy(np.array(picture)).float()[None] / 127.5 - 1.0


def _weights_hash(path: Path) -> str:
    """Of a file, or of the weight files of a folder."""
    files = (
        [path]
        if path.is_file()
        else sorted(path.glob("*.safetensors")) + sorted(path.glob("*.bin"))
    )
    if not files:
        raise DataError(f"{path} holds no weights (*.safetensors or *.bin)")
    return "".join(sha256_of_file(file)[:12] for file in files)
