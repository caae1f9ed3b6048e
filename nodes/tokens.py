"""The token stages: CLIP face abstraction and the fusion transformer."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..fantasyid.host import messages, stages
from . import types


class FantasyIDFaceTokens(io.ComfyNode):
    """CLIP face abstraction."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDFaceTokens",
            display_name="FantasyID Face Tokens (CLIP)",
            category=f"{types.CATEGORY}/identity",
            description="Read the looks of the face: EVA02-CLIP features, condensed by the "
            "C-Abstractor into 36 tokens.",
            search_aliases=["face embedding", "clip face", "identity"],
            inputs=[
                types.FaceEncoder.Input(
                    "face_encoder", tooltip="From Load FantasyID Face Encoder."
                ),
                types.Adapter.Input("adapter", tooltip="From a FantasyID model or adapter loader."),
                io.MultiType.Input(
                    "face",
                    types=[types.Face, io.Image],
                    tooltip="The aligned face, or an image that is already a face crop.",
                ),
            ],
            outputs=[types.FaceTokens.Output("face_tokens", display_name="face tokens")],
        )

    @classmethod
    def execute(cls, face_encoder: Any, adapter: Any, face: Any) -> io.NodeOutput:
        return io.NodeOutput(stages.compute_face_tokens(face_encoder, adapter, face))


class FantasyIDFuse(io.ComfyNode):
    """Fusion transformer."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDFuse",
            display_name="FantasyID Fuse Identity",
            category=f"{types.CATEGORY}/identity",
            description="Fuse looks and 3D shape in the fusion transformer: 36 face tokens and 79 "
            "vertex tokens, the identity that is injected into every block.",
            search_aliases=["identity", "fusion transformer", "consistent character"],
            inputs=[
                types.Adapter.Input("adapter", tooltip="From a FantasyID model or adapter loader."),
                types.FaceTokens.Input("face_tokens", tooltip="From FantasyID Face Tokens."),
                types.Geometry.Input(
                    "geometry", tooltip="From FantasyID Face Vertices or Load FantasyID Vertices."
                ),
            ],
            outputs=[types.Identity.Output("identity", display_name="identity")],
            hidden=[io.Hidden.unique_id],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(cls, adapter: Any, face_tokens: Any, geometry: Any) -> io.NodeOutput:
        identity = stages.fuse(adapter, face_tokens, geometry)
        shown = messages.on_node(stages.describe_identity(identity), cls.hidden.unique_id)
        return io.NodeOutput(identity, ui=shown)
