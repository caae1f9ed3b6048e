"""The face stage: a photo becomes an aligned crop."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..fantasyid.face import align, faces
from ..fantasyid.host import files, images, messages
from . import types


class FantasyIDAlignFace(io.ComfyNode):
    """Find a face and align it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDAlignFace",
            display_name="FantasyID Align Face",
            category=f"{types.CATEGORY}/face",
            description="Find the face in a photo and cut the upright 512x512 crop that the model "
            "was trained on. The picture on the node shows every face with its number.",
            search_aliases=["face crop", "face detect", "align face", "identity"],
            inputs=[
                io.Image.Input("image", tooltip="One photo of the person, any size."),
                io.Combo.Input(
                    "detector",
                    options=list(align.DETECTORS),
                    tooltip="Who finds the face when nothing is connected below. auto takes "
                    "insightface when it is installed with its models, else the built-in cascade, "
                    "which needs no model file but gives a box without points.",
                ),
                io.Combo.Input(
                    "choose",
                    options=list(faces.RULES),
                    tooltip="The order in which faces are counted when there are several. "
                    "nearest centre is what the released pipeline does.",
                ),
                io.Int.Input(
                    "index",
                    default=0,
                    min=0,
                    max=99,
                    tooltip="Which face in that order; 0 is the first. Higher numbers take the "
                    "next faces.",
                ),
                io.Combo.Input(
                    "no_face",
                    options=list(align.NO_FACE_POLICIES),
                    tooltip="What to do when no face is found: stop with the reason, or go on and "
                    "make the video without an identity (the nodes say so).",
                ),
                io.String.Input(
                    "points",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="Five points by hand, in pixels of the photo: left eye, right eye, "
                    'nose tip, left and right mouth corner as you see them, "x,y x,y x,y x,y '
                    'x,y". Wins over every detector.',
                ),
                types.FaceLandmarks.Input(
                    "face_landmarks",
                    optional=True,
                    tooltip="From ComfyUI's MediaPipe Face Landmarker node: exact points without "
                    "any extra package. Wins over boxes and detector.",
                ),
                io.BoundingBox.Input(
                    "boxes",
                    optional=True,
                    force_input=True,
                    tooltip="Bounding boxes from any ComfyUI detector; the five points are "
                    "estimated from the box. Wins over the detector.",
                ),
            ],
            outputs=[
                types.Face.Output("face", display_name="face"),
                io.Image.Output("crop", display_name="crop"),
                io.BoundingBox.Output("found", display_name="boxes"),
                io.Image.Output("preview", display_name="preview"),
                io.String.Output("report", display_name="report"),
            ],
            hidden=[io.Hidden.unique_id],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls,
        image: Any,
        detector: str,
        choose: str,
        index: int,
        no_face: str,
        points: str = "",
        face_landmarks: Any = None,
        boxes: Any = None,
    ) -> io.NodeOutput:
        folders = files.insightface_folders()
        sources = align.FaceSources(points, face_landmarks, boxes, detector, folders)
        found = align.align_face(images.one_photo(image), sources, choose, index, no_face)
        shown = messages.on_node(found.message, cls.hidden.unique_id, found.preview, cls)
        crop = images.crop_or_blank(found.crop)
        boxes_out = images.as_bounding_boxes(found.faces)
        return io.NodeOutput(found.crop, crop, boxes_out, found.preview, found.message, ui=shown)
