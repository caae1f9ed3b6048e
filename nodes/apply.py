"""Identity into the model, face into the image-to-video channels."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..fantasyid.host import cogvideox, latents, messages
from . import types


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
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=4.0,
                    step=0.05,
                    tooltip="How strongly the identity is injected. Higher is more alike and "
                    "stiffer, lower follows the prompt more; 1 is the released model, 0 is off.",
                ),
            ],
            outputs=[io.Model.Output("model_out", display_name="model")],
            hidden=[io.Hidden.unique_id],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(cls, model: Any, adapter: Any, identity: Any, strength: float) -> io.NodeOutput:
        patched = cogvideox.apply_identity(model, adapter, identity, strength)
        text = cogvideox.describe_application(model, adapter, identity, strength)
        return io.NodeOutput(patched, ui=messages.on_node(text, cls.hidden.unique_id))


class FantasyIDFaceLatent(io.ComfyNode):
    """The face as first image of the I2V channels."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDFaceLatent",
            display_name="FantasyID Face Latent",
            category=f"{types.CATEGORY}/sampling",
            description="Encode the face crop into the image channels of the first latent frame, "
            "as released, and make the empty latent video of the same size.",
            search_aliases=["image to video", "cogvideox i2v", "empty latent video"],
            inputs=[
                io.Conditioning.Input("positive", tooltip="The encoded prompt."),
                io.Conditioning.Input(
                    "negative", tooltip="The encoded negative prompt; the released one is empty."
                ),
                io.Vae.Input("vae", tooltip="The CogVideoX VAE."),
                io.MultiType.Input(
                    "face",
                    types=[types.Face, io.Image],
                    tooltip="The aligned face. It is stretched to the size of the video, as in "
                    "the released pipeline.",
                ),
                io.Int.Input(
                    "width",
                    default=720,
                    min=16,
                    max=2048,
                    step=16,
                    tooltip="Width of the video in pixels, a multiple of 16. The model was "
                    "trained at 720.",
                ),
                io.Int.Input(
                    "height",
                    default=480,
                    min=16,
                    max=2048,
                    step=16,
                    tooltip="Height of the video in pixels, a multiple of 16. The model was "
                    "trained at 480.",
                ),
                io.Int.Input(
                    "length",
                    default=49,
                    min=1,
                    max=1021,
                    step=4,
                    tooltip="Frames of the video, 4 k + 1. The model was trained at 49 (6 seconds "
                    "at 8 frames per second); more needs Context Windows (Manual) on the model, "
                    "set as the help page says.",
                ),
            ],
            outputs=[
                io.Conditioning.Output("positive_out", display_name="positive"),
                io.Conditioning.Output("negative_out", display_name="negative"),
                io.Latent.Output("latent", display_name="latent"),
            ],
        )

    @classmethod
    def validate_inputs(cls, width: int, height: int, length: int) -> bool | str:
        return latents.why_impossible_size(width, height, length) or True

    @classmethod
    def execute(
        cls,
        positive: Any,
        negative: Any,
        vae: Any,
        face: Any,
        width: int,
        height: int,
        length: int,
    ) -> io.NodeOutput:
        return io.NodeOutput(
            *latents.face_latent(positive, negative, vae, face, width, height, length)
        )
