"""Whether an identity is on a MODEL, and which dials leave little of it unnoticed."""

from __future__ import annotations

from typing import Any

from ..doctor.findings import ERROR, NOTE, OK, WARNING, Finding
from ..injection.applied import AppliedIdentity
from ..injection.steering import CONDITIONAL
from .injection import injection_of
from .weights import Adapter

RELEASED_DIM = 3072
WEAK_STRENGTH, HARSH_STRENGTH = 0.3, 1.6
WEAK_SHARE = 0.25
SMALL_MASK = 0.03
CURVE_PROBES = 41


def identities_on(model: Any) -> list[Finding]:
    """A finding for each identity of a MODEL, or one that says that there is none."""
    injection = injection_of(model)
    if injection is None:
        text = (
            "NO IDENTITY is on this MODEL: connect the MODEL that comes out of FantasyID Apply "
            "Identity; where that node says NO IDENTITY, it says why."
        )
        return [Finding(WARNING, "identity", text, {"identities": 0})]
    many = len(injection.applied)
    found = [_one(number, many, a) for number, a in enumerate(injection.applied, start=1)]
    masked = [applied for applied in injection.applied if applied.steering.mask is not None]
    if many > 1 and len(masked) < many:
        text = (
            f"{many} identities are on this MODEL and {many - len(masked)} of them without a mask: "
            "their faces will mix. Give each one a mask."
        )
        found.append(Finding(WARNING, "identity", text, {"without_mask": many - len(masked)}))
    return found


def _one(number: int, many: int, applied: AppliedIdentity) -> Finding:
    dials = applied.steering
    problems = _weaknesses(applied)
    facts = {
        "number": number,
        "strength": dials.strength,
        "looks": dials.looks,
        "shape": dials.shape,
        "start_percent": dials.start_percent,
        "end_percent": dials.end_percent,
        "branches": dials.branches,
        "mask": dials.mask is not None,
        "blocks": sum(factor != 0.0 for factor in applied.factors),
        "tokens": applied.keys_values.shape[3],
        "problems": problems,
    }
    text = f"identity {number} of {many} is on at strength {dials.strength:g}"
    text += f" in {facts['blocks']} of {len(applied.factors)} blocks"
    if problems:
        return Finding(WARNING, "identity", f"{text}, but {'; '.join(problems)}.", facts)
    return Finding(OK, "identity", f"{text}.", facts)


def _weaknesses(applied: AppliedIdentity) -> list[str]:
    dials = applied.steering
    strength = dials.strength
    mean = sum(abs(factor) for factor in applied.factors) / len(applied.factors)
    share = _share_of_steps(applied)
    covered = 1.0 if dials.mask is None else float(dials.mask.float().clamp(0, 1).mean())
    half = "so that half of the identity hardly acts"
    problems = [
        (
            abs(strength) < WEAK_STRENGTH,
            f"strength {strength:g} leaves little of it: start with 1",
        ),
        (strength < 0, "strength is negative, which pushes away from the person"),
        (
            strength > HARSH_STRENGTH,
            f"strength {strength:g} freezes the face and drowns the prompt: start with 1",
        ),
        (abs(dials.looks) < WEAK_STRENGTH, f"looks is {dials.looks:g}, {half}"),
        (abs(dials.shape) < WEAK_STRENGTH, f"shape is {dials.shape:g}, {half}"),
        (
            mean < WEAK_SHARE * abs(strength),
            "the layer weights leave less than a quarter of it",
        ),
        (share < WEAK_SHARE, f"start, end and curve leave {share:.0%} of the schedule"),
        (
            dials.start_percent > WEAK_SHARE,
            "it begins after the first steps, which decide about the face",
        ),
        (covered < SMALL_MASK, f"its mask covers {covered:.1%} of the picture"),
        (
            dials.branches == CONDITIONAL and strength > 1.0,
            "it acts in the conditional branch only, which cfg multiplies: lower strength",
        ),
    ]
    return [words for holds, words in problems if holds]


def _share_of_steps(applied: AppliedIdentity) -> float:
    """The mean factor over the schedule."""
    steps = [i / (CURVE_PROBES - 1) for i in range(CURVE_PROBES)]
    return sum(abs(applied.steering.at(step)) for step in steps) / CURVE_PROBES


def adapter_of(adapter: Adapter, model: Any | None) -> list[Finding]:
    """What an adapter is, and whether it fits the MODEL."""
    config = adapter.injection
    facts = {
        "source": adapter.source,
        "fingerprint": adapter.fingerprint,
        "injectors": config.num_injectors,
        "dim": config.dim,
        "context_dim": config.context_dim,
    }
    text = f"the adapter {adapter.source} has {config.num_injectors} injectors, {config.dim} wide"
    transformer = None if model is None else getattr(model.model, "diffusion_model", None)
    dim = getattr(transformer, "dim", config.dim)
    blocks = len(getattr(transformer, "blocks", ())) or config.num_injectors
    if dim != config.dim or blocks % config.num_injectors:
        words = (
            f"{text}; the MODEL is {dim} wide and has {blocks} blocks: they come from different "
            "checkpoints (tiny and real parts mixed?)."
        )
        return [Finding(ERROR, "adapter", words, facts | {"fits": False})]
    level = OK if config.dim == RELEASED_DIM else NOTE
    size = "" if level == OK else ": a tiny stand-in, videos made with it show nothing"
    return [Finding(level, "adapter", f"{text}{size}.", facts | {"fits": True})]
