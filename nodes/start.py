"""The short way: two nodes in place of the stages, which they call."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..fantasyid.comfyui import files, from_photo, images, messages, stages, weights
from ..fantasyid.comfyui.detectors import face_sources, words_of_loader
from ..fantasyid.face import align, faces, sources
from . import inputs, types
from .loaders import WEIGHT_DTYPES

SLOTS = {
    "model": files.MODEL,
    "text_encoder": files.TEXT_ENCODER,
    "vae": files.VAE,
    "face_encoder": files.FACE_ENCODER,
    "deca": files.DECA,
    "flame": files.FLAME,
    "mesh_transforms": files.MESH_TRANSFORMS,
}
TOOLTIPS = {
    "model": "Folder or file of the FantasyID model, in models/fantasyid: about 13 GB, and the "
    "identity adapter is in it.",
    "text_encoder": "T5-XXL, in models/text_encoders. fp16 is 9.8 GB; fp8 is half of it and "
    "changes the video slightly.",
    "vae": "The CogVideoX VAE, in models/vae.",
    "face_encoder": "EVA02_CLIP_L_336_psz14_s6B.pt, in models/fantasyid: reads the looks of the "
    "face.",
    "deca": "deca_model.tar, in models/fantasyid: reads the 3D shape of the head. To be had after "
    "a registration, for non-commercial use.",
    "flame": "generic_model.pkl of FLAME 2020, in models/fantasyid: the head model. To be had "
    "after a registration, for non-commercial use.",
    "mesh_transforms": "transform.pkl, in models/fantasyid: how the head mesh is coarsened.",
}


class FantasyIDLoader(io.ComfyNode):
    """All models at once."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDLoader",
            display_name="Load FantasyID (all in one)",
            category=types.CATEGORY,
            description="Load everything that a video from a photo takes: the model with its "
            "identity adapter, text encoder, VAE, face encoder and head model. What is missing "
            "is said in one message, each file with its name, its folder and its source.",
            search_aliases=["face", "identity", "ip adapter", "photo to video", "loader"],
            inputs=[
                *(inputs.file(name, kind, TOOLTIPS[name]) for name, kind in SLOTS.items()),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(WEIGHT_DTYPES),
                    tooltip="How the transformer is kept in memory. Start with default; take "
                    "fp8_e4m3fn on cards with 12 GB or less.",
                ),
            ],
            outputs=[
                io.Model.Output("model_out", display_name="model"),
                io.Clip.Output("clip", display_name="clip"),
                io.Vae.Output("vae_out", display_name="vae"),
                types.Adapter.Output("adapter", display_name="adapter"),
                types.FaceEncoder.Output("encoder", display_name="face encoder"),
                types.Deca.Output("head_model", display_name="head model"),
            ],
            has_intermediate_output=True,
        )

    @classmethod
    def validate_inputs(cls, **_names: str) -> bool:
        return True  # the host would repeat a text for every file: `execute` says it once

    @classmethod
    def fingerprint_inputs(cls, weight_dtype: str, **names: str) -> str:
        return files.fingerprint(*((SLOTS[key], names[key]) for key in SLOTS)) + weight_dtype

    @classmethod
    def execute(cls, weight_dtype: str, **names: str) -> io.NodeOutput:
        found = files.find_all(*((kind, names[key]) for key, kind in SLOTS.items()))
        paths = dict(zip(SLOTS, found, strict=True))
        dtype = WEIGHT_DTYPES[weight_dtype]
        options = {} if dtype is None else {"dtype": dtype}
        model, adapter = weights.load_model(paths["model"], paths["mesh_transforms"], options)
        return io.NodeOutput(
            model,
            weights.load_text_encoder(paths["text_encoder"]),
            weights.load_vae(paths["vae"]),
            adapter,
            weights.load_face_encoder(paths["face_encoder"]),
            weights.load_deca(paths["deca"], paths["flame"]),
            ui=messages.on_node(words_of_loader()),
        )


class FantasyIDFromPhoto(io.ComfyNode):
    """Photo to identity."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDFromPhoto",
            display_name="FantasyID Identity from Photo",
            category=types.CATEGORY,
            description="From one photo of a person, or several, to the identity and the aligned "
            "face: find the face, read its looks and the 3D shape of the head, fuse them. The "
            "picture on the node shows which face was taken, and who found it.",
            search_aliases=[
                "face", "identity", "ip adapter", "photo to video", "reference face",
                "consistent character", "talking person",
            ],
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="A photo of the person in which the face is large and seen from the "
                    "front; or a batch of photos of the same person, which are averaged.",
                ),
                types.Adapter.Input("adapter", tooltip="From Load FantasyID (all in one)."),
                types.FaceEncoder.Input(
                    "face_encoder", tooltip="From Load FantasyID (all in one)."
                ),
                types.Deca.Input("head_model", tooltip="From Load FantasyID (all in one)."),
                io.Combo.Input(
                    "choose",
                    options=list(faces.RULES),
                    tooltip="The order in which faces are counted when there are several; the "
                    "numbers in the picture count from the left.",
                ),
                io.Int.Input(
                    "index",
                    default=0,
                    min=0,
                    max=99,
                    tooltip="Which face in that order; 0 is the first.",
                ),
                io.Combo.Input(
                    "head",
                    options=[stages.AS_RELEASED, stages.NEUTRAL],
                    tooltip="as released: the head in the pose and with the expression of the "
                    "photo, which the video then tends to keep. neutral: its shape alone, as the "
                    "paper describes. Start with as released.",
                ),
                io.Combo.Input(
                    "no_face",
                    options=list(align.NO_FACE_POLICIES),
                    tooltip="What to do when no face is found: stop with the reason, or go on and "
                    "make the video without an identity (the nodes say so).",
                ),
                io.Combo.Input(
                    "detector",
                    options=list(sources.DETECTORS),
                    optional=True,
                    advanced=True,
                    tooltip="Who finds the face. auto takes the best that is there; the node says "
                    "which it was, and what would be better.",
                ),
                io.Custom("FACE_DETECTION_MODEL").Input(
                    "face_detection_model",
                    optional=True,
                    tooltip="From ComfyUI's Load Face Detection Model (MediaPipe): exact points. "
                    "Wins over the detector above.",
                ),
            ],
            outputs=[
                types.Identity.Output("identity", display_name="identity"),
                types.Face.Output(
                    "face", display_name="face", tooltip="The first face found, for Face Latent."
                ),
                io.Image.Output("crop", display_name="crop", tooltip="That face as an image."),
                io.Image.Output(
                    "preview", display_name="preview", tooltip="Photo with boxes, and crop."
                ),
                io.String.Output("report", display_name="report"),
            ],
            has_intermediate_output=True,
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        image: Any,
        adapter: Any,
        face_encoder: Any,
        head_model: Any,
        choose: str,
        index: int,
        head: str,
        no_face: str,
        detector: str = "auto",
        face_detection_model: Any = None,
    ) -> io.NodeOutput:
        parts = from_photo.Parts(adapter, face_encoder, head_model)
        given = face_sources(detector, face_detection_model)
        choice = align.FaceChoice(choose, index)
        identity, face, words, shown = from_photo.identity_from_photos(
            image, parts, given, choice, no_face, head
        )
        ui = messages.on_node(words, shown.picture, cls)
        ui["faces"] = shown.faces
        crop = images.crop_or_black(face)
        return io.NodeOutput(identity, face, crop, shown.picture, words, ui=ui)
