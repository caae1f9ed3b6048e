"""LoRA on the base."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..fantasyid.comfyui import files, messages
from ..fantasyid.comfyui.lora import apply_lora, describe_lora
from . import inputs, types


class FantasyIDLoraLoader(io.ComfyNode):
    """A LoRA in any of the usual names."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDLoraLoader",
            display_name="Load FantasyID LoRA",
            category=f"{types.CATEGORY}/loaders",
            description="Put a CogVideoX LoRA on the MODEL: in diffusers or kohya names, which the "
            "host's LoRA loader does not know for this model, or in the host's own. A file of "
            "which nothing fits is refused.",
            search_aliases=["lora", "cogvideox lora", "style", "peft"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="From Load FantasyID Model, or any CogVideoX-5B-I2V MODEL; before or "
                    "after FantasyID Apply Identity, the result is the same. The MODEL that comes "
                    "in is not changed.",
                ),
                inputs.file(
                    "lora",
                    files.LORA,
                    "LoRA file for CogVideoX-5B in models/loras. One for image-to-video "
                    "fits best; those for text-to-video of the same size load too.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    tooltip="How strongly the LoRA acts. Higher shows more of what it was trained "
                    "on and may loosen the likeness; 0 is off, below 0 pulls away from it. Start "
                    "with 1.",
                ),
            ],
            outputs=[io.Model.Output("model_out", display_name="model")],
            has_intermediate_output=True,
        )

    @classmethod
    def validate_inputs(cls, lora: str) -> bool | str:
        return files.validate_files((files.LORA, lora))

    @classmethod
    def fingerprint_inputs(cls, lora: str, **_others: Any) -> str:
        return files.fingerprint((files.LORA, lora))

    @classmethod
    def execute(cls, model: Any, lora: str, strength: float) -> io.NodeOutput:
        patched = apply_lora(model, files.find(files.LORA, lora), strength)
        text = describe_lora(model, patched, strength)
        return io.NodeOutput(patched, ui=messages.on_node(text))
