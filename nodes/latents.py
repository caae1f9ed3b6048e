"""The face into the image-to-video channels."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..fantasyid.comfyui import images, latents
from . import inputs, types


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
                inputs.face(
                    "The aligned face. It is stretched to the size of the video, as in "
                    "the released pipeline."
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
                    max=1017,
                    step=8,
                    tooltip="Frames of the video, 8 k + 1. The model was trained at 49 (6 seconds "
                    "at 8 frames per second); more needs Context Windows (Manual) on the model, "
                    "set as the help page says.",
                ),
                io.Image.Input(
                    "start_image",
                    optional=True,
                    tooltip="A picture or a clip that the video starts from, in place of the face "
                    "crop; the identity still comes through Apply. The more frames, the more of "
                    "the video is given. The released training saw face crops only: start "
                    "without it.",
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
        return latents.validate_size(width, height, length) or True

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
        start_image: Any = None,
    ) -> io.NodeOutput:
        crops = images.as_face_crops(face)
        return io.NodeOutput(
            *latents.face_latent(positive, negative, vae, crops, width, height, length, start_image)
        )
