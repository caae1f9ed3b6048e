"""The bundled mini model: the whole graph without a download."""

from __future__ import annotations

from comfy_api.latest import io

from ..fantasyid.comfyui import miniature
from . import types


class FantasyIDMiniLoader(io.ComfyNode):
    """Load the bundled mini model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDMiniLoader",
            display_name="Load FantasyID Mini Model",
            category=f"{types.CATEGORY}/loaders",
            description="Load the mini model that comes with this pack: small enough for a "
            "processor, trained on drawn people. It shows in a minute what every node does. For "
            "real people take the released files.",
            search_aliases=["try", "demo", "example", "FantasyID", "mini", "no download"],
            inputs=[
                io.Combo.Input(
                    "person",
                    options=miniature.people(),
                    tooltip="Whose photo comes out of the face output: drawn people whom the "
                    "training has never seen. Any face from FantasyID Align Face will do instead, "
                    "but the mini model knows drawn people only.",
                ),
            ],
            outputs=[
                io.Model.Output("model", display_name="model"),
                types.Adapter.Output("adapter", display_name="adapter"),
                io.Clip.Output("clip", display_name="clip"),
                io.Vae.Output("vae", display_name="vae"),
                types.FaceEncoder.Output("face_encoder", display_name="face encoder"),
                types.Deca.Output("head_model", display_name="head model"),
                types.Face.Output("face", display_name="face"),
                io.Image.Output("photo", display_name="photo"),
            ],
        )

    @classmethod
    def execute(cls, person: str) -> io.NodeOutput:
        loaded, face = miniature.load_miniature(), miniature.photo_of(person)
        return io.NodeOutput(
            loaded.model,
            loaded.adapter,
            loaded.clip,
            loaded.vae,
            loaded.face_encoder,
            loaded.head_model,
            face,
            face.images,
        )
