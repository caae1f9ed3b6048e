"""What the injection did."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..fantasyid.comfyui import messages, report
from . import types


class FantasyIDInjectionReport(io.ComfyNode):
    """Is the identity on?"""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDInjectionReport",
            display_name="FantasyID Injection Report",
            category=f"{types.CATEGORY}/identity",
            description="How much the identity moved the hidden states, per block and step, "
            "measured while sampling: is it on, where does it act, and how strongly.",
            search_aliases=["is identity on", "heat map", "block report"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The MODEL that was sampled, out of FantasyID Apply Identity with "
                    "record on.",
                ),
                io.Latent.Input(
                    "latent",
                    tooltip="The sampler's latent: it makes this node wait for the sampling.",
                ),
            ],
            outputs=[
                io.Image.Output("heat_map", display_name="heat_map"),
                io.String.Output("report_json", display_name="json"),
                io.String.Output("summary", display_name="summary"),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, model: Any, latent: Any) -> io.NodeOutput:
        del latent  # only for the order of things
        picture, text, summary = report.injection_report(model)
        ui = messages.on_node(summary, picture, cls)
        return io.NodeOutput(picture, text, summary, ui=ui)
