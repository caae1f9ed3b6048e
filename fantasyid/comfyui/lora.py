"""LoRA on the base transformer, whatever names its trainer gave the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import comfy.lora
import comfy.utils
from torch import Tensor

from ..cogvideox.lora_keys import lora_names, misfits
from ..weights.keys import shapes_of
from .cogvideox import require_cogvideox_i2v

PREFIX = "diffusion_model."


def apply_lora(model: Any, path: Path, strength: float) -> Any:
    """A clone of a MODEL with a LoRA, by the host's own patches.

    Args:
        model: MODEL of a CogVideoX-5B-I2V; what it carries already stays.
        path: LoRA in diffusers, kohya or the host's names.
        strength: Factor on the LoRA; 1 as trained, 0 is off, negative pulls the other way.

    Raises:
        ValueError: The MODEL is something else, no key of the file fits (a few are named), or the
            LoRA is for a model of another width.
    """
    transformer = require_cogvideox_i2v(model)
    file = cast(dict[str, Tensor], comfy.utils.load_torch_file(str(path), safe_load=True))
    names = lora_names(len(transformer.blocks))
    weights = {k.removeprefix(PREFIX): s for k, s in shapes_of(model.model.state_dict()).items()}
    wrong = list(misfits(names, shapes_of(file), weights))
    if wrong:
        raise ValueError(
            f"{path.name} is a LoRA for a model of another width: {'; '.join(wrong[:3])}. "
            "FantasyID needs one for CogVideoX-5B"
        )
    known = comfy.lora.model_lora_keys_unet(model.model, {})
    known |= {name: PREFIX + weight for name, weight in names.items()}
    patches = comfy.lora.load_lora(file, known)
    if not patches:
        raise ValueError(
            f"{path.name} does not fit a CogVideoX: none of its {len(file)} keys belongs to the "
            f"transformer, they are called {', '.join(sorted(file)[:3])}. Choose a LoRA that was "
            "trained for CogVideoX-5B"
        )
    clone = model.clone()
    if strength != 0.0:
        clone.add_patches(patches, strength)
    return clone


def describe_lora(before: Any, after: Any, strength: float) -> str:
    """What the loader did, in a sentence."""
    count = sum(
        len(patches) - len(before.patches.get(k, ())) for k, patches in after.patches.items()
    )
    if count == 0:
        return "NO LORA applied: strength is 0."
    return f"The LoRA changes {count} weights at strength {strength:g}."
