"""How much an identity moves the hidden states: numbers per block and step, and what they say."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .steering import PRESETS, LayerWeights

BRANCHES = ("conditional", "unconditional")
FORMAT = "fantasyid injection report 1"


@dataclass(frozen=True, slots=True, eq=False)
class InjectionReport:
    """Length of the injected residual over the length of the hidden states that it is added to."""

    percents: tuple[float, ...]  # share of the schedule of each step, 0 at the noisiest timestep
    # `(S, L)` of S steps and L injectors, of the branch with the prompt; NaN where the model was
    # not run (a step cache served the step), 0 where nothing was injected.
    conditional: Tensor
    unconditional: Tensor  # like `conditional`, of the other branch; NaN throughout at cfg 1

    @property
    def is_on(self) -> bool:
        """Whether anything was added anywhere."""
        return bool(torch.cat([self.conditional, self.unconditional]).nan_to_num().any())

    def summary(self) -> str:
        """One or two sentences that answer whether the identity is on."""
        steps, count = self.conditional.shape
        if not self.is_on:
            return (
                f"Identity is OFF: over {steps} steps and {count} blocks nothing was added to the "
                "hidden states."
            )
        parts = [
            f"{name} {_percent(_mean(values))}"
            for name, values in zip(BRANCHES, self._branches(), strict=True)
            if not values.isnan().all()
        ]
        both = torch.stack(self._branches()).nan_to_num()
        step, block = divmod(int(both.amax(0).argmax()), count)
        words = (
            f"Identity is ON: on average it moved the hidden states by {', '.join(parts)}, most in "
            f"block {block} at step {step + 1} ({_percent(float(both.max()))})."
        )
        skipped = int(self.conditional.isnan().all(1).sum())
        if skipped and not self.conditional.isnan().all():
            words += f" {skipped} of {steps} steps came from a step cache."
        return words

    def preset_shares(self) -> dict[str, float]:
        """How much of the residuals of this run each preset of layer weights would leave.

        Measured on a run with all layers at the same weight; on another run the figures are
        relative to that one.
        """
        per_block = self.conditional.nanmean(0).nan_to_num()  # (L,)
        whole = float(per_block.sum())
        if whole == 0.0:
            return {}
        return {
            preset: float((per_block * torch.tensor(weights)).sum()) / whole
            for preset in PRESETS
            if any(weights := LayerWeights(preset).resolve(per_block.shape[0]))
        }

    def as_json(self) -> str:
        """Everything as JSON; a step that a cache served is null."""
        content = {
            "format": FORMAT,
            "is_on": self.is_on,
            "summary": self.summary(),
            "percents": [round(p, 6) for p in self.percents],
            "preset_shares": {k: round(v, 4) for k, v in self.preset_shares().items()},
        }
        for name, values in zip(BRANCHES, self._branches(), strict=True):
            content[name] = [[_number(v) for v in row] for row in values.tolist()]
        return json.dumps(content)

    def _branches(self) -> tuple[Tensor, Tensor]:
        return self.conditional, self.unconditional


def measured_layers(text: str) -> tuple[float, ...]:
    """How far each layer moved the hidden states, mean over the steps of a report's JSON.

    Raises:
        ValueError: The text is no report, or nothing was injected in its run.
    """
    try:
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise ValueError(content["format"])
        rows = torch.tensor(
            [
                [float("nan") if v is None else float(v) for v in row]
                for row in content["conditional"]
            ]
        )
        mean = rows.nanmean(0).nan_to_num(0.0, 0.0, 0.0)
    except (ValueError, TypeError, KeyError, RuntimeError, IndexError) as error:
        raise ValueError(
            "report is no JSON of FantasyID Injection Report: connect that node's json output, or "
            "the text that it gave"
        ) from error
    if not bool((mean >= 0.0).all()) or float(mean.sum()) == 0.0:
        raise ValueError(
            "report is of a run in which nothing was injected: sample with the identity on and "
            "record on, without layer weights"
        )
    return tuple(mean.tolist())


def _mean(values: Tensor) -> float:
    return float(values[~values.isnan()].mean())


def _percent(value: float) -> str:
    return f"{100 * value:.2g} %"


def _number(value: float) -> Any:
    return None if value != value else round(value, 6)
