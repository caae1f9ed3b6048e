"""The released samplers: as SAMPLER and SIGMAS, and all in one node."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..fantasyid.cogvideox.schedule import EXACT, PRESETS
from ..fantasyid.comfyui import guidance
from ..fantasyid.comfyui import sampler as host_sampler
from . import inputs, types

SEED_MAX = 0xFFFFFFFFFFFFFFFF


def _sampler_input(name: str) -> io.Combo.Input:
    return io.Combo.Input(
        name,
        options=list(host_sampler.RULES),
        tooltip="dpm is what the released pipeline uses: second order, fresh noise at each step. "
        "ddim adds no noise and is calmer with few steps.",
    )


def _steps_input() -> io.Int.Input:
    return io.Int.Input(
        "steps",
        default=50,
        min=1,
        max=1000,
        tooltip="Denoising steps. More is finer and slower; 50 is the released number, 25 a fair "
        "draft. Numbers that divide 1000 end cleanest.",
    )


def _denoise_input() -> io.Float.Input:
    return io.Float.Input(
        "denoise",
        default=1.0,
        min=0.01,
        max=1.0,
        step=0.01,
        tooltip="1 makes a new video from pure noise. Lower keeps more of the latent that comes "
        "in, for a second pass.",
    )


def _cfg_input() -> io.Float.Input:
    return inputs.share(
        "cfg",
        6.0,
        "How strictly the prompt is followed. Higher is more literal and more contrasty; "
        "6 is the released number, 1 halves the time.",
        most=100.0,
        step=0.1,
    )


def _dynamic_input() -> io.Boolean.Input:
    return io.Boolean.Input(
        "dynamic_cfg",
        default=False,
        optional=True,
        tooltip="Let guidance grow from 1 to cfg + 1 over the run, late and steeply, as CogVideoX "
        "offers: freer motion, softer colours. The released pipeline has it off.",
    )


def _preset_input(what: str) -> io.Combo.Input:
    return io.Combo.Input(
        "preset",
        options=list(PRESETS),
        default=EXACT,
        optional=True,
        tooltip=f"exact is the released run, as the other inputs say. {what} The page of FantasyID "
        "Sampler tells what that did to likeness and motion.",
    )


class FantasyIDScheduler(io.ComfyNode):
    """The released schedule."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDScheduler",
            display_name="FantasyID Scheduler",
            category=f"{types.CATEGORY}/sampling",
            description="The trailing zero-SNR schedule of CogVideoX as SIGMAS, for "
            "SamplerCustomAdvanced.",
            search_aliases=["sigmas", "cogvideox scheduler"],
            inputs=[
                io.Model.Input("model", tooltip="The CogVideoX MODEL that will be sampled."),
                _steps_input(),
                _denoise_input(),
                _preset_input("balanced takes all steps too, fast half of them."),
            ],
            outputs=[io.Sigmas.Output("sigmas", display_name="sigmas")],
        )

    @classmethod
    def execute(cls, model: Any, steps: int, denoise: float, preset: str = EXACT) -> io.NodeOutput:
        steps = PRESETS[preset].steps(steps)
        return io.NodeOutput(host_sampler.trailing_sigmas(model, steps, denoise))


class FantasyIDSamplerSelect(io.ComfyNode):
    """The released update rules."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDSamplerSelect",
            display_name="FantasyID Sampler Select",
            category=f"{types.CATEGORY}/sampling",
            description="The CogVideoX update rules as SAMPLER, for SamplerCustomAdvanced. "
            "ComfyUI's own samplers do not fit this model.",
            search_aliases=["cogvideox sampler", "dpm", "ddim"],
            inputs=[_sampler_input("sampler")],
            outputs=[io.Sampler.Output("sampler_out", display_name="sampler")],
        )

    @classmethod
    def execute(cls, sampler: str) -> io.NodeOutput:
        return io.NodeOutput(host_sampler.ReleasedSampler(sampler))


class FantasyIDGuider(io.ComfyNode):
    """CFG, constant or growing."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDGuider",
            display_name="FantasyID Guider",
            category=f"{types.CATEGORY}/sampling",
            description="Guidance as GUIDER, for SamplerCustomAdvanced: towards the prompt, "
            "constant or growing over the run, and towards the identity as an axis of its own.",
            search_aliases=["cfg guider", "dynamic cfg", "identity guidance", "more likeness"],
            inputs=[
                io.Model.Input("model", tooltip="The MODEL with the identity applied."),
                io.Conditioning.Input("positive", tooltip="From FantasyID Face Latent."),
                io.Conditioning.Input("negative", tooltip="From FantasyID Face Latent."),
                _cfg_input(),
                _dynamic_input(),
                inputs.share(
                    "identity_scale",
                    0.0,
                    "Pulls away from the video that the same prompt gives without the "
                    "identity. Higher is more alike and stiffer; 0 is released and free, anything "
                    "else costs one more model call per step (half as long again). Start with 1.",
                    most=20.0,
                    step=0.1,
                    optional=True,
                ),
                inputs.share(
                    "identity_start",
                    0.0,
                    "Where in the schedule identity guidance begins. Higher saves time and "
                    "leaves the layout to the prompt; start with 0.",
                    step=0.01,
                    optional=True,
                ),
                inputs.share(
                    "identity_end",
                    1.0,
                    "Where in the schedule identity guidance ends. Lower saves time; 0.5 "
                    "keeps most of the pull, for the early steps decide the face.",
                    step=0.01,
                    optional=True,
                ),
                io.Float.Input(
                    "cfg_start",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    tooltip="Where in the schedule cfg begins; before it the prompt counts with 1. "
                    "0 is released; higher saves a model call per step and loosens the layout.",
                ),
                io.Float.Input(
                    "cfg_end",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    tooltip="Where in the schedule cfg ends; behind it every step costs one model "
                    "call in place of two. 1 is released; 0.6 saves a fifth of the time.",
                ),
                _preset_input("Both others let ComfyUI's EasyCache skip steps, at threshold 0.9."),
            ],
            outputs=[io.Guider.Output("guider", display_name="guider")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: Any,
        negative: Any,
        cfg: float,
        dynamic_cfg: bool = False,
        identity_scale: float = 0.0,
        identity_start: float = 0.0,
        identity_end: float = 1.0,
        cfg_start: float = 0.0,
        cfg_end: float = 1.0,
        preset: str = EXACT,
    ) -> io.NodeOutput:
        model = host_sampler.with_step_cache(model, PRESETS[preset])
        identity = guidance.IdentityGuidance(identity_scale, identity_start, identity_end)
        prompt = guidance.PromptGuidance(dynamic_cfg, cfg_start, cfg_end)
        return io.NodeOutput(guidance.make_guider(model, positive, negative, cfg, prompt, identity))


class FantasyIDSampler(io.ComfyNode):
    """Sample a video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDSampler",
            display_name="FantasyID Sampler",
            category=f"{types.CATEGORY}/sampling",
            description="Sample a CogVideoX video with the released schedule and update rule, all "
            "in one node. Everything is checked before the first step.",
            search_aliases=["ksampler", "cogvideox sampler", "video sampler"],
            inputs=[
                io.Model.Input("model", tooltip="The MODEL with the identity applied."),
                io.Conditioning.Input("positive", tooltip="From FantasyID Face Latent."),
                io.Conditioning.Input("negative", tooltip="From FantasyID Face Latent."),
                io.Latent.Input("latent_image", tooltip="From FantasyID Face Latent."),
                io.Int.Input(
                    "seed",
                    default=42,
                    min=0,
                    max=SEED_MAX,
                    control_after_generate=True,
                    tooltip="The same seed gives the same video; another one gives another take.",
                ),
                _steps_input(),
                _cfg_input(),
                _sampler_input("sampler"),
                _denoise_input(),
                _dynamic_input(),
                _preset_input(
                    "balanced lets ComfyUI's EasyCache skip steps, fast takes half of the steps as "
                    "well: 2.4 and 4.3 times fewer calls of the bundled mini model."
                ),
            ],
            outputs=[io.Latent.Output("latent", display_name="latent")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: Any,
        negative: Any,
        latent_image: Any,
        seed: int,
        steps: int,
        cfg: float,
        sampler: str,
        denoise: float,
        dynamic_cfg: bool = False,
        preset: str = EXACT,
    ) -> io.NodeOutput:
        saving = PRESETS[preset]
        model = host_sampler.with_step_cache(model, saving)
        rule = host_sampler.ReleasedSampler(sampler)
        sigmas = host_sampler.trailing_sigmas(model, saving.steps(steps), denoise)
        prompt = guidance.PromptGuidance(dynamic_cfg)
        guider = guidance.make_guider(model, positive, negative, cfg, prompt)
        return io.NodeOutput(host_sampler.run(guider, seed, rule, sigmas, latent_image))
