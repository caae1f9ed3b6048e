"""How much an identity moves the hidden states, noted while the host samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..injection.report import InjectionReport

LAST_TIMESTEP = 999.0


class Recorder:
    """Collects the norms of the last run on the device, without waiting for it."""

    def __init__(self) -> None:
        self._notes: list[tuple[Tensor, list[int], list[Tensor | None]]] = []

    def begin(self) -> None:
        """Forget the run before."""
        self._notes = []

    def note(
        self, sigma: Tensor, cond_or_uncond: Sequence[int], norms: Sequence[Tensor | None]
    ) -> None:
        """Keep the norms of one call of the model.

        Args:
            sigma: `(B,)`.
            cond_or_uncond: Branch of each part of the batch; 0 is conditional.
            norms: Per injector `(2, B)`: length of the residual and of the hidden states. None
                where the block did not run.
        """
        self._notes.append((sigma[:1], list(cond_or_uncond), list(norms)))

    def report(self, model_sampling: Any) -> InjectionReport | None:
        """The last run; None before the first.

        Args:
            model_sampling: The host's, to tell the share of the schedule of a sigma.
        """
        if not self._notes:
            return None
        steps: dict[float, dict[int, list[Tensor]]] = {}
        for sigma, branches, norms in self._notes:
            step = steps.setdefault(float(sigma), {})
            per_item = torch.stack([_ratio(pair, len(branches)) for pair in norms], dim=1)
            for branch, row in zip(branches, per_item, strict=True):
                step.setdefault(branch, []).append(row)
        tables = []
        count = len(self._notes[0][2])
        for branch in (0, 1):
            rows = [
                torch.stack(step[branch]).nanmean(0) if branch in step else _unknown(count)
                for step in steps.values()
            ]
            tables.append(torch.stack(rows))
        percents = tuple(share_of_schedule(model_sampling, sigma) for sigma in steps)
        return InjectionReport(percents, tables[0], tables[1])


def share_of_schedule(model_sampling: Any, sigma: float) -> float:
    """0 at the noisiest timestep, near 1 at the cleanest, as the host counts percents."""
    timestep = model_sampling.timestep(torch.tensor([sigma]))
    return 1.0 - float(timestep) / LAST_TIMESTEP


def _unknown(count: int) -> Tensor:
    return torch.full((count,), torch.nan)


def _ratio(norms: Tensor | None, parts: int) -> Tensor:
    """`(parts,)` relative lengths of one injector; the batch of a part is one video or several."""
    if norms is None:
        return _unknown(parts)
    residual, hidden = norms.float().cpu().unflatten(1, (parts, -1)).square().sum(-1).sqrt()
    return residual / hidden.clamp_min(1e-20)
