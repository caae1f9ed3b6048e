"""Identity into the model."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..fantasyid.comfyui import apply, messages
from ..fantasyid.injection.report import measured_layers
from ..fantasyid.injection.steering import (
    BRANCHES,
    OWN,
    PRESETS,
    LayerWeights,
    Steering,
    validate_layers,
)
from . import inputs, types


class FantasyIDApply(io.ComfyNode):
    """One injector in every block."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDApply",
            display_name="FantasyID Apply Identity",
            category=f"{types.CATEGORY}/identity",
            description="Inject an identity into every block of a CogVideoX-5B-I2V MODEL. The "
            "MODEL that comes in is not changed.",
            search_aliases=["identity", "face", "consistent character", "ip adapter"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="From Load FantasyID Model, or any CogVideoX-5B-I2V MODEL (LoRA, "
                    "fp8 and compiled ones too).",
                ),
                types.Adapter.Input("adapter", tooltip="From a FantasyID model or adapter loader."),
                types.Identity.Input("identity", tooltip="From FantasyID Fuse Identity."),
                inputs.share(
                    "strength",
                    1.0,
                    "How strongly the identity is injected. Higher is more alike and "
                    "stiffer, lower follows the prompt more; 1 is the released model, 0 is off.",
                    most=4.0,
                ),
                inputs.share(
                    "looks",
                    1.0,
                    "Share of the 36 face tokens (2D: skin, hair, expression of the "
                    "photo). Higher is closer to the photo, lower frees the expression; 1 is "
                    "released, 0 leaves the shape alone to work.",
                    most=4.0,
                    optional=True,
                ),
                inputs.share(
                    "shape",
                    1.0,
                    "Share of the 79 vertex tokens (3D: depth of the head). Higher holds "
                    "the head's form and pose more, lower frees it; 1 is released, 0 leaves the "
                    "looks alone to work.",
                    most=4.0,
                    optional=True,
                ),
                inputs.share(
                    "start_percent",
                    0.0,
                    "Where in the schedule the injection begins. Higher lets the prompt "
                    "lay out the scene first, at the cost of likeness; 0 is released, 0.1 to 0.2 "
                    "a fair try.",
                    step=0.01,
                    advanced=True,
                    optional=True,
                ),
                inputs.share(
                    "end_percent",
                    1.0,
                    "Where in the schedule the injection ends. Lower saves time and frees "
                    "the late details, higher holds them to the face; 1 is released, 0.8 a fair "
                    "try.",
                    step=0.01,
                    advanced=True,
                    optional=True,
                ),
                io.Combo.Input(
                    "branches",
                    advanced=True,
                    options=list(BRANCHES),
                    optional=True,
                    tooltip="Both is released: the identity cancels out of cfg. With conditional "
                    "only, a higher cfg strengthens the identity too; start with a lower cfg (3 "
                    "to 4).",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where the identity is injected, white is fully: an image-sized mask, "
                    "or one per frame; it is resampled, soft edges stay soft. For two people, one "
                    "Apply with a mask for each.",
                ),
                types.LayerWeights.Input(
                    "layer_weights",
                    optional=True,
                    tooltip="From FantasyID Layer Weights: a factor per block. Without it all "
                    "blocks get the strength, as released.",
                ),
                types.Curve.Input(
                    "strength_curve",
                    optional=True,
                    extra_dict=types.SOCKET_ONLY,
                    tooltip="From the Curve Editor node: a factor on strength from the first step "
                    "(left) to the last (right). Without it the strength is constant.",
                ),
                io.Boolean.Input(
                    "record",
                    advanced=True,
                    default=False,
                    optional=True,
                    tooltip="Measure at every step how much each block receives, for FantasyID "
                    "Injection Report. On costs a little time; start with off.",
                ),
            ],
            outputs=[io.Model.Output("model_out", display_name="model")],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        adapter: Any,
        identity: Any,
        strength: float,
        looks: float = 1.0,
        shape: float = 1.0,
        start_percent: float = 0.0,
        end_percent: float = 1.0,
        branches: str = BRANCHES[0],
        mask: Any = None,
        layer_weights: LayerWeights | None = None,
        strength_curve: Any = None,
        record: bool = False,
    ) -> io.NodeOutput:
        steering = Steering(
            strength, start_percent, end_percent, apply.curve_of(strength_curve), looks, shape,
            layer_weights, branches, mask,
        )  # fmt: skip
        patched = apply.apply_identity(model, adapter, identity, steering, record)
        text = apply.describe_application(model, adapter, identity, steering)
        return io.NodeOutput(patched, ui=messages.on_node(text))


class FantasyIDLayerWeights(io.ComfyNode):
    """How much each block receives."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDLayerWeights",
            display_name="FantasyID Layer Weights",
            category=f"{types.CATEGORY}/identity",
            description="A factor on the injection of each block of the transformer, for FantasyID "
            "Apply Identity.",
            search_aliases=["block weights", "layer weights", "likeness or motion"],
            inputs=[
                io.Combo.Input(
                    "preset",
                    options=list(PRESETS),
                    tooltip="A straight line from the first block to the last: likeness 1 to 1 "
                    "(released), balanced 0.6 to 1, motion 0.2 to 0.8, custom 0. FantasyID "
                    "Injection Report measures what each leaves with your weights.",
                ),
                io.String.Input(
                    "layers",
                    default="",
                    tooltip='Layers with a weight of their own, like "0-20, 25:0.5"; a layer '
                    "without a number gets 1. Higher follows the face more. They replace the "
                    "preset's; empty changes none. The released model has layers 0 to 41.",
                ),
                types.Curve.Input(
                    "depth_curve",
                    optional=True,
                    extra_dict=types.SOCKET_ONLY,
                    tooltip="From the Curve Editor node: a further factor from the first block "
                    "(left) to the last (right). Start without it.",
                ),
                io.Int.Input(
                    "share_layer",
                    advanced=True,
                    default=-1,
                    min=-1,
                    max=999,
                    optional=True,
                    tooltip="Give every block the injector of this one layer: a probe of this "
                    "project, no row of the paper. Higher takes a later layer; -1 is released: "
                    "each block its own. Start with -1.",
                ),
                io.String.Input(
                    "report",
                    default="",
                    optional=True,
                    force_input=True,
                    tooltip="The json of FantasyID Injection Report, of a run without layer "
                    "weights. With it balanced and motion hold back the blocks that moved most, in "
                    "place of a line: 80 % and 50 % of all that was injected stay.",
                ),
            ],
            outputs=[types.LayerWeights.Output("layer_weights", display_name="layer_weights")],
        )

    @classmethod
    def validate_inputs(cls, layers: str) -> bool | str:
        return validate_layers(layers) or True

    @classmethod
    def execute(
        cls,
        preset: str,
        layers: str,
        depth_curve: Any = None,
        share_layer: int = OWN,
        report: str = "",
    ) -> io.NodeOutput:
        measured = measured_layers(report) if report.strip() else ()
        weights = LayerWeights(preset, layers, apply.curve_of(depth_curve), share_layer, measured)
        return io.NodeOutput(weights)
