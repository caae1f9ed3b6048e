"""NaN, infinity or nothing at all: refused before a node begins, with the input's name.

The host compares a number with the least and the most that a node takes, and NaN is neither below
nor above anything. One NaN in a dial, in pixels or in an identity makes a black video.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from ..identity import FaceCrops, FaceGeometry, FaceTokens, Identity

_OURS = (Identity, FaceTokens, FaceGeometry, FaceCrops)


def refuse_what_is_no_number(node: Any) -> Any:
    """Let a node look at its inputs before it executes.

    Args:
        node: A node class; it is changed, once.

    Returns:
        The same class. Its `execute` raises ValueError where an input holds NaN or infinity, or no
        picture.
    """
    execute = node.execute.__func__
    if hasattr(execute, "__wrapped__"):
        return node

    @functools.wraps(execute)
    def checked(cls: Any, *args: Any, **inputs: Any) -> Any:
        for name, value in inputs.items():
            if isinstance(value, Tensor) and not value.numel():
                raise ValueError(
                    f"{name} is empty, its shape is {tuple(value.shape)}: look at the node that it "
                    "comes from"
                )
            for where in _strange(value):
                raise ValueError(
                    f"{name}{where} has values that are not numbers (NaN or infinity): set it "
                    "anew, or look at the node that it comes from"
                )
        return execute(cls, *args, **inputs)

    node.execute = classmethod(checked)
    return node


def _strange(value: Any, where: str = "") -> Iterator[str]:
    """Where a value is not finite; "" for the value itself."""
    if isinstance(value, float):
        if not math.isfinite(value):
            yield where
    elif isinstance(value, Tensor):
        if not is_finite(value):
            yield where
    elif isinstance(value, dict):
        for key in ("samples", "noise_mask", "waveform"):
            yield from _strange(value.get(key), f"{where} ({key})")
    elif is_dataclass(value) and isinstance(value, _OURS):
        for field in fields(value):
            yield from _strange(getattr(value, field.name), f"{where} ({field.name})")


def is_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinity; in no more memory than the values take."""
    if not values.is_floating_point() or not values.numel():
        return True
    wide = values if values.dtype.itemsize > 1 else values.half()  # fp8 cannot be compared
    return all(bool(value.isfinite()) for value in wide.aminmax())
