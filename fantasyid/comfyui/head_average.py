"""One head from several readings of one person, with the words that go with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..combine import parse_weights
from ..face.quality import SOFT
from ..geometry.average import average, average_vertices, clearness, frontality, shares
from ..geometry.flame import NUM_EXPRESSION, NUM_SHAPE
from ..geometry.head_frame import lay_onto
from ..identity import FaceGeometry
from .heads import known_triangles
from .weights import load_to_device


def average_geometry(
    geometries: Sequence[FaceGeometry], method: str, weights: str, deca: Any | None
) -> tuple[FaceGeometry, str]:
    """One head from several readings of one person.

    With the head model, and shape components in every reading, the components are averaged and
    FLAME makes the neutral head of them. Otherwise the vertices are averaged, laid onto each
    other, in the pose of the first.

    Args:
        geometries: The readings, of one or several heads each; empty ones are left out.
        method: One of `average.METHODS`.
        weights: For "weighted": one number per head, empty ones included; "" weighs by frontality
            times sharpness.
        deca: `weights.Deca`, or None.

    Returns:
        The head and a report; an empty head where all readings are empty.

    Raises:
        ValueError: Nothing is connected, or the weights do not fit.
    """
    if not geometries:
        raise ValueError("connect at least one head")
    given = [head for geometry in geometries for head in _single_heads(geometry)]
    numbers = [number for number, head in enumerate(given) if not head.empty_reason]
    if not numbers:
        reason = given[0].empty_reason
        return FaceGeometry.empty(reason), f"There is no head to average: {reason}."
    heads = [given[number] for number in numbers]
    if method == "weighted" and weights.strip():
        share, words = _typed_shares(weights, len(given), numbers)
    else:
        share, words = _measured_shares(heads, numbers, method)
    components = [head.betas.cpu() for head in heads if head.betas is not None]
    alike = len(components) == len(heads) and len({c.shape for c in components}) == 1
    if alike and deca is not None:
        made = _from_betas(average(torch.cat(components), method, share), deca)
        how = "FLAME shape components, neutral pose"
    else:
        vertices = average_vertices([head.head for head in heads], method, share)
        found = (known_triangles(head, deca=deca) for head in heads)
        triangles = next((joined for joined in found if joined is not None), None)
        made = FaceGeometry(vertices[None], triangles, None, "")
        how = "vertices, in the pose of the first head"
    report = f"{method} of {len(heads)} heads ({how}). {_spread(heads, made)}{words}"
    if len(numbers) < len(given):
        report += f" {len(given) - len(numbers)} empty left out."
    return replace(made, source=f"{method} of {len(heads)} heads, {how}"), report


def _single_heads(geometry: FaceGeometry) -> list[FaceGeometry]:
    """The heads of a geometry, each on its own; an empty one stays as it is."""
    count = geometry.vertices.shape[0]
    if count < 2:
        return [geometry]
    return [
        replace(
            geometry,
            vertices=geometry.vertices[i : i + 1],
            betas=None if geometry.betas is None else geometry.betas[i : i + 1],
            sharpness=geometry.sharpness[i : i + 1],
        )
        for i in range(count)
    ]


def _typed_shares(text: str, count: int, numbers: Sequence[int]) -> tuple[Tensor, str]:
    """The weights that somebody typed, of the heads that are there, and words."""
    weights = parse_weights(text)
    if len(weights) != count:
        raise ValueError(f"weights: {len(weights)} given for {count} heads; write one per head")
    there = torch.tensor([weights[number] for number in numbers], dtype=torch.float64)
    if min(weights) < 0 or not there.sum() > 0:
        raise ValueError(
            "weights: expected numbers of 0 or more, not all of them 0 for the heads that are there"
        )
    share = shares(there)
    return share, _weight_words(share, numbers, [""] * len(share))


def _measured_shares(
    heads: Sequence[FaceGeometry], numbers: Sequence[int], method: str
) -> tuple[Tensor | None, str]:
    """The weights that the heads themselves give, and words; None where a method has none."""
    if method not in ("weighted", "by frontality"):
        return None, ""
    ahead = frontality([head.head for head in heads])
    reasons = [f"frontality {score:.2f}" for score in ahead.tolist()]
    unknown = [
        number + 1 for number, head in zip(numbers, heads, strict=True) if not head.sharpness
    ]
    if method == "by frontality" or unknown:
        share = shares(ahead)
        words = _weight_words(share, numbers, reasons)
        if method == "weighted":
            words += (
                f" The sharpness of head {', '.join(map(str, unknown))} is not known (it is "
                "measured on aligned crops), so frontality alone counts."
            )
        return share, words
    sharp = [head.sharpness[0] for head in heads]
    share = shares(ahead, clearness(sharp, SOFT))
    reasons = [f"{r}, sharpness {value:.3f}" for r, value in zip(reasons, sharp, strict=True)]
    return share, _weight_words(share, numbers, reasons)


def _weight_words(share: Tensor, numbers: Sequence[int], reasons: Sequence[str]) -> str:
    each = [
        f"head {number + 1} {weight:.2f}" + (f" ({reason})" if reason else "")
        for number, weight, reason in zip(numbers, share.tolist(), reasons, strict=True)
    ]
    return f" Weights: {'; '.join(each)}."


def _from_betas(betas: Tensor, deca: Any) -> FaceGeometry:
    """The neutral head of `(100,)` shape components."""
    device = load_to_device(deca.flame)
    shape = betas[None, :NUM_SHAPE].to(device, torch.float32)
    at_rest = shape.new_zeros(1, NUM_EXPRESSION), shape.new_zeros(1, 6)
    vertices = deca.flame.model(shape, *at_rest).cpu()
    return FaceGeometry(vertices, deca.flame.model.triangles.cpu(), betas[None], "")


def _spread(heads: Sequence[FaceGeometry], made: FaceGeometry) -> str:
    """How far each reading lies from the average once pose is taken out, in a sentence."""
    target = made.vertices[0].double()
    apart = [
        float(torch.linalg.vector_norm(lay_onto(head.head, target) - target, dim=1).mean()) * 1000
        for head in heads
    ]
    words = ", ".join(f"{distance:.2f}" for distance in apart)
    return f"Mean distance of each from the result: {words} mm."
