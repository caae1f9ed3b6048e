"""The injection report of a MODEL that was sampled."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..injection.heat_map import draw_report
from .injection import injection_of


def injection_report(model: Any) -> tuple[Tensor, str, str]:
    """What the identities of a MODEL added in its last run.

    Args:
        model: The MODEL that was sampled.

    Returns:
        Heat map `(1, H, W, 3)`, JSON, and a summary in words with what each preset of layer
        weights would leave.

    Raises:
        ValueError: The MODEL carries no identity, did not record, or was not sampled.
    """
    injection = injection_of(model)
    if injection is None:
        raise ValueError(
            "Identity is OFF: the model input carries no identity. Connect the MODEL that comes "
            "out of FantasyID Apply Identity; where that node says NO IDENTITY, it says why"
        )
    if injection.recorder is None:
        raise ValueError(
            "nothing was recorded: turn on record in FantasyID Apply Identity and sample again"
        )
    report = injection.recorder.report(model.get_model_object("model_sampling"))
    if report is None:
        raise ValueError(
            "the model input was not sampled: connect the MODEL that the sampler got, and the "
            "sampler's latent"
        )
    shares = report.preset_shares()
    words = report.summary()
    if shares:
        parts = ", ".join(f"{preset} {share:.0%}" for preset, share in shares.items())
        words += f" The presets of FantasyID Layer Weights would leave: {parts}."
    return draw_report(report)[None], report.as_json(), words
