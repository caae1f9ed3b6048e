"""Heads changed and averaged, with the words and pictures that go with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..face.quality import SOFT
from ..geometry.average import (
    METHODS,
    average,
    average_vertices,
    clearness,
    frontality,
    parse_weights,
    shares,
)
from ..geometry.compare import compare_heads
from ..geometry.edit import (
    SIDES,
    SLIDERS_MM,
    HeadEdit,
    ShapeModel,
    describe,
    edit_vertices,
    measure,
    parse_components,
)
from ..geometry.flame import NUM_EXPRESSION, NUM_SHAPE
from ..geometry.head_frame import SKIN, rigid_fit
from ..identity import FaceGeometry
from .heads import geometry_triangles
from .weights import load_to_device

__all__ = [
    "METHODS",
    "SIDES",
    "SLIDERS_MM",
    "HeadEdit",
    "average_geometry",
    "edit_geometry",
    "parse_components",
]


def edit_geometry(
    geometry: FaceGeometry,
    edit: HeadEdit,
    size: int,
    second: FaceGeometry | None = None,
    deca: Any | None = None,
    adapter: Any | None = None,
) -> tuple[FaceGeometry, Tensor, str]:
    """Change a head and show what it did.

    Args:
        geometry: The head; an empty one is handed on with its reason.
        edit: What to change.
        size: Edge of each picture.
        second: The head to blend in.
        deca: `weights.Deca`, for shape components.
        adapter: `weights.Adapter`, for what the network reads.

    Returns:
        The changed head, a picture `(1, H, W, 3)`, and a report.

    Raises:
        ValueError: Something that the edit needs is missing.
    """
    if geometry.empty_reason:
        return geometry, _blank(size), f"There is no head to edit: {geometry.empty_reason}."
    if edit.blend and second is not None and second.empty_reason:
        raise ValueError(f"blend: the second head is empty: {second.empty_reason}")
    before = geometry.head
    other = None if second is None or second.empty_reason else second.head
    after = edit_vertices(before, edit, other, None if deca is None else _shape_model(deca))
    coarse = None if adapter is None else adapter.tables.coarse_index
    report = describe(measure(before, after, coarse))
    triangles = geometry_triangles(geometry, adapter, deca)
    if triangles is None:
        views = _blank(size)
        report += " No picture: connect the adapter or the head model, which know the triangles."
    else:
        views = compare_heads(before, after, triangles, coarse, size)
    if torch.equal(before, after):
        return geometry, views, report
    edited = replace(
        geometry,
        vertices=after[None],
        triangles=triangles,
        betas=_edited_betas(geometry, edit, second),
        source=f"{geometry.source}, edited",
    )
    return edited, views, report


def _blank(size: int) -> Tensor:
    return torch.full((1, size, size, 3), 0.93)


def _shape_model(deca: Any) -> ShapeModel:
    flame = deca.flame.model
    return ShapeModel(flame.v_template.detach().cpu().float(), flame.shapedirs.detach().cpu())


def _edited_betas(
    geometry: FaceGeometry, edit: HeadEdit, second: FaceGeometry | None
) -> Tensor | None:
    """The shape components of an edited head, as far as components can say what was done."""
    betas = geometry.betas
    if betas is None or any(edit.sliders.values()) or edit.side != SIDES[0]:
        return None
    if any(number >= betas.shape[1] for number, _ in edit.components):
        return None
    edited = betas.clone()
    for number, value in edit.components:
        edited[:, number] += edit.amount * value
    if edit.blend:
        if second is None or second.betas is None:
            return None
        edited += edit.amount * edit.blend * (second.betas - betas)
    return edited


def average_geometry(
    geometries: Sequence[FaceGeometry], method: str, weights: str, deca: Any | None
) -> tuple[FaceGeometry, str]:
    """One head from several readings of one person.

    With the head model, and shape components in every reading, the components are averaged and
    FLAME makes the neutral head of them. Otherwise the vertices are averaged, laid onto each
    other, in the pose of the first.

    Args:
        geometries: The readings, of one or several heads each; empty ones are left out.
        method: One of `METHODS`.
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
    betas = _stacked_betas(heads)
    if betas is not None and deca is not None:
        made = _from_betas(average(betas, method, share), deca)
        how = "FLAME shape components, neutral pose"
    else:
        vertices = average_vertices([head.head for head in heads], method, share)
        made = FaceGeometry(vertices[None], _any_triangles(heads, deca), None, "")
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
    share = parse_weights(text, count)[list(numbers)]
    if not share.sum() > 0:
        raise ValueError("weights: every head that is there has the weight 0")
    share = shares(share)
    return share, _weight_words(share, numbers, [""] * len(share))


def _measured_shares(
    heads: Sequence[FaceGeometry], numbers: Sequence[int], method: str
) -> tuple[Tensor | None, str]:
    """The weights that the heads themselves give, and words; None where a method has none."""
    if method not in ("weighted", "by frontality"):
        return None, ""
    ahead = frontality([head.head for head in heads])
    looks = [f"frontality {score:.2f}" for score in ahead.tolist()]
    unknown = [
        number + 1 for number, head in zip(numbers, heads, strict=True) if not head.sharpness
    ]
    if method == "by frontality" or unknown:
        share = shares(ahead)
        words = _weight_words(share, numbers, looks)
        if method == "weighted":
            words += (
                f" The sharpness of head {', '.join(map(str, unknown))} is not known (it is "
                "measured on aligned crops), so frontality alone counts."
            )
        return share, words
    sharp = [head.sharpness[0] for head in heads]
    share = shares(ahead, clearness(sharp, SOFT))
    told = [f"{look}, sharpness {value:.3f}" for look, value in zip(looks, sharp, strict=True)]
    return share, _weight_words(share, numbers, told)


def _weight_words(share: Tensor, numbers: Sequence[int], reasons: Sequence[str]) -> str:
    each = [
        f"head {number + 1} {weight:.2f}" + (f" ({reason})" if reason else "")
        for number, weight, reason in zip(numbers, share.tolist(), reasons, strict=True)
    ]
    return f" Weights: {'; '.join(each)}."


def _stacked_betas(heads: Sequence[FaceGeometry]) -> Tensor | None:
    """`(N, S)`, or None where a head has none or another number."""
    found = [head.betas for head in heads if head.betas is not None]
    if len(found) < len(heads) or len({betas.shape for betas in found}) > 1:
        return None
    return torch.cat([betas.cpu() for betas in found])


def _any_triangles(heads: Sequence[FaceGeometry], deca: Any | None) -> Tensor | None:
    found = (geometry_triangles(head, deca=deca) for head in heads)
    return next((triangles for triangles in found if triangles is not None), None)


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
    distances = []
    for head in heads:
        turn, shift = rigid_fit(head.head[SKIN], target[SKIN])
        laid = head.head.double() @ turn.T + shift
        distances.append(float(torch.linalg.vector_norm(laid - target, dim=1).mean()) * 1000)
    words = ", ".join(f"{distance:.2f}" for distance in distances)
    return f"Mean distance of each from the result: {words} mm."
