"""LoRA files for CogVideoX: which weight of the host's transformer a name stands for.

Trainers name modules as diffusers does, with dots (diffusers, PEFT) or with underscores (kohya
and its kin); the host knows its own names only. Which is which, `keys` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod

from ..shapes import Shapes
from .keys import BLOCK_MODULES, OUTER_MODULES

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
    modules = OUTER_MODULES | {
        f"transformer_blocks.{i}.{released}": f"blocks.{i}.{host}"
        for i in range(num_blocks)
        for released, host in BLOCK_MODULES.items()
    }
    found: dict[str, str] = {}
    for released, host in modules.items():
        for module in (host, released):
            found |= {f"{prefix}{module}": f"{host}.weight" for prefix in DOTTED_PREFIXES}
            flat = module.replace(".", "_")
            found |= {f"{prefix}{flat}": f"{host}.weight" for prefix in FLAT_PREFIXES}
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
