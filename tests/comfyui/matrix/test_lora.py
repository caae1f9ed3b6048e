"""LoRA on the base: names, weights, and the identity beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from compatibility import difference
from host_graph import BASE, apply, load_base, sample
from safetensors.torch import load_file, save_file

RANK, ALPHA = 2, 1.0
# Module in diffusers' names -> the host's.
MODULES = {
    "attn1.to_q": "q",
    "attn1.to_k": "k",
    "attn1.to_v": "v",
    "attn1.to_out.0": "attn_out",
    "ff.net.0.proj": "ff_proj",
    "ff.net.2": "ff_out",
    "norm1.linear": "norm1.linear",
}
BLOCKS = 4


@pytest.fixture(scope="module")
def base_weights(host, host_base):
    assert host
    return load_file(host_base / "models/diffusion_models" / BASE)


@pytest.fixture(scope="module")
def factors(base_weights):
    """(block, module in diffusers' names) -> the two factors."""
    made, generator = {}, torch.Generator().manual_seed(5)
    for block in range(BLOCKS):
        for module, own in MODULES.items():
            out, inside = base_weights[f"blocks.{block}.{own}.weight"].shape
            down = torch.randn(RANK, inside, generator=generator) * 0.2
            made[block, module] = down, torch.randn(out, RANK, generator=generator) * 0.2
    return made


def names_of(style, block, module):
    """Names of the two factors, and of alpha where the style has one."""
    diffusers = f"transformer_blocks.{block}.{module}"
    own = f"blocks.{block}.{MODULES[module]}"
    stem = {
        "diffusers": f"transformer.{diffusers}",
        "PEFT": f"base_model.model.{diffusers}",
        "kohya": "lora_unet_" + diffusers.replace(".", "_"),
        "kohya with two underscores": "lora_unet__" + diffusers.replace(".", "_"),
        "kohya in host names": "lora_unet_" + own.replace(".", "_"),
        "host": f"diffusion_model.{own}",
    }[style]
    if style in ("diffusers", "PEFT"):
        return f"{stem}.lora_A.weight", f"{stem}.lora_B.weight", None
    return f"{stem}.lora_down.weight", f"{stem}.lora_up.weight", f"{stem}.alpha"


def lora_file(folder: Path, style, factors) -> str:
    """A LoRA file of a naming style in the host's folder; the same weights in each."""
    content = {}
    for (block, module), (down, up) in factors.items():
        first, second, alpha = names_of(style, block, module)
        content |= {first: down.clone(), second: up.clone()}
        if alpha is None:  # without alpha the host takes it to be the rank
            content[second] *= ALPHA / RANK
        else:
            content[alpha] = torch.tensor(ALPHA)
    path = folder / "models/loras" / f"{style.replace(' ', '_')}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(content, path)
    return path.name


@pytest.fixture(scope="module")
def merged(host, loaded, identity, conditioned, host_base, base_weights, factors):
    """What a base gives whose weights were merged by hand, with an identity."""
    weights = {key: value.clone() for key, value in base_weights.items()}
    for (block, module), (down, up) in factors.items():
        weights[f"blocks.{block}.{MODULES[module]}.weight"] += ALPHA / RANK * up @ down
    save_file(weights, host_base / "models/diffusion_models" / "merged.safetensors")
    base = load_base(host, "merged.safetensors")
    return sample(host, apply(host, loaded, identity, model=base), conditioned)


@pytest.mark.parametrize(
    "style",
    ["diffusers", "PEFT", "kohya", "kohya with two underscores", "kohya in host names", "host"],
)
def test_our_loader_reads_every_naming(
    host, loaded, identity, conditioned, host_base, factors, merged, expected, style, compatible
):
    file = lora_file(host_base, style, factors)
    (model,) = host.run("FantasyIDLoraLoader", model=loaded["model"], lora=file, strength=1.0)
    assert len(model.patches) == len(factors)
    video = sample(host, apply(host, loaded, identity, model=model), conditioned)
    assert difference(expected, merged)[0] > 1e-2, "the LoRA is too weak to tell"
    error, words = difference(video, merged)
    assert error < 1e-4
    compatible("LoRA, FantasyID's loader", words, style)


@pytest.mark.parametrize("style", ["kohya in host names", "host"])
def test_the_hosts_loader_reads_its_own_names(
    host, loaded, identity, conditioned, host_base, factors, merged, style, compatible
):
    file = lora_file(host_base, style, factors)
    (model,) = host.run(
        "LoraLoaderModelOnly", model=loaded["model"], lora_name=file, strength_model=1.0
    )
    video = sample(host, apply(host, loaded, identity, model=model), conditioned)
    error, words = difference(video, merged)
    assert error < 1e-4
    compatible("LoRA, the host's loader", words, style)


@pytest.mark.parametrize("style", ["diffusers", "kohya"])
def test_the_hosts_loader_does_nothing_with_the_other_names(
    host, loaded, host_base, factors, style
):
    """Why there is a loader of ours; when this fails, the host has learned them."""
    file = lora_file(host_base, style, factors)
    (model,) = host.run(
        "LoraLoaderModelOnly", model=loaded["model"], lora_name=file, strength_model=1.0
    )
    assert not model.patches


def test_a_lora_before_or_after_the_identity_is_the_same(
    host, loaded, native, identity, conditioned, host_base, factors, expected, compatible
):
    file = lora_file(host_base, "diffusers", factors)

    def with_lora(model, strength=1.0):
        return host.run("FantasyIDLoraLoader", model=model, lora=file, strength=strength)[0]

    before = apply(host, loaded, identity, model=with_lora(loaded["model"]))
    after = with_lora(apply(host, loaded, identity))
    one, other = (sample(host, model, conditioned) for model in (before, after))
    assert torch.equal(one, other)
    on_native = sample(host, apply(host, loaded, identity, model=with_lora(native)), conditioned)
    torch.testing.assert_close(on_native, one, rtol=1e-4, atol=1e-5)
    off = sample(host, apply(host, loaded, identity, model=with_lora(native, 0.0)), conditioned)
    torch.testing.assert_close(off, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(sample(host, apply(host, loaded, identity), conditioned), expected)
    compatible("LoRA before or after Apply", "the same bits; without it again the same bits")


def test_a_lora_on_an_fp8_base(
    host, loaded, identity, conditioned, host_base, factors, merged, compatible
):
    """The sum is rounded to fp8 again: near the merged base in full precision, not equal."""
    file = lora_file(host_base, "kohya", factors)
    base = load_base(host, weight_dtype="fp8_e4m3fn")
    (model,) = host.run("FantasyIDLoraLoader", model=base, lora=file, strength=1.0)
    on, off = (
        sample(host, apply(host, loaded, identity, model=each), conditioned)
        for each in (model, base)
    )
    error = difference(on, merged)[0]
    assert error < 0.2
    assert error < difference(off, merged)[0] / 2, "the LoRA does nothing"
    compatible("LoRA on an fp8 base", f"{error:.1%} from the merged base in fp32")


def test_a_file_of_which_nothing_fits_is_refused(host, loaded, host_base, factors):
    folder = host_base / "models/loras"
    folder.mkdir(parents=True, exist_ok=True)
    other = {"lora_unet_down_blocks_0_attn1_to_q.lora_down.weight": torch.ones(2, 8)}
    save_file(other, folder / "other.safetensors")
    with pytest.raises(ValueError, match=r"none of its 1 keys belongs to .* lora_unet_down_blocks"):
        host.run("FantasyIDLoraLoader", model=loaded["model"], lora="other.safetensors", strength=1)
    narrow = {key: (down[:, :16], up[:16]) for key, (down, up) in factors.items()}
    file = lora_file(host_base, "PEFT", narrow)
    with pytest.raises(
        ValueError, match=r"a model of another width: .* is for 16 to 16, the model"
    ):
        host.run("FantasyIDLoraLoader", model=loaded["model"], lora=file, strength=1.0)
    lora_node = host.nodes.NODE_CLASS_MAPPINGS["FantasyIDLoraLoader"]
    assert "is not there. Searched" in lora_node.validate_inputs(lora="absent.safetensors")
    assert lora_node.validate_inputs(lora="other.safetensors") is True
    (off,) = host.run(
        "FantasyIDLoraLoader", model=loaded["model"], lora=lora_file(host_base, "host", factors),
        strength=0.0,
    )  # fmt: skip
    assert not off.patches
