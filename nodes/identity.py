"""Identities as files: save, load, blend, look inside."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..fantasyid.comfyui import files, identities, messages
from . import inputs, types


class FantasyIDSaveIdentity(io.ComfyNode):
    """An identity to disk."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDSaveIdentity",
            display_name="Save FantasyID Identity",
            category=f"{types.CATEGORY}/identity",
            description="Write an identity to the output folder: tokens, head, thumbnail, and "
            "which weights and photo it was made with. Load FantasyID Identity gives the same "
            "video from it, without the photo, the face encoder and DECA.",
            search_aliases=["save face", "export identity", "face embedding", "character file"],
            is_output_node=True,
            inputs=[
                types.Identity.Input(
                    "identity", tooltip="From FantasyID Fuse Identity or Blend Identities."
                ),
                io.String.Input(
                    "filename_prefix",
                    default="fantasyid/identity",
                    tooltip="Name before the number, in the output folder; a / makes a subfolder.",
                ),
                io.String.Input(
                    "note",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="Whose face it is, under which licence, and who consented to what. It "
                    "travels in the file as it stands here. Empty keeps the note that the "
                    "identity carries.",
                ),
            ],
            outputs=[io.String.Output("path", display_name="path")],
        )

    @classmethod
    def execute(cls, identity: Any, filename_prefix: str, note: str = "") -> io.NodeOutput:
        path = identities.save_identity(identity, filename_prefix, note)
        shown = messages.on_node(f"Identity saved as {path}.")
        return io.NodeOutput(str(path), ui={**shown, "identities": [files.saved_file(path)]})


class FantasyIDLoadIdentity(io.ComfyNode):
    """An identity from disk."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDLoadIdentity",
            display_name="Load FantasyID Identity",
            category=f"{types.CATEGORY}/identity",
            description="Load an identity that was saved, from the output or the input folder. No "
            "photo, face encoder or DECA is needed.",
            search_aliases=["load face", "import identity", "face embedding", "character file"],
            inputs=[
                inputs.file(
                    "file",
                    files.IDENTITY,
                    "An identity file (.safetensors); [output] marks those of the output "
                    "folder. Press R after adding one.",
                ),
                types.Adapter.Input(
                    "adapter",
                    optional=True,
                    tooltip="Connect it to hear at once when the file was made with another "
                    "adapter. It also gives the head its triangles, to show it as a mesh.",
                ),
                types.FaceEncoder.Input(
                    "face_encoder",
                    optional=True,
                    tooltip="Connect it to make sure that the file was made with this face "
                    "encoder too. The video does not need it.",
                ),
            ],
            outputs=[types.Identity.Output("identity", display_name="identity")],
            has_intermediate_output=True,
        )

    @classmethod
    def validate_inputs(cls, file: str) -> bool | str:
        return files.validate_files((files.IDENTITY, file))

    @classmethod
    def fingerprint_inputs(cls, file: str, **_links: Any) -> str:
        return files.fingerprint((files.IDENTITY, file))

    @classmethod
    def execute(cls, file: str, adapter: Any = None, face_encoder: Any = None) -> io.NodeOutput:
        identity = identities.load_identity(file, adapter, face_encoder)
        words, picture = identities.inspect(identity), identities.thumbnail_of(identity)
        shown = messages.on_node(words, picture, cls)
        return io.NodeOutput(identity, ui=shown)


class FantasyIDBlendIdentities(io.ComfyNode):
    """Looks and shape, each between two people."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDBlendIdentities",
            display_name="FantasyID Blend Identities",
            category=f"{types.CATEGORY}/identity",
            description="Make an identity between two: looks (face tokens) and 3D shape (head and "
            "vertex tokens) are blended apart. Looks 0 and shape 1 is the looks of A on the shape "
            "of B.",
            search_aliases=["mix faces", "merge identities", "morph", "interpolate faces"],
            inputs=[
                types.Identity.Input("identity_a", tooltip="What 0 gives, exactly."),
                types.Identity.Input("identity_b", tooltip="What 1 gives, exactly."),
                inputs.share(
                    "looks",
                    0.5,
                    "Face tokens: higher has more of B's looks. Each token keeps the "
                    "length that lies between the two, so the middle is not weaker. Start with "
                    "0.5.",
                ),
                inputs.share(
                    "shape",
                    0.5,
                    "3D shape: higher has more of B's head. Without an adapter the vertex "
                    "tokens are blended like the face tokens. Start with 0.5.",
                ),
                types.Adapter.Input(
                    "adapter",
                    optional=True,
                    tooltip="Where both identities have a head, the heads are blended vertex by "
                    "vertex and fused anew with the blended looks, as the network was trained. "
                    "Without it tokens are blended, which needs no model.",
                ),
            ],
            outputs=[types.Identity.Output("identity", display_name="identity")],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls, identity_a: Any, identity_b: Any, looks: float, shape: float, adapter: Any = None
    ) -> io.NodeOutput:
        blended, words = identities.blend(identity_a, identity_b, looks, shape, adapter)
        return io.NodeOutput(blended, ui=messages.on_node(words))


class FantasyIDInspectIdentity(io.ComfyNode):
    """What an identity holds."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDInspectIdentity",
            display_name="FantasyID Inspect Identity",
            category=f"{types.CATEGORY}/identity",
            description="Say what is in an identity: sizes, head, photo, weights, note. Its parts "
            "come out too, to edit the head or combine the looks and fuse them anew.",
            search_aliases=["identity info", "metadata", "consent", "licence"],
            is_output_node=True,
            inputs=[types.Identity.Input("identity", tooltip="An identity from any node or file.")],
            outputs=[
                io.Image.Output("thumbnail", display_name="thumbnail"),
                io.String.Output("report", display_name="report"),
                types.FaceTokens.Output("face_tokens", display_name="face tokens"),
                types.Geometry.Output("geometry", display_name="geometry"),
            ],
        )

    @classmethod
    def execute(cls, identity: Any) -> io.NodeOutput:
        words, picture = identities.inspect(identity), identities.thumbnail_of(identity)
        tokens, head = identities.face_tokens_of(identity), identities.geometry_of(identity)
        shown = messages.on_node(words, picture, cls)
        return io.NodeOutput(picture, words, tokens, head, ui=shown)
