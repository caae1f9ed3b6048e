"""Changes to a head: sliders, FLAME components, another head blended in; and what they moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from scipy.spatial import KDTree
from torch import Tensor

from .flame import Flame
from .head_frame import LEFT_EYE, RIGHT_EYE, SKIN, HeadFrame, head_frame, lay_onto, rigid_fit
from .regions import slider_movement, smooth_step

SIDES = ("both sides", "mirrored", "left half only", "right half only")
MAX_COMPONENTS = 300
MAX_COMPONENT_VALUE = 10.0
# Half the width over which a change of one half fades out across the middle, in eye distances.
MIDDLE_FADE = 0.25
NEIGHBORS = 4
# Below this the network's depth embedding turns by less than a ten-thousandth of a round.
SEEN_MM = 0.01
MM = 1000.0


@dataclass(frozen=True)
class HeadEdit:
    """What to change."""

    sliders: Mapping[str, float] = field(default_factory=dict)  # name in `SLIDERS_MM` -> -1 to 1
    # (number of a FLAME shape component, change in standard deviations).
    components: tuple[tuple[int, float], ...] = ()
    blend: float = 0.0  # how much of the second head: 0 none, 1 all of it
    side: str = SIDES[0]  # one of `SIDES`
    amount: float = 1.0  # multiplies everything


def parse_components(text: str) -> tuple[tuple[int, float], ...]:
    """Read "0:1.5, 3:-0.8".

    Raises:
        ValueError: The text has another form, or a number is out of range; it says which.
    """
    parts = [part.strip() for part in text.replace("\n", ",").replace(";", ",").split(",")]
    found: dict[int, float] = {}
    for part in filter(None, parts):
        number, colon, value = part.partition(":")
        try:
            if not colon:
                raise ValueError
            index, change = int(number), float(value)
        except ValueError:
            raise ValueError(
                f"shape components: {part[:40]!r} is not understood; write number:value pairs such "
                'as "0:1.5, 3:-0.8"'
            ) from None
        if not 0 <= index < MAX_COMPONENTS:
            raise ValueError(f"shape components: there are 0 to {MAX_COMPONENTS - 1}, not {index}")
        if not abs(change) <= MAX_COMPONENT_VALUE:
            raise ValueError(
                f"shape components: {index}:{change:g} is too far; stay within "
                f"±{MAX_COMPONENT_VALUE:g} standard deviations"
            )
        if index in found:
            raise ValueError(f"shape components: {index} is given twice")
        found[index] = change
    return tuple(found.items())


def edit_vertices(
    vertices: Tensor, edit: HeadEdit, second: Tensor | None = None, flame: Flame | None = None
) -> Tensor:
    """Change a head in whatever pose it is.

    Args:
        vertices: `(5023, 3)` meters.
        second: `(5023, 3)` of the head to blend in; laid onto the first before, so that neither
            its pose nor its place is blended.

    Returns:
        `(5023, 3)` in the type of `vertices`; the same bits where nothing is changed.

    Raises:
        ValueError: Something that the edit needs is missing.

    Source: paper section 4.5, figure 4: a video follows the vertices that somebody moved.
    """
    if edit.side not in SIDES:
        raise ValueError(f"side: expected one of {', '.join(SIDES)}, got {edit.side!r}")
    frame = head_frame(vertices)
    points = vertices.detach().cpu().double()
    movement = torch.zeros_like(points)
    for name, value in edit.sliders.items():
        if value:
            movement = movement + value * slider_movement(name, frame, vertices)
    if edit.components:
        if flame is None:
            raise ValueError(
                "shape components: connect the head model (Load FantasyID Head Model); FLAME's "
                "shape directions are in it"
            )
        movement = movement + _component_movement(points, edit.components, flame) @ frame.axes.T
    if edit.blend:
        if second is None:
            raise ValueError("blend: connect the second head, or set blend to 0")
        movement = movement + edit.blend * (lay_onto(second, points) - points) @ frame.axes.T
    reference = points if flame is None else flame.v_template.cpu()
    movement = edit.amount * _on_sides(movement, edit.side, frame, points, reference)
    moved = points + frame.directions_in_model(movement)
    still = (movement == 0).all(1, keepdim=True)
    return torch.where(still, vertices.detach().cpu(), moved.to(vertices.dtype))


def _component_movement(
    points: Tensor, components: tuple[tuple[int, float], ...], flame: Flame
) -> Tensor:
    """`(5023, 3)` in model space, turned as the head is turned from the template."""
    directions = flame.shapedirs[..., [number for number, _ in components]].cpu().double()
    values = points.new_tensor([value for _, value in components])
    turn, _ = rigid_fit(flame.v_template[SKIN], points[SKIN])
    return torch.einsum("vcs,s->vc", directions, values) @ turn.T


def _on_sides(
    movement: Tensor, side: str, frame: HeadFrame, points: Tensor, reference: Tensor
) -> Tensor:
    """The movement on both halves, made a mirror image of itself, or on one half alone."""
    if side == "both sides":
        return movement
    if side == "mirrored":
        at = head_frame(reference).points_in_head(reference)
        return (movement + mirror_movement(movement, at)) / 2
    across = frame.points_in_head(points)[:, :1]  # (V, 1), towards the head's left
    sign = 1.0 if side == "left half only" else -1.0
    return movement * smooth_step(sign * across, -MIDDLE_FADE, MIDDLE_FADE)


def mirror_movement(movement: Tensor, points: Tensor) -> Tensor:
    """The movement as seen in a mirror in the head's middle plane.

    Args:
        movement: `(5023, 3)` in a head's frame.
        points: `(5023, 3)` places in that frame; where a mirrored place falls between vertices,
            the nearest ones are mixed.
    """
    flip = points.new_tensor([-1.0, 1.0, 1.0])
    mirrored = torch.empty_like(movement)
    for part, opposite in ((SKIN, SKIN), (LEFT_EYE, RIGHT_EYE), (RIGHT_EYE, LEFT_EYE)):
        tree = KDTree(points[opposite].numpy())
        distance, near = tree.query((points[part] * flip).numpy(), NEIGHBORS)
        weight = 1.0 / torch.from_numpy(distance**2 + 1e-12)
        weight = weight / weight.sum(1, keepdim=True)
        values = movement[opposite][torch.from_numpy(near)]  # (V, NEIGHBORS, 3)
        mirrored[part] = (values * weight[..., None]).sum(1) * flip
    return mirrored


def describe_movement(before: Tensor, after: Tensor, coarse_index: Tensor | None) -> str:
    """How far an edit moved a head, and how much of it the network can see.

    Args:
        before: `(5023, 3)` meters.
        after: `(5023, 3)` meters.
        coarse_index: `(314,)` the vertices whose depth z enters the network, or None.

    Returns:
        Sentences in millimeters, with a warning where the edit cannot matter.
    """
    movement = (after.detach().cpu().double() - before.detach().cpu().double()) * MM
    length = torch.linalg.vector_norm(movement, dim=1)
    if not length.any():
        return "Nothing is changed: every knob is at rest."
    text = f"Moved: {length.mean():.2f} mm in the mean, {length.amax():.2f} mm at most."
    if coarse_index is None:
        return f"{text} Connect the adapter to learn how much of it the network reads."
    depth = movement[coarse_index.cpu(), 2].abs()
    count = int((depth > SEEN_MM).sum())
    text += (
        f" Depth that the network reads ({len(depth)} vertices): {depth.mean():.2f} mm "
        f"in the mean, {depth.amax():.2f} mm at most, {count} of them moved."
    )
    if not count:
        text += (
            " WARNING: this edit moves no depth that the network reads, so it cannot show in the "
            "video."
        )
    return text
