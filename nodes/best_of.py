"""Several seeds, one finished video."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..fantasyid.comfyui import best_of, messages, metrics
from ..fantasyid.comfyui.detectors import face_sources
from . import inputs, types
from .sampling import SEED_MAX


class FantasyIDBestOf(io.ComfyNode):
    """Probe seeds, finish the best."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDBestOf",
            display_name="FantasyID Best of N",
            category=f"{types.CATEGORY}/sampling",
            description="Sample several seeds for a few steps, look at what they are going to be, "
            "and finish the best: the same latent as that seed alone, without doing its first "
            "steps twice.",
            search_aliases=["best seed", "seed search", "pick the best", "likeness and motion"],
            inputs=[
                io.Guider.Input("guider", tooltip="From FantasyID Guider, or any other guider."),
                io.Sampler.Input("sampler", tooltip="From FantasyID Sampler Select."),
                io.Sigmas.Input("sigmas", tooltip="The whole schedule, from FantasyID Scheduler."),
                io.Latent.Input("latent_image", tooltip="From FantasyID Face Latent."),
                io.Vae.Input("vae", tooltip="The CogVideoX VAE, for the previews."),
                io.Int.Input(
                    "first_seed",
                    default=42,
                    min=0,
                    max=SEED_MAX,
                    control_after_generate=True,
                    tooltip="The takes have this seed and the ones after it.",
                ),
                io.Int.Input(
                    "takes",
                    default=4,
                    min=2,
                    max=64,
                    tooltip="How many seeds are tried. More finds better ones and costs "
                    "probe_steps each; start with 4.",
                ),
                io.Int.Input(
                    "probe_steps",
                    default=20,
                    min=1,
                    max=999,
                    tooltip="Steps of each seed before one is chosen. More shows the face better "
                    "and costs more; two fifths of the schedule is a good start.",
                ),
                inputs.share(
                    "likeness",
                    1.0,
                    "What makes a take good: 1 is likeness to the reference alone, 0 is "
                    "motion of the face alone; start with 1. Above 0 it needs a recogniser and "
                    "a reference.",
                ),
                io.Float.Input(
                    "preview_scale",
                    default=0.5,
                    min=0.1,
                    max=1.0,
                    step=0.05,
                    tooltip="Size of the decoded previews as a share of the video's. Larger is "
                    "judged better and decoded slower; start with 0.5.",
                ),
                inputs.recognizer(
                    "The ArcFace network for likeness, with its licence. auto takes the "
                    "first whose file is there."
                ),
                inputs.detector("Who looks for the face in the previews. Start with auto."),
                inputs.face(
                    "The person, for likeness: the aligned face or a photo.",
                    name="reference",
                    optional=True,
                ),
            ],
            outputs=[
                io.Latent.Output("latent", display_name="latent"),
                io.Int.Output("seed", display_name="seed"),
                io.Image.Output("sheet", display_name="sheet"),
                io.String.Output("report", display_name="report"),
            ],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls,
        guider: Any,
        sampler: Any,
        sigmas: Any,
        latent_image: Any,
        vae: Any,
        first_seed: int,
        takes: int,
        probe_steps: int,
        likeness: float,
        preview_scale: float,
        recogniser: str,
        detector: str,
        reference: Any = None,
    ) -> io.NodeOutput:
        contest = best_of.Contest(first_seed, takes, probe_steps, likeness, preview_scale)
        given = face_sources(detector)
        request = metrics.MeasureRequest(recogniser, given, "largest", reference, None, "")
        latent, seed, sheet, words = best_of.best_of(
            guider, sampler, sigmas, latent_image, vae, contest, request
        )
        ui = messages.on_node(words, sheet, cls)
        return io.NodeOutput(latent, seed, sheet, words, ui=ui)
