"""The miniature's frozen parts as files: for training in the folders that it reads, for the
package as single files in the released layouts.
"""

from __future__ import annotations

import io
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX
from torch import Tensor
from transformers import T5Config, T5EncoderModel

from fantasyid.comfyui.miniature import TEXT_SIZES, VAE_SIZES

from .autoencoder import LATENTS, SCALE
from .checkpoints import eva_file, flame_file, transforms_file
from .head import build_head
from .layouts import TinySizes
from .legacy_torch import legacy_torch_bytes

EVA = TinySizes(eva_blocks=6, eva_dim=64, eva_mlp=128, eva_embed=32)
# The tower is random; its blocks add little to what its patches show, so that this is still there
# for the abstractor to learn from.
EVA_RESIDUAL = 0.35
POSTERIOR_STD = 0.05  # of the VAE, in units of its latents as the transformer sees them


def text_encoder(seed: int = 0) -> T5EncoderModel:
    """A random T5 v1.1 that tells no place from another, so that all paddings are equal.

    `language` teaches it.
    """
    torch.manual_seed(seed)
    model = T5EncoderModel(T5Config(**TEXT_SIZES, feed_forward_proj="gated-gelu"))
    for name, weight in model.named_parameters():
        if "relative_attention_bias" in name:
            weight.data.zero_()
    return model.eval()


def tower(seed: int = 0) -> bytes:
    """A random EVA02-CLIP checkpoint of six blocks, five of which are read."""
    state = torch.load(io.BytesIO(eva_file(EVA, seed=seed)), weights_only=True)
    for name in state:
        if name.endswith(("attn.proj.weight", "mlp.w3.weight")):
            state[name] *= EVA_RESIDUAL
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def scaled_vae(state: dict[str, Tensor], spread: Tensor) -> dict[str, Tensor]:
    """The VAE with latents that have a spread of 1 once the host has scaled them.

    Exact: the factor goes into the last convolution of the encoder and into every one of the
    decoder that reads latents. The encoder's second half, which tells a spread that it was never
    taught, becomes constant.

    Args:
        state: As trained.
        spread: (16,) standard deviation of each channel of its latents.
    """
    factor = (1.0 / (spread * SCALE)).float()
    new = {name: tensor.float().clone() for name, tensor in state.items()}
    weight, bias = (new[f"encoder.conv_out.conv.{kind}"] for kind in ("weight", "bias"))
    weight[:LATENTS] *= factor[:, None, None, None, None]
    bias[:LATENTS] *= factor
    weight[LATENTS:] = 0.0
    bias[LATENTS:] = 2.0 * torch.log(torch.tensor(POSTERIOR_STD / SCALE))
    for name, tensor in new.items():
        reads = name == "decoder.conv_in.conv.weight" or (
            name.startswith("decoder.")
            and name.endswith(("conv_y.conv.weight", "conv_b.conv.weight"))
        )
        if reads:
            tensor /= factor[None, :, None, None, None]
    return new


def write_for_training(
    root: Path,
    vae: dict[str, Tensor] | None,
    deca: dict[str, Tensor] | None,
    text: dict[str, Tensor] | None = None,
    seed: int = 0,
) -> None:
    """Write what `recipes/miniature.toml` names under `weights`; what is None stays as it is."""
    root.mkdir(parents=True, exist_ok=True)
    if vae is not None:
        sizes = {n: v for n, v in VAE_SIZES.items() if n != "groups"}
        model = AutoencoderKLCogVideoX(
            **sizes, norm_num_groups=VAE_SIZES["groups"], latent_channels=LATENTS,
            scaling_factor=SCALE, sample_height=96, sample_width=96,
        )  # fmt: skip
        model.load_state_dict(vae)
        model.save_pretrained(root / "vae")
    if deca is not None:
        (root / "deca.tar").write_bytes(legacy_torch_bytes({"E_flame": deca}))
    if text is not None or not (root / "t5").exists():
        model = text_encoder(seed)
        if text is not None:
            model.load_state_dict(text)
        model.save_pretrained(root / "t5")
    if not (root / "eva.pt").exists():
        (root / "eva.pt").write_bytes(tower(seed))
        (root / "flame.pkl").write_bytes(flame_file(build_head()))
        (root / "transform.pkl").write_bytes(transforms_file(build_head()))
