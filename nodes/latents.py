"""The face into the image-to-video channels, and pixels out of the latent video."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..fantasyid.comfyui import decode, images, latents, messages
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


class FantasyIDDecode(io.ComfyNode):
    """Pixels of a sampled latent video, as the released pipeline decodes it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDDecode",
            display_name="FantasyID Decode",
            category=f"{types.CATEGORY}/sampling",
            description="Decode a latent video in the steps of the released pipeline. VAE Decode "
            "takes other steps and gives other pixels.",
            search_aliases=["vae decode", "vae decode tiled", "latent to video"],
            inputs=[
                io.Latent.Input(
                    "samples",
                    tooltip="A sampled video: 1, 3, 5, ... latent frames, one batch row per video.",
                ),
                io.Vae.Input("vae", tooltip="The CogVideoX VAE. It is used as it is."),
                io.Combo.Input(
                    "tiles",
                    options=list(decode.TILES),
                    tooltip="auto: the whole picture at once, as released, where the memory is "
                    "enough, else in four parts that overlap. never: rather fail. always: save "
                    "memory. Parts give other pixels than the whole, and the node says so.",
                ),
            ],
            outputs=[io.Image.Output("images", display_name="images")],
        )

    @classmethod
    def execute(cls, samples: Any, vae: Any, tiles: str) -> io.NodeOutput:
        images, tiled = decode.decode_as_released(samples["samples"], vae, tiles)
        if not tiled:
            return io.NodeOutput(images)
        return io.NodeOutput(images, ui=messages.on_node(decode.TILED))
