"""The face stage: photos and clips become aligned crops."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..fantasyid.comfyui import collect, images, messages
from ..fantasyid.comfyui.detectors import face_sources
from ..fantasyid.face import align, faces
from ..fantasyid.face.given import faces_from_boxes
from ..fantasyid.views.collect import ViewRules
from . import inputs, types


class FantasyIDAlignFace(io.ComfyNode):
    """Find a face and align it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDAlignFace",
            display_name="FantasyID Align Face",
            category=f"{types.CATEGORY}/face",
            description="Find the face in a photo and cut the upright 512x512 crop that the model "
            "was trained on. The picture on the node shows every face with its number, and the "
            "crop beside it. A batch of photos gives a batch of crops.",
            search_aliases=["face crop", "face detect", "align face", "identity"],
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="One photo of the person, any size; or several, or the frames of a "
                    "clip.",
                ),
                inputs.detector(
                    "Who finds the face when nothing is connected below. auto takes "
                    "YuNet where its file is, else ComfyUI's MediaPipe model where that is, else "
                    "insightface when it is installed with its models, else its SCRFD file, else "
                    "the built-in cascade, which needs no model file but gives a box without "
                    "points. Where no face is upright, the photo is turned and searched again."
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
                    tooltip="What to do when no face is found: stop with the reason; go on and "
                    "make the video without an identity (the nodes say so; in a batch the crop is "
                    "black); or leave that image of a batch out.",
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
                inputs.face_model(
                    "From ComfyUI's Load Face Detection Model (MediaPipe): finds exact "
                    "points on every image at any tilt. Wins over the detector above."
                ),
                io.BoundingBox.Input(
                    "choose_box",
                    optional=True,
                    force_input=True,
                    tooltip="Take the face that overlaps this box most, instead of counting. "
                    "Unlike boxes it only chooses: the points still come from the detector.",
                ),
                io.Float.Input(
                    "padding",
                    default=1.0,
                    min=0.5,
                    max=3.0,
                    step=0.05,
                    optional=True,
                    advanced=True,
                    tooltip="How much the crop shows: 1 is the released crop, 2 shows twice as "
                    "much to each side. The networks know 1 only.",
                ),
                io.Boolean.Input(
                    "follow",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="For the frames of a clip: stay with the face that was taken in the "
                    "frame before, whatever the rule says.",
                ),
            ],
            outputs=[
                types.Face.Output(
                    "face", display_name="face", tooltip="The first face found in the batch."
                ),
                io.Image.Output("crop", display_name="crop"),
                io.BoundingBox.Output(
                    "found", display_name="boxes", tooltip="All faces of every image."
                ),
                io.Image.Output("preview", display_name="preview"),
                io.String.Output("report", display_name="report"),
            ],
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
        face_detection_model: Any = None,
        choose_box: Any = None,
        padding: float = 1.0,
        follow: bool = False,
    ) -> io.NodeOutput:
        given = face_sources(detector, face_detection_model, points, face_landmarks, boxes)
        region = faces_from_boxes(choose_box)
        choice = align.FaceChoice(choose, index, region[0].box if region else None, follow, padding)
        *found, message, shown = images.align_images(image, given, choice, no_face)
        ui = messages.on_node(message, shown.picture, cls)
        ui["faces"] = shown.faces
        return io.NodeOutput(*found, message, ui=ui)


class FantasyIDMultiView(io.ComfyNode):
    """Views of one person from a clip."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDMultiView",
            display_name="FantasyID Collect Views",
            category=f"{types.CATEGORY}/face",
            description="Go through a clip or a folder of photos and keep the views of one person "
            "that differ most in head pose. One frame or photo is in memory at a time: more of "
            "them cost time, not memory.",
            search_aliases=["multi view", "head pose", "yaw pitch roll", "folder", "identity"],
            inputs=[
                io.MultiType.Input(
                    "clip",
                    types=[io.Video, io.Image],
                    optional=True,
                    tooltip="A video in which the person turns the head, or its frames as images. "
                    "For photos that were taken apart give a folder below instead.",
                ),
                inputs.detector(
                    "Who looks for the face, in every photo or every eighth frame; in "
                    "between it is followed. scrfd needs onnxruntime alone. The cascade sees "
                    "upright frontal faces: the angles are counted from where the head looked "
                    "when it was found."
                ),
                io.Int.Input(
                    "views",
                    default=6,
                    min=1,
                    max=16,
                    tooltip="How many views to keep; the paper keeps 6. The most frontal one is "
                    "always among them.",
                ),
                io.Combo.Input(
                    "choose",
                    options=list(faces.RULES),
                    default="largest",
                    tooltip="Which face is followed when several are there at the start of a shot.",
                ),
                io.Combo.Input(
                    "no_face",
                    options=[align.STOP, align.CONTINUE],
                    tooltip="What to do when the clip has no good view: stop with the reason, or "
                    "go on with an empty face (the nodes say so).",
                ),
                io.Int.Input(
                    "least_face",
                    default=96,
                    min=16,
                    max=2048,
                    optional=True,
                    advanced=True,
                    tooltip="Faces smaller than this, in pixels from brow to chin, are left out.",
                ),
                inputs.share(
                    "least_sharpness",
                    0.004,
                    "Views less sharp than this are left out; the report names the "
                    "sharpness of each view. 0 keeps all.",
                    step=0.001,
                    round=0.0001,
                    optional=True,
                    advanced=True,
                ),
                inputs.share(
                    "most_covered",
                    0.55,
                    "Views in which more of the face than this has colours unlike its "
                    "usual ones are left out as covered: masks, microphones, dark glasses, but "
                    "not bare hands. 1 keeps all.",
                    optional=True,
                    advanced=True,
                ),
                inputs.face_model(
                    "From ComfyUI's Load Face Detection Model (MediaPipe): exact points, "
                    "also of turned heads. Wins over the detector above."
                ),
                io.String.Input(
                    "folder",
                    default="",
                    optional=True,
                    tooltip="A folder of photos of one person, in place of the clip: below "
                    "ComfyUI's input folder, or a whole path. Every photo is searched by itself. "
                    "Start with ten to thirty; more cost time only. Leave it empty for a clip.",
                ),
            ],
            outputs=[
                types.Face.Output(
                    "face", display_name="face", tooltip="The most frontal view with its frame."
                ),
                io.Image.Output("crops", display_name="crops", tooltip="The views, by yaw."),
                io.Image.Output("sheet", display_name="sheet"),
                io.String.Output("report", display_name="report"),
            ],
            has_intermediate_output=True,
        )

    @classmethod
    def validate_inputs(cls, folder: str | None = "") -> bool | str:
        return collect.validate_folder(folder)

    @classmethod
    def fingerprint_inputs(cls, folder: str | None = "", **_others: Any) -> str:
        return collect.folder_fingerprint(folder)

    @classmethod
    def execute(
        cls,
        detector: str,
        views: int,
        choose: str,
        no_face: str,
        clip: Any = None,
        least_face: int = 96,
        least_sharpness: float = 0.004,
        most_covered: float = 0.55,
        face_detection_model: Any = None,
        folder: str = "",
    ) -> io.NodeOutput:
        given = face_sources(detector, face_detection_model)
        rules = ViewRules(views, choose, least_face, least_sharpness, most_covered)
        *found, sheet, message = collect.collect_views(clip, folder, given, rules, no_face)
        ui = messages.on_node(message, sheet, cls)
        return io.NodeOutput(*found, sheet, message, ui=ui)
