"""What a run knows of itself, and why it may end before its last step."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class BadStep(enum.Enum):
    """Why a step is not taken."""

    LOSS = "the loss is not finite"
    GRADIENT = "the gradient is not finite"
    SPIKE = "the loss jumped"


class TrainingStopped(RuntimeError):
    """Why a run ended before its last step.

    Attributes:
        on_request: Whether somebody asked for it.
    """

    def __init__(self, words: str, *, on_request: bool = False) -> None:
        super().__init__(words)
        self.on_request = on_request


@dataclass(slots=True)
class Progress:
    """What a run knows of itself besides its weights; saved with every checkpoint.

    Attributes:
        step: Optimizer steps that are done.
        skipped: Steps that were left out as bad.
        bad_samples: Samples that could not be read; `samples` all that were asked for.
        recent: Losses of the last steps.
    """

    step: int = 0
    skipped: int = 0
    samples: int = 0
    bad_samples: int = 0
    recent: list[float] = field(default_factory=list)
