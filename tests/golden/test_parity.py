"""Against timm and diffusers as they run today, at small widths and at five video sizes."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from denoiser import build_model, velocity
from safetensors.torch import load_file

from fantasyid.cogvideox.positions import rotary_table
from fantasyid.face.eva_clip import EvaVisionTransformer
from fantasyid.face.eva_keys import EVA_KEYS, EvaConfig

SIZES = [(480, 720), (720, 480), (512, 512), (256, 384), (768, 1360)]
HEADS, TEXT_WIDTH = 3, 64

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # of those libraries and of the host
]


def name_of(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def test_eva_equals_timm(seeded, relative_error, fidelity):
    eva = pytest.importorskip("timm.models.eva", reason="timm is absent")
    config = EvaConfig(dim=128, depth=24, mlp_dim=341)
    ours = seeded.fill(EvaVisionTransformer(config), "visual.", EVA_KEYS.to_released)
    # 20 blocks, because ours builds no more; their final norm and head are not ours to compare.
    theirs = eva.eva02_large_patch14_clip_336(embed_dim=128, depth=20, num_heads=2, num_classes=0)
    state = {f"visual.{EVA_KEYS.to_released(k)}": v for k, v in ours.state_dict().items()}
    missing, unexpected = theirs.load_state_dict(
        eva.checkpoint_filter_fn(state, theirs), strict=False
    )
    assert set(missing) == {"norm.weight", "norm.bias"}
    assert not unexpected
    pixels = seeded.inp("eva_image", (1, 3, 336, 336))
    with torch.no_grad():
        levels = theirs.eval().forward_intermediates(
            pixels,
            indices=[3, 7, 11, 15, 19],
            norm=False,
            output_fmt="NLC",
            return_prefix_tokens=True,
            intermediates_only=True,
        )
        got = ours.hidden_states(pixels)
    expected = [torch.cat([prefix, patches], dim=1) for patches, prefix in levels]
    errors = [relative_error(g, e) for g, e in zip(got, expected, strict=True)]
    fidelity("eva against timm", torch.float32, {"worst of five hidden states": max(errors)})


def diffusers_rotary(size: tuple[int, int], frames: int, transformer):
    """The table of diffusers' own pipeline, with its own rule for the crop."""
    pytest.importorskip("diffusers", reason="diffusers is absent")
    from diffusers.pipelines.cogvideo.pipeline_cogvideox_image2video import (
        CogVideoXImageToVideoPipeline,
    )

    pipeline = SimpleNamespace(vae_scale_factor_spatial=8, transformer=transformer)
    prepare: Any = CogVideoXImageToVideoPipeline._prepare_rotary_positional_embeddings
    return prepare(pipeline, *size, frames, torch.device("cpu"))


@pytest.mark.parametrize("size", SIZES, ids=name_of)
def test_rotary_table_equals_diffusers(size, relative_error, fidelity):
    config = SimpleNamespace(
        attention_head_dim=64, patch_size=2, patch_size_t=None, sample_height=60, sample_width=90
    )
    expected = diffusers_rotary(size, 3, SimpleNamespace(config=config))
    got = rotary_table(3, size[0] // 16, size[1] // 16, 64)
    error = max(relative_error(*pair) for pair in zip(got, expected, strict=True))
    fidelity("rotary table against diffusers", torch.float32, {name_of(size): error})


@pytest.fixture(scope="module")
def diffusers_transformer(comfyui_path):
    """A narrow CogVideoX image-to-video transformer of two layers, randomly filled."""
    assert comfyui_path  # without a host nothing is compared, so nothing is imported
    diffusers = pytest.importorskip("diffusers", reason="diffusers is absent")
    torch.manual_seed(4)
    transformer = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=HEADS,
        attention_head_dim=64,
        in_channels=32,
        out_channels=16,
        time_embed_dim=64,
        text_embed_dim=TEXT_WIDTH,
        num_layers=2,
        use_rotary_positional_embeddings=True,
        use_learned_positional_embeddings=False,
    )
    return transformer.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def our_model(ours, diffusers_transformer):
    return build_model(ours, diffusers_transformer.state_dict())[0]


def random_inputs(size: tuple[int, int], frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    shape = (1, frames, 32, size[0] // 8, size[1] // 8)
    text = torch.randn(1, 226, TEXT_WIDTH, generator=generator)
    return torch.randn(shape, generator=generator), text


@pytest.mark.parametrize("size", SIZES, ids=name_of)
def test_velocity_equals_diffusers(
    our_model, diffusers_transformer, relative_error, fidelity, size
):
    frames = 1 if size == SIZES[-1] else 2
    latents, text = random_inputs(size, frames)
    rotary = diffusers_rotary(size, frames, diffusers_transformer)
    expected = diffusers_transformer(
        latents, text, torch.tensor([801]), image_rotary_emb=rotary, return_dict=False
    )[0]
    error = relative_error(velocity(our_model, latents, text), expected)
    fidelity("velocity against diffusers", torch.float32, {name_of(size): error})


def test_positions_count_in_that_comparison(ours, our_model, relative_error):
    """Otherwise equal velocities would say nothing about them.

    At 256x384 the host's own grid happens to be right: 30 / 16 = 45 / 24 = its factor 1.875.
    """
    bare = our_model.clone()
    bare.wrappers["apply_model"].pop(ours("fantasyid.comfyui.cogvideox").POSITIONS_KEY)
    for size, expected in (((512, 512), True), ((256, 384), False)):
        inputs = random_inputs(size, 1)
        change = relative_error(velocity(bare, *inputs), velocity(our_model, *inputs))
        assert (change > 1e-3) is expected, f"{size}: {change}"


MINI = Path(__file__).parents[2] / "models" / "miniature" / "vae.safetensors"
MINI_WIDTHS = {"block_out_channels": (8, 16, 32, 64), "layers_per_block": 1, "norm_num_groups": 4}


@pytest.fixture(scope="module", params=["real widths", "mini VAE"])
def vaes(request, ours, comfyui_path):
    """A CogVideoX VAE in diffusers and as the host's object, with the same weights."""
    assert comfyui_path
    diffusers = pytest.importorskip("diffusers", reason="diffusers is absent")
    torch.manual_seed(4)
    if request.param == "mini VAE":
        vae = ours("fantasyid.comfyui.miniature").load_miniature().vae
        theirs = diffusers.AutoencoderKLCogVideoX(**MINI_WIDTHS)
        theirs.load_state_dict(load_file(MINI))
    else:
        theirs = diffusers.AutoencoderKLCogVideoX()
        vae = importlib.import_module("comfy.sd").VAE(sd=theirs.state_dict())
    return request.param, theirs.eval().requires_grad_(False), vae


def test_the_decode_equals_diffusers_and_the_hosts_does_not(vaes, ours, relative_error, fidelity):
    name, theirs, vae = vaes
    assert vae.vae_dtype == torch.float32
    latents = torch.randn(2, 16, 5, 2, 3, generator=torch.Generator().manual_seed(7))
    before = {key: value.clone() for key, value in vae.first_stage_model.state_dict().items()}
    expected = theirs.decode(latents).sample.div(2).add(0.5).clamp(0, 1).movedim(1, -1)
    got, in_parts = ours("fantasyid.comfyui.decode").decode_as_released(latents, vae)
    assert not in_parts
    got = got.unflatten(0, (2, 17))
    assert (got - expected).abs().max() <= 1e-4
    fidelity("decode against diffusers", torch.float32, {name: relative_error(got, expected)})
    hosts = vae.decode(latents)
    fidelity("the host's VAE Decode", torch.float32, {name: relative_error(hosts, expected)})
    assert (hosts - expected).abs().max() > 0.01, "the host decodes as released: say so in the docs"
    after = vae.first_stage_model.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
