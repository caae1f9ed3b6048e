"""The evaluation stage: how like, how steady, how alive a video is."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..fantasyid.comfyui import compare, messages, metrics
from ..fantasyid.comfyui.detectors import face_sources
from ..fantasyid.face import faces
from . import inputs, types


class FantasyIDMetrics(io.ComfyNode):
    """RS, IFS, FM and FID of a clip."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDMetrics",
            display_name="FantasyID Metrics",
            category=f"{types.CATEGORY}/evaluate",
            description="Measure a video as the paper does: RS (likeness to the reference), IFS "
            "(steadiness from frame to frame), FM (motion of the face), and FID of the face crops. "
            "The clip is read frame by frame. The node names the licence of the face recogniser.",
            search_aliases=["evaluate", "arcface", "face similarity", "optical flow", "FID", "RS"],
            inputs=[
                io.MultiType.Input(
                    "clip",
                    types=[io.Video, io.Image],
                    tooltip="The video to measure, or its frames.",
                ),
                inputs.recognizer(
                    "The ArcFace network for RS and IFS, with its licence. auto takes the "
                    "first of this list whose file is there. Without one FM is still measured. "
                    "Values of different networks do not compare."
                ),
                inputs.detector(
                    "Who looks for the face in every frame. Start with auto; compare only "
                    "values of the same detector."
                ),
                io.Combo.Input(
                    "choose",
                    options=list(faces.RULES),
                    default="largest",
                    tooltip="Which face a shot begins with when there are several; from then on "
                    "it is followed.",
                ),
                inputs.face(
                    "The person for RS: an aligned face, or one or more photos (RS is "
                    "then the mean over them).",
                    name="reference",
                    optional=True,
                ),
                io.Image.Input(
                    "reference_set",
                    optional=True,
                    tooltip="Photos of real faces for FID. The more, the better it is founded; it "
                    "needs the file pt_inception-2015-12-05-6726825d.pth in models/fantasyid.",
                ),
                io.String.Input(
                    "filename_prefix",
                    default="",
                    optional=True,
                    tooltip="Write all values as JSON and CSV into the output folder under this "
                    "name. Empty writes nothing.",
                ),
                inputs.face_model(
                    "From ComfyUI's Load Face Detection Model (MediaPipe): exact points, "
                    "also of turned heads. Wins over the detector above."
                ),
            ],
            outputs=[
                io.Float.Output("rs", display_name="RS", tooltip="0 to 1; not a number if absent."),
                io.Float.Output("ifs", display_name="IFS"),
                io.Float.Output(
                    "fm", display_name="FM", tooltip="Percent of the face's size per frame."
                ),
                io.Float.Output("fid", display_name="FID"),
                io.Image.Output("plot", display_name="plot"),
                io.Image.Output("worst", display_name="worst frames"),
                io.String.Output("summary", display_name="summary"),
                io.String.Output("json", display_name="json"),
            ],
            has_intermediate_output=True,
        )

    @classmethod
    def fingerprint_inputs(cls, recogniser: str, **_: Any) -> str:
        return metrics.fingerprint(recogniser)

    @classmethod
    def execute(
        cls,
        clip: Any,
        recogniser: str,
        detector: str,
        choose: str,
        reference: Any = None,
        reference_set: Any = None,
        filename_prefix: str = "",
        face_detection_model: Any = None,
    ) -> io.NodeOutput:
        given = face_sources(detector, face_detection_model)
        request = metrics.MeasureRequest(
            recogniser, given, choose, reference, reference_set, filename_prefix
        )
        m = metrics.measure_clip(clip, request)
        shown = messages.on_node(m.message, m.plot, cls)
        return io.NodeOutput(m.rs, m.ifs, m.fm, m.fid, m.plot, m.worst, m.message, m.json, ui=shown)


class FantasyIDCompare(io.ComfyNode):
    """Reference beside the video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDCompare",
            display_name="FantasyID Compare",
            category=f"{types.CATEGORY}/evaluate",
            description="Show the person beside every frame of the video, with the likeness of "
            "that frame where a face recogniser is there. The frames go to Create Video.",
            search_aliases=["likeness", "side by side", "face similarity", "reference face"],
            inputs=[
                io.MultiType.Input(
                    "clip", types=[io.Video, io.Image], tooltip="The video, or its frames."
                ),
                inputs.face("The person: the aligned face, or a photo.", name="reference"),
                inputs.recognizer(
                    "The ArcFace network for the likeness, with its licence. auto takes "
                    "the first whose file is there; without one the pictures are still shown."
                ),
                inputs.detector("Who looks for the face in every frame. Start with auto."),
                io.Int.Input(
                    "height",
                    default=480,
                    min=64,
                    max=2160,
                    step=2,
                    tooltip="Height of both pictures in pixels. Larger takes more memory: all "
                    "frames are kept.",
                ),
            ],
            outputs=[
                io.Image.Output("frames", display_name="frames"),
                io.Float.Output(
                    "likeness",
                    display_name="likeness",
                    tooltip="Mean cosine over the frames; not a number if absent.",
                ),
                io.String.Output("report", display_name="report"),
            ],
            is_output_node=True,
            has_intermediate_output=True,
        )

    @classmethod
    def fingerprint_inputs(cls, recogniser: str, **_: Any) -> str:
        return metrics.fingerprint(recogniser)

    @classmethod
    def execute(
        cls, clip: Any, reference: Any, recogniser: str, detector: str, height: int
    ) -> io.NodeOutput:
        given = face_sources(detector)
        request = metrics.MeasureRequest(recogniser, given, "largest", reference, None, "")
        frames, likeness, words, shown = compare.compare(clip, request, height)
        ui = messages.on_node(words, shown, cls)
        return io.NodeOutput(frames, likeness, words, ui=ui)
