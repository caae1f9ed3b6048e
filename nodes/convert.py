"""The converter as a node."""

from __future__ import annotations

from comfy_api.latest import io

from ..fantasyid.comfyui import convert, files, messages
from ..fantasyid.weights.convert import PRECISIONS
from . import inputs, types


class FantasyIDConvert(io.ComfyNode):
    """A released folder becomes two files for ComfyUI's folders."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDConvert",
            display_name="Convert FantasyID Model",
            category=f"{types.CATEGORY}/loaders",
            description="Split a released FantasyID folder, once, into a base that Load Diffusion "
            "Model reads and an adapter that Load FantasyID Adapter reads. Every byte is checked "
            "after it is written. Stopped, it goes on where it was when it is run again.",
            search_aliases=["split checkpoint", "save adapter", "fp8", "safetensors"],
            inputs=[
                inputs.file(
                    "model",
                    files.MODEL,
                    "Released FantasyID folder in models/fantasyid, or a single file with "
                    "transformer and adapter.",
                ),
                io.String.Input(
                    "name",
                    default="fantasyid",
                    tooltip="What the two files are called: NAME_base.safetensors in "
                    "models/diffusion_models and NAME_adapter.safetensors in models/fantasyid.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=list(PRECISIONS),
                    tooltip="Precision of the files. keep changes nothing and gives the very same "
                    "video. fp8_e4m3fn halves the base (its blocks' matrices; the rest, and the "
                    "adapter, keep 16 bits) and changes the picture slightly.",
                ),
                io.Boolean.Input(
                    "overwrite",
                    default=False,
                    tooltip="Replace files of that name. Off, files that are there are never "
                    "touched.",
                ),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, model: str | None, name: str | None) -> bool | str:
        if name is not None and (problem := convert.name_problem(name)):
            return problem
        return files.validate_files((files.MODEL, model))

    @classmethod
    def fingerprint_inputs(cls, model: str, name: str, dtype: str, overwrite: bool) -> str:
        return convert.fingerprint(model, name) + f"{dtype} {overwrite}"

    @classmethod
    def execute(cls, model: str, name: str, dtype: str, overwrite: bool) -> io.NodeOutput:
        text = convert.convert(model, name, dtype, overwrite)
        return io.NodeOutput(ui=messages.on_node(text))
