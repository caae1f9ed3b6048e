"""The token stages: CLIP face abstraction and the fusion transformer."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..fantasyid import combine
from ..fantasyid.comfyui import images, messages, stages
from . import inputs, types


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
                inputs.face(
                    "The aligned face, or an image that is already a face crop. A batch of "
                    "crops gives the tokens of each, for FantasyID Combine References."
                ),
            ],
            outputs=[types.FaceTokens.Output("face_tokens", display_name="face tokens")],
        )

    @classmethod
    def execute(cls, face_encoder: Any, adapter: Any, face: Any) -> io.NodeOutput:
        crops = images.as_face_crops(face)
        return io.NodeOutput(stages.compute_face_tokens(face_encoder, adapter, crops))


class FantasyIDCombine(io.ComfyNode):
    """Several references of one person."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        more = [
            types.FaceTokens.Input(
                f"face_tokens_{number}",
                optional=True,
                tooltip="Face tokens of more crops of the same person.",
            )
            for number in (2, 3, 4)
        ]
        return io.Schema(
            node_id="FantasyIDCombine",
            display_name="FantasyID Combine References",
            category=f"{types.CATEGORY}/identity",
            description="Make one set of face tokens from several crops of the same person, such "
            "as the views of a clip.",
            search_aliases=["multi view", "average face", "several photos", "identity"],
            inputs=[
                types.FaceTokens.Input(
                    "face_tokens",
                    tooltip="From FantasyID Face Tokens; a batch of crops there gives several "
                    "references here.",
                ),
                io.Combo.Input(
                    "mode",
                    options=list(combine.MODES),
                    default=combine.NORM_PRESERVING,
                    tooltip="mean: token by token; tokens that disagree get shorter and weaker. "
                    "norm-preserving mean: the same, with the length they had. weighted: the mean "
                    "with the weights below. concatenated: all tokens of all crops, 36 each; the "
                    "released training saw 36 tokens of one crop, so this is outside of what the "
                    "network knows.",
                ),
                io.String.Input(
                    "weights",
                    default="",
                    optional=True,
                    tooltip='For "weighted": one number per reference, in order, "1, 0.5, 2". Only '
                    "their ratios count.",
                ),
                *more,
            ],
            outputs=[types.FaceTokens.Output("combined", display_name="face tokens")],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls,
        face_tokens: Any,
        mode: str,
        weights: str = "",
        face_tokens_2: Any = None,
        face_tokens_3: Any = None,
        face_tokens_4: Any = None,
    ) -> io.NodeOutput:
        more = [t for t in (face_tokens_2, face_tokens_3, face_tokens_4) if t is not None]
        given = [face_tokens, *more]
        combined = stages.combine_face_tokens(given, mode, weights)
        words = stages.describe_combination(given, combined, mode)
        return io.NodeOutput(combined, ui=messages.on_node(words))


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
            has_intermediate_output=True,
        )

    @classmethod
    def execute(cls, adapter: Any, face_tokens: Any, geometry: Any) -> io.NodeOutput:
        identity = stages.fuse(adapter, face_tokens, geometry)
        shown = messages.on_node(stages.describe_identity(identity))
        return io.NodeOutput(identity, ui=shown)
