"""LoRA files for CogVideoX: which weight of the host's transformer a name stands for.

Trainers name modules as diffusers does, with dots (diffusers, PEFT) or with underscores (kohya
and its kin); the host knows its own names only. Source: host facts, section 5.2, the renaming of
checkpoints, which `checkpoint.BASE_RULES` holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod

from ..weights.keys import Shapes, sort_released_keys

# Modules of the transformer in diffusers' names; a LoRA may have any of them.
OUTER_MODULES = (
    "patch_embed.proj",
    "patch_embed.text_proj",
    "time_embedding.linear_1",
    "time_embedding.linear_2",
    "norm_final",
    "norm_out.linear",
    "norm_out.norm",
    "proj_out",
)
BLOCK_MODULES = (
    *(f"attn1.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0", "norm_q", "norm_k")),
    *("ff.net.0.proj", "ff.net.2"),
    *(f"norm{number}.{name}" for number in (1, 2) for name in ("linear", "norm")),
)
DOTTED_PREFIXES = ("", "transformer.", "base_model.model.", "diffusion_model.")
FLAT_PREFIXES = ("lora_unet_", "lora_unet__", "lora_transformer_", "lycoris_")
# Endings of the two factors: `(rank, in)` and `(out, rank)`.
FACTORS = (
    (".lora_A.weight", ".lora_B.weight"),
    (".lora_A.default.weight", ".lora_B.default.weight"),
    (".lora_down.weight", ".lora_up.weight"),
    (".lora.down.weight", ".lora.up.weight"),
    ("_lora.down.weight", "_lora.up.weight"),
)


def lora_names(num_blocks: int) -> dict[str, str]:
    """Every name that a LoRA file may have for a module.

    Args:
        num_blocks: Blocks of the transformer.

    Returns:
        Name in a file, without the factor's ending -> weight in the host's transformer.
    """
    blocks = (f"transformer_blocks.{i}.{m}" for i in range(num_blocks) for m in BLOCK_MODULES)
    released = sort_released_keys(f"{module}.weight" for module in (*OUTER_MODULES, *blocks)).base
    found: dict[str, str] = {}
    for weight, key in released.items():
        for module in (weight.removesuffix(".weight"), key.removesuffix(".weight")):
            found |= {f"{prefix}{module}": weight for prefix in DOTTED_PREFIXES}
            found |= {prefix + module.replace(".", "_"): weight for prefix in FLAT_PREFIXES}
    return found


def misfits(names: Mapping[str, str], file: Shapes, weights: Shapes) -> Iterator[str]:
    """Pairs of factors that are made for another width, in words.

    Args:
        names: As `lora_names` gives them.
        file: Shapes of the LoRA file.
        weights: Shapes of the transformer's weights.
    """
    for name, weight in names.items():
        for first, second in FACTORS:
            if f"{name}{first}" not in file or f"{name}{second}" not in file:
                continue
            found = file[f"{name}{second}"][0], prod(file[f"{name}{first}"][1:])
            expected = weights[weight][0], prod(weights[weight][1:])
            if found != expected:
                widths = [f"{inside} to {outside}" for outside, inside in (found, expected)]
                yield f"{name} is for {widths[0]}, the model has {widths[1]}"
