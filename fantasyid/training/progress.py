"""What a run knows of itself, and why it may end before its last step."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"


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


@dataclass(frozen=True, slots=True)
class Metrics:
    """What is noted of every step, a line of JSON each.

    Attributes:
        path: The file.
        writes: Whether this process is the one that writes it.
    """

    path: Path
    writes: bool

    def add(self, row: dict[str, Any]) -> None:
        """Note something."""
        if self.writes:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def cut(self, step: int) -> None:
        """Drop what was noted after the checkpoint of a step, which the run goes on from."""
        if not self.writes or not self.path.is_file():
            return
        kept = []
        for line in self.path.read_text("utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:  # cut short by a kill
                continue
            # What came of a step stands under the number that it ended with.
            ended = "loss" in row or "validation" in row
            if row["step"] < step + ended:
                kept.append(line + "\n")
        self.path.write_text("".join(kept), "utf-8")
