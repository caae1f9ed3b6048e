"""The doctor: what is missing, what does not fit, what takes the identity away."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..fantasyid.comfyui import doctor, latents, messages
from ..fantasyid.doctor import memory
from . import types


class FantasyIDDoctor(io.ComfyNode):
    """Sentences for people, JSON for scripts."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDDoctor",
            display_name="FantasyID Doctor",
            category=f"{types.CATEGORY}/evaluate",
            description="Look at everything before a long run: model files, ComfyUI and what it "
            "gets wrong for this model, packages, memory for a size, other patches on the MODEL, "
            "and whether the identity is on. Nothing is changed and nothing is fetched.",
            search_aliases=["diagnose", "check", "health", "why no identity", "out of memory"],
            inputs=[
                io.Int.Input(
                    "width",
                    default=720,
                    min=latents.SIDE_STEP,
                    max=latents.SIDE_MAX,
                    step=latents.SIDE_STEP,
                    tooltip="Width of the planned video in pixels, for the memory estimate. "
                    "Memory grows with it. Start with 720.",
                ),
                io.Int.Input(
                    "height",
                    default=480,
                    min=latents.SIDE_STEP,
                    max=latents.SIDE_MAX,
                    step=latents.SIDE_STEP,
                    tooltip="Height of the planned video in pixels. Memory grows with it. Start "
                    "with 480.",
                ),
                io.Int.Input(
                    "length",
                    default=49,
                    min=1,
                    max=latents.LENGTH_MAX,
                    step=4,
                    tooltip="Frames of the planned video. Memory grows with them, unless Context "
                    "Windows is on the MODEL. Start with 49.",
                ),
                io.Boolean.Input(
                    "check_hashes",
                    default=False,
                    tooltip="Compare the SHA-256 of every model file with the known ones. On, it "
                    "reads every byte, which takes minutes for the real model. Start with off.",
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="The MODEL that goes into the sampler: its positions, its identity, "
                    "what other nodes put on it, and the memory that it takes.",
                ),
                types.Adapter.Input(
                    "adapter",
                    optional=True,
                    tooltip="The adapter, to see whether it fits the MODEL.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="The text encoder, to measure whether long prompts are cut.",
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="The VAE, to measure how it encodes and what decoding takes. It "
                    "encodes one small picture.",
                ),
            ],
            outputs=[
                io.String.Output("report", tooltip="A line per finding, the worst first."),
                io.String.Output("report_json", display_name="json", tooltip="For scripts."),
            ],
            is_output_node=True,
            has_intermediate_output=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> float:
        return float("nan")  # files and free memory change without the graph

    @classmethod
    def execute(
        cls,
        width: int,
        height: int,
        length: int,
        check_hashes: bool,
        model: Any = None,
        adapter: Any = None,
        clip: Any = None,
        vae: Any = None,
    ) -> io.NodeOutput:
        size = memory.VideoSize(width, height, length)
        text, facts = doctor.examine(size, check_hashes, model, adapter, clip, vae)
        return io.NodeOutput(text, facts, ui=messages.on_node(text))
