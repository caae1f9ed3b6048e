"""One TOML file says everything about a training: frozen, checked whole, unknown keys refused.

Paths are relative to the folder of the TOML file. `recipes/` holds one file for each usual case.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Base = Literal["frozen", "lora", "full"]
Optimizer = Literal["adamw", "adamw8bit"]
OnBadStep = Literal["stop", "skip"]
Schedule = Literal["cosine_with_restarts", "cosine", "constant"]


@dataclass(frozen=True, slots=True)
class Curate:
    """From clips to a manifest (paper 3.2 and 4.1).

    Attributes:
        clips: Folder of video files, searched with its subfolders.
        frames: Frames of a training clip, `8 k + 1`.
        fps: Frames per second that clips are brought to.
        sizes: Buckets `[width, height]` in pixels, multiples of 16.
        min_shot_s: Shorter shots are left out.
        detector: Who finds faces, one of the nodes' names; `face_models` are folders with its
            files.
        min_face_score: Detector score that every counted face must reach (paper: 0.9).
        min_other_score: Score from which a second face counts as another person.
        min_face_share: Share of the looked-at frames that must show the person.
        min_face_px: Median width of the face's box in the bucket's pixels.
        max_people: How many people a clip may show.
        max_text_share: Share of the picture that text may cover in any looked-at frame.
        min_views: Views that a clip must give, each `min_view_deg` from every other.
        max_frontal_deg: How far the most frontal view may be turned; measured angles of a profile
            are 30 to 70.
        min_sharpness: That every counted view must have, in the units of `face/quality.py`.
        captioner: `module:function` that is called with a video path where no sidecar is.
        workers: Processes; 0 takes every core.
    """

    clips: Path
    frames: int = 49
    fps: int = 8
    sizes: tuple[tuple[int, int], ...] = ((720, 480),)
    min_shot_s: float = 2.0
    detector: str = "auto"
    face_models: tuple[Path, ...] = ()
    min_face_score: float = 0.9
    min_other_score: float = 0.6
    min_face_share: float = 0.8
    min_face_px: float = 64.0
    max_people: int = 1
    max_text_share: float = 0.005
    min_views: int = 2
    min_view_deg: float = 4.0
    max_frontal_deg: float = 25.0
    min_sharpness: float = 0.008
    captioner: str = ""
    workers: int = 0


@dataclass(frozen=True, slots=True)
class Weights:
    """Files that a training stands on. Folders are diffusers' or transformers' own layout.

    Attributes:
        transformer: CogVideoX image-to-video transformer; "" builds `model.base_sizes` anew.
        vae: CogVideoX VAE.
        text_encoder: T5 encoder; `tokenizer` its tokenizer's folder.
        face_encoder: EVA02-CLIP file, released or converted.
        deca: DECA checkpoint. `flame`: FLAME head model.
        mesh_transforms: The mesh transforms of the vertex branch.
        adapter: An adapter to start from, released or exported; "" starts afresh.
    """

    vae: Path
    text_encoder: Path
    tokenizer: Path
    face_encoder: Path
    deca: Path
    flame: Path
    mesh_transforms: Path
    transformer: Path | None = None
    adapter: Path | None = None


@dataclass(frozen=True, slots=True)
class Cache:
    """Encoded inputs on disk.

    Attributes:
        face_latent_draws: Noised encodings of each view; training draws one of them.
        shard_clips: Clips in one safetensors shard.
        dtype: Of what is stored (vertices stay float32).
        device: Where the encoders run.
    """

    face_latent_draws: int = 4
    shard_clips: int = 64
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class Model:
    """What is trained.

    Attributes:
        base: Whether the base stays frozen, gets a LoRA, or is trained whole.
        lora_rank: Rank of that LoRA.
        injector_interval: An injector behind every k-th block.
        base_sizes: Keyword arguments of diffusers' `CogVideoXTransformer3DModel` for a base from
            nothing.
        adapter_sizes: Sizes of a fresh adapter that differ from the released ones
            (`network.AdapterSizes`).
        vertices: False trains without the vertex branch (Table 3).
        layer_aware: False shares one injector among all blocks (Table 3).
        abstractor: "c_abstractor", or "q_former" in its place (Table 3).
    """

    base: Base = "frozen"
    lora_rank: int = 64
    injector_interval: int = 1
    base_sizes: dict[str, Any] = field(default_factory=dict)
    adapter_sizes: dict[str, Any] = field(default_factory=dict)
    vertices: bool = True
    layer_aware: bool = True
    abstractor: Literal["c_abstractor", "q_former"] = "c_abstractor"


@dataclass(frozen=True, slots=True)
class Train:
    """The optimization (paper 4.1; the exponent of its learning rate is not legible in the text,
    3e-6 is that of its nearest relative, ConsisID).

    Attributes:
        out: Folder of the run.
        batch_size: Of one optimizer step over all devices.
        samples_per_reference: Samples of one person that share a drawn reference view, so that
            the identity stages run once for them.
        null_text: Probability of the empty prompt.
        identity_dropout: Probability of a sample without identity (our addition).
        face_latent_dropout: Probability of an empty image-to-video channel.
        single_view: One picture of a person, the most frontal view of their first clip (Table 3,
            without the collection).
        mask_loss: Probability of weighing the loss by the face's mask.
        late_frames: Weight of the last latent frame's loss against the first's, linear between.
        timestep_power: Timesteps are `1000 u^power` of a uniform `u`: below 1 draws late ones.
        on_new_data: Whether a run whose manifest or cache is not that of its checkpoint stops, or
            goes on with the order of the new data, which it notes.
        loss_spike: Times the running median that counts as a spike; 0 switches it off.
        max_bad_share: Share of unreadable samples after which the run stops.
        ema_decay: Of the moving average of the trained weights; 0 keeps none.
        trained_dtype: Of the trained weights; bfloat16 halves them, their gradients and moments.
        fp8_base: Store the frozen base as fp8, compute in the run's precision.
        swap_blocks: Blocks of the frozen base that wait in main memory and are copied one way.
    """

    out: Path
    seed: int = 0
    steps: int = 90_000
    batch_size: int = 16
    accumulation: int = 1
    samples_per_reference: int = 1
    precision: Literal["no", "bf16", "fp16"] = "bf16"
    optimizer: Optimizer = "adamw"
    learning_rate: float = 3e-6
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 1e-2
    schedule: Schedule = "cosine_with_restarts"
    restarts: int = 1
    warmup: int = 200
    max_grad_norm: float = 1.0
    ema_decay: float = 0.999
    trained_dtype: Literal["float32", "bfloat16"] = "float32"
    gradient_checkpointing: bool = True
    fp8_base: bool = False
    swap_blocks: int = 0
    null_text: float = 0.1
    identity_dropout: float = 0.0
    face_latent_dropout: float = 0.0
    single_view: bool = False
    mask_loss: float = 0.0
    late_frames: float = 1.0
    timestep_power: float = 1.0
    on_nan: OnBadStep = "stop"
    on_spike: OnBadStep = "skip"
    on_new_data: Literal["stop", "continue"] = "stop"
    loss_spike: float = 0.0
    max_bad_share: float = 0.01
    checkpoint_every: int = 250
    keep_checkpoints: int = 3
    log_every: int = 10
    workers: int = 2


@dataclass(frozen=True, slots=True)
class Validate:
    """Fixed people and prompts, sampled while the training runs.

    Attributes:
        every: Steps between validations; 0 switches them off.
        references: Photos, one person each.
        prompts: Text, every one with every person.
        detector: Who finds faces, one of the nodes' names.
        recognizer: ArcFace ONNX file for RS and IFS; without it FM alone is measured.
    """

    every: int = 1000
    references: tuple[Path, ...] = ()
    prompts: tuple[str, ...] = ()
    steps: int = 50
    cfg: float = 6.0
    seed: int = 0
    recognizer: Path | None = None
    detector: str = "auto"


@dataclass(frozen=True, slots=True)
class Config:
    """A whole training."""

    work: Path
    curate: Curate
    weights: Weights
    train: Train
    cache: Cache = field(default_factory=Cache)
    model: Model = field(default_factory=Model)
    validate: Validate = field(default_factory=Validate)

    def fingerprint(self) -> str:
        """Hash of everything that decides about the weights: a resumed run must have the same."""
        decides = {"model": self.model, "train": self.train, "weights": self.weights}
        ignored = {
            "out", "checkpoint_every", "keep_checkpoints", "log_every", "workers", "steps",
            "on_new_data",
        }  # fmt: skip
        plain = json.dumps(
            {
                part: {k: v for k, v in as_plain(value).items() if k not in ignored}
                for part, value in decides.items()
            },
            sort_keys=True,
        )
        return hashlib.sha256(plain.encode()).hexdigest()[:16]


def as_plain(value: Any) -> Any:
    """A configuration as values that JSON knows."""
    if dataclasses.is_dataclass(value):
        return {f.name: as_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (tuple, list)):
        return [as_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): as_plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value
