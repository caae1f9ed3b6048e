"""What a user may turn about an injected identity: when, where, which layers, how much.

The defaults are the released model: strength 1 in every block, at every step, on every video token,
in both branches of classifier-free guidance.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d, interpolate

BOTH, CONDITIONAL = "both", "conditional only"
BRANCHES = (BOTH, CONDITIONAL)
LIKENESS, BALANCED, MOTION, CUSTOM = "likeness", "balanced", "motion", "custom"
PRESETS = (LIKENESS, BALANCED, MOTION, CUSTOM)
# First and last layer of the straight line that a preset draws over the depth.
PRESET_LINES = {LIKENESS: (1.0, 1.0), BALANCED: (0.6, 1.0), MOTION: (0.2, 0.8), CUSTOM: (0.0, 0.0)}
# How much of all that is injected a preset leaves where it is made from a measured run: what its
# line leaves where every layer gives as much.
PRESET_SHARES = {BALANCED: 0.8, MOTION: 0.5}
OWN = -1  # each block has the injector of its own layer
FRAMES_PER_LATENT = 4

Curve = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """A factor per injector, for any number of injectors."""

    preset: str = LIKENESS  # one of `PRESETS`
    # "0-20, 25:0.5": these layers get the number behind the colon (1 without one), in place of the
    # preset's; "" changes none.
    layers: str = ""
    curve: Curve | None = None  # factor over the depth, from 0 (first layer) to 1 (last), or None
    # A layer whose injector, keys and values every block gets in place of its own, or `OWN`. Not
    # released and not the paper's: a probe.
    share: int = OWN
    # How far each layer moved the hidden states in a run of these weights, see
    # `report.measured_layers`; with it `PRESET_SHARES` are leveled off in place of the lines.
    measured: tuple[float, ...] = ()

    def resolve(self, count: int) -> list[float]:
        """The factors of `count` injectors.

        Raises:
            ValueError: An unknown preset, a text that is not understood, with the part, or a
                layer that is not there.
        """
        if self.preset not in PRESET_LINES:
            raise ValueError(f'preset is "{self.preset}", expected one of {", ".join(PRESETS)}')
        if not OWN <= self.share < count:
            raise ValueError(
                f"share_layer is {self.share}, the adapter has layers 0 to {count - 1}; {OWN} "
                "gives each block its own"
            )
        if self.measured and len(self.measured) != count:
            raise ValueError(
                f"the report is of a run with {len(self.measured)} layers, the adapter has "
                f"{count}: make it with this adapter"
            )
        depths = [i / max(count - 1, 1) for i in range(count)]
        if self.measured and self.preset in PRESET_SHARES:
            weights = leveled(self.measured, PRESET_SHARES[self.preset])
        else:
            first, last = PRESET_LINES[self.preset]
            weights = [first + (last - first) * depth for depth in depths]
        for start, end, weight in parse_layers(self.layers):
            if end >= count:
                raise ValueError(
                    f'layers "{self.layers[:80]}" names layer {end}, the adapter has layers 0 to '
                    f"{count - 1}"
                )
            weights[start : end + 1] = [weight] * (end + 1 - start)
        if self.curve is not None:
            weights = [w * float(self.curve(d)) for w, d in zip(weights, depths, strict=True)]
        return weights


def leveled(measured: Sequence[float], share: float) -> list[float]:
    """Weights that leave a share of all that is injected by holding back the layers that give most.

    Args:
        measured: What each layer gives, 0 or more.
        share: From 0 to 1.

    Returns:
        A weight per layer, `min(1, level / given)`, with the level that leaves that share.
    """
    left = share * sum(measured)
    level, rest = 0.0, sorted(measured)
    for number, given in enumerate(rest):
        level = left / (len(rest) - number)
        if level <= given:
            break
        left -= given
    return [min(1.0, level / given) if given > 0.0 else 1.0 for given in measured]


def parse_layers(text: str) -> list[tuple[int, int, float]]:
    """First layer, last layer and weight of each part of "0-20, 25:0.5".

    Raises:
        ValueError: A part is not understood; it is quoted.
    """
    found = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        match = re.fullmatch(r"(\d{1,4})(?:\s*-\s*(\d{1,4}))?(?:\s*:\s*(-?\d+(?:\.\d+)?))?", part)
        if match is None:
            raise ValueError(
                f'layers: "{part[:40]}" is not understood; write single layers and ranges with an '
                'optional weight, like "0-20, 25:0.5"'
            )
        start = int(match[1])
        end = start if match[2] is None else int(match[2])
        if end < start:
            raise ValueError(f'layers: "{part}" runs backwards; write {end}-{start}')
        found.append((start, end, 1.0 if match[3] is None else float(match[3])))
    return found


def validate_layers(text: str) -> str | None:
    """Why a text is no list of layers, in a sentence; None when it is one."""
    try:
        parse_layers(text)
    except ValueError as error:
        return str(error)
    return None


@dataclass(frozen=True, slots=True)
class Steering:
    """Every dial of one applied identity."""

    strength: float = 1.0  # factor on every residual; 1 is released
    # Share of the schedule at which injection begins, 0 is the first step.
    start_percent: float = 0.0
    end_percent: float = 1.0  # share at which it ends; 1 includes the last step
    # Further factor over the schedule, from 0 (noise) to 1 (clean), or None.
    curve: Curve | None = None
    looks: float = 1.0  # factor on what the face tokens give
    shape: float = 1.0  # factor on what the vertex tokens give
    layer_weights: LayerWeights | None = None  # factor per injector; None is 1 everywhere
    # `BOTH` (released) or `CONDITIONAL`, which leaves the unconditional branch alone.
    branches: str = BOTH
    # `(F, H, W)` in [0, 1], image-sized, one frame or many; None is everywhere.
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        if self.branches not in BRANCHES:
            raise ValueError(f'branches is "{self.branches}", expected {" or ".join(BRANCHES)}')
        if self.start_percent >= self.end_percent:
            raise ValueError(
                f"start_percent is {self.start_percent:g} and end_percent {self.end_percent:g}: "
                "the identity would never be injected; end_percent must be larger"
            )
        if self.mask is not None and not (
            self.mask.ndim == 3 and self.mask.numel() and torch.isfinite(self.mask).all()
        ):
            raise ValueError(
                f"mask is {tuple(self.mask.shape)}, expected (frames, height, width) of finite "
                "numbers from 0 to 1"
            )

    @property
    def changes_over_time(self) -> bool:
        """Whether the step decides how much is added."""
        return (self.start_percent, self.end_percent) != (0.0, 1.0) or self.curve is not None

    def at(self, percent: float) -> float:
        """Factor at a share of the schedule: 0 outside of start and end, else the curve's.

        Args:
            percent: 0 at the noisiest timestep, 1 at the cleanest.
        """
        ended = percent >= self.end_percent and self.end_percent < 1.0
        if percent < self.start_percent or ended:
            return 0.0
        return 1.0 if self.curve is None else float(self.curve(percent))

    @property
    def shared_layer(self) -> int:
        """The layer whose injector every block gets, or `OWN`."""
        return OWN if self.layer_weights is None else self.layer_weights.share

    def per_layer(self, count: int) -> list[float]:
        """The constant factor of each of `count` injectors."""
        weights = LayerWeights() if self.layer_weights is None else self.layer_weights
        return [self.strength * weight for weight in weights.resolve(count)]


def mask_tokens(
    mask: Tensor, num_frames: int, height: int, width: int, window: Sequence[int] | None = None
) -> Tensor:
    """A mask on the video tokens of a transformer call.

    Places are averaged over the pixels of each token, so edges become soft. Frames are averaged
    over the four that a latent frame stands for; the first latent frame stands for one.

    Args:
        mask: `(F, H, W)` in [0, 1]; one frame serves all.
        num_frames: Latent frames of the whole video.
        height: Token rows.
        width: Token columns.
        window: The latent frames that this call sees, or None for all.

    Returns:
        `(1, N, 1)`, frame by frame, row by row, as the transformer orders its tokens.
    """
    mask = mask.float().clamp(0.0, 1.0)
    if mask.shape[-2:] != (height, width):
        mask = interpolate(mask[:, None], (height, width), mode="area")[:, 0]
    frames = _latent_frames(mask, num_frames)
    if window is not None:
        frames = frames[list(window)]
    return frames.reshape(1, -1, 1)


def _latent_frames(mask: Tensor, num_frames: int) -> Tensor:
    """`(F, h, w)` to `(num_frames, h, w)`."""
    given = mask.shape[0]
    if given in (1, num_frames):
        return mask.expand(num_frames, -1, -1)
    if given == (num_frames - 1) * FRAMES_PER_LATENT + 1:
        rest = mask[1:].unflatten(0, (num_frames - 1, FRAMES_PER_LATENT)).mean(1)
        return torch.cat([mask[:1], rest])
    # Any other number of frames is spread over the video.
    flat = mask.flatten(1).T[None]  # (1, h * w, F)
    if given > num_frames:
        spread = adaptive_avg_pool1d(flat, num_frames)
    else:
        spread = interpolate(flat, num_frames, mode="linear", align_corners=True)
    return spread[0].T.unflatten(1, mask.shape[1:])
