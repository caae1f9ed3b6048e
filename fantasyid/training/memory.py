"""How much memory a training step takes, from the sizes alone: the table of docs/training.md.

Counts bytes of weights, gradients, optimizer state, moving average and activations. Activations
follow gradient checkpointing: each block keeps its inputs, one block at a time is computed anew.
`tests/training/test_memory.py` holds it against measured peaks.
"""

from __future__ import annotations

from dataclasses import dataclass

# Parameters at the released sizes (docs/released-model.md, section 0).
BASE_PARAMETERS = 5_570_479_680
ADAPTER_PARAMETERS = 17_698_880 + 9_653_632 + 34_105_600 + 881_233_920


@dataclass(frozen=True, slots=True)
class Setting:
    """A way to train.

    Attributes:
        devices: Cards; with `sharded` the weights, gradients and states are divided among them.
        base_bytes: Per parameter of the frozen base: 2 in bf16, 1 in fp8.
        adam_bytes: Of both moments per trained parameter: 8 in fp32, 2 in 8 bit.
        trained_bytes: Per trained parameter: 4 in fp32, 2 in bf16.
        average_bytes: Of the moving average per trained parameter.
        swapped: Share of the base that waits in main memory.
        batch: Samples on one device at a time.
        frames: Of a clip; `height` and `width` in pixels.
    """

    devices: int = 1
    sharded: bool = False
    base_bytes: float = 2
    adam_bytes: float = 8
    trained_bytes: float = 4
    average_bytes: float = 4
    swapped: float = 0.0
    batch: int = 1
    frames: int = 49
    height: int = 480
    width: int = 720
    dim: int = 3072
    context_dim: int = 2048
    blocks: int = 42
    text_tokens: int = 226
    base_parameters: int = BASE_PARAMETERS
    adapter_parameters: int = ADAPTER_PARAMETERS
    activation_bytes: int = 2


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes on one device."""

    base: float
    trained: float
    gradients: float
    optimizer: float
    average: float
    activations: float

    @property
    def total(self) -> float:
        """All of it."""
        return (
            self.base + self.trained + self.gradients + self.optimizer + self.average
            + self.activations
        )  # fmt: skip


def video_tokens(setting: Setting) -> int:
    """Latent frames times 2x2 patches."""
    frames = (setting.frames - 1) // 4 + 1
    return frames * (setting.height // 16) * (setting.width // 16)


# At the peak of one block's backward: elements per token and channel of the joint sequence, and
# per weight of one injector. Fitted to measured peaks of six shapes; the test holds it to others.
PER_TOKEN, PER_INJECTOR_WEIGHT = 20.6, 1.8


def block_activations(setting: Setting) -> float:
    """Bytes at the peak of the block that is computed anew and differentiated."""
    tokens = video_tokens(setting) + setting.text_tokens
    weights = 2 * setting.dim * setting.context_dim
    elements = PER_TOKEN * setting.batch * tokens * setting.dim + PER_INJECTOR_WEIGHT * weights
    return elements * setting.activation_bytes


def estimate(setting: Setting) -> Need:
    """What one device needs at the peak of a step, with gradient checkpointing."""
    shares = setting.devices if setting.sharded else 1
    tokens = video_tokens(setting) + setting.text_tokens
    kept = setting.batch * setting.blocks * tokens * setting.dim * setting.activation_bytes
    trained = setting.adapter_parameters / shares
    return Need(
        base=setting.base_parameters * setting.base_bytes * (1 - setting.swapped) / shares,
        trained=trained * setting.trained_bytes,
        gradients=trained * setting.trained_bytes,
        optimizer=trained * setting.adam_bytes,
        average=trained * setting.average_bytes,
        activations=kept + block_activations(setting),
    )
