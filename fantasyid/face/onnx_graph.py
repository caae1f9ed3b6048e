"""A small convolutional network from its ONNX file, in plain torch: no package is needed for it.

Only what such networks are made of is read: convolutions, maxima, sums, doublings, and the way
from maps to rows. Nothing in the file is run; everything it claims is compared with its bytes.
Source: ONNX's published message definitions (onnx.proto), protocol buffers' wire format.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, max_pool2d

MOST_BYTES = 2_000_000  # YuNet has 0.3; each byte may cost a step
_FLOAT = 1
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
_KNOWN = {"Conv", "MaxPool", "Resize", "Upsample", "Add", "Transpose", "Reshape", "Relu", "Sigmoid"}
# What only computes shapes: rows come out as long as their map is deep.
_SHAPE_WORK = {"Shape", "Gather", "Unsqueeze", "Concat", "Constant", "Cast", "Slice"}


@dataclass(frozen=True, slots=True)
class Step:
    """One node of the graph."""

    kind: str
    inputs: tuple[str, ...]
    output: str
    numbers: dict[str, tuple[int, ...]] = field(default_factory=dict)  # its whole-number attributes


class Network:
    """An ONNX file of a fully convolutional network.

    Args:
        path: The file.

    Raises:
        ValueError: It is no ONNX file, cut short, or holds something that is not known here.
        OSError: It cannot be read.

    Attributes:
        weights: Its tensors by name.
        outputs: Names of what it gives.
    """

    def __init__(self, path: Path) -> None:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"{path} has more than {MOST_BYTES} bytes")
        try:
            graph = next(
                (memoryview(v) for n, v in _fields(memoryview(path.read_bytes())) if n == 7), None
            )
            if graph is None:
                raise ValueError("no graph in it")
            self.weights, self._steps, self.outputs = _read_graph(graph)
        except (ValueError, TypeError, RuntimeError) as error:
            raise ValueError(f"{path} is no ONNX file of a known kind: {error}") from error

    def __call__(self, picture: Tensor) -> dict[str, Tensor]:
        """What the network says of `(1, C, H, W)`, by the names of its outputs.

        Rows are `(1, cells, C)`.
        """
        known = self.weights | {self._steps[0].inputs[0]: picture}
        for step in self._steps:
            known[step.output] = _apply(step, known)
        return {name: known[name] for name in self.outputs}


def _apply(step: Step, known: dict[str, Tensor]) -> Tensor:
    x, *more = (known[name] for name in step.inputs if name in known)
    numbers = step.numbers
    if step.kind == "Conv":
        (top, left, *_), stride = numbers.get("pads", (0, 0)), numbers.get("strides", (1, 1))
        groups = numbers.get("group", (1,))[0]
        bias = more[1] if len(more) > 1 else None
        return conv2d(x, more[0], bias, stride, (top, left), groups=groups)
    if step.kind == "MaxPool":
        return max_pool2d(x, numbers["kernel_shape"], numbers.get("strides"))
    if step.kind in ("Resize", "Upsample"):
        return interpolate(x, scale_factor=2.0, mode="nearest")
    if step.kind == "Add":
        return x + more[0]
    if step.kind == "Transpose":
        return x.permute(numbers["perm"])
    if step.kind == "Reshape":
        return x.reshape(x.shape[0], -1, x.shape[-1])
    return {"Relu": torch.relu, "Sigmoid": torch.sigmoid}[step.kind](x)


def _read_graph(graph: memoryview) -> tuple[dict[str, Tensor], list[Step], tuple[str, ...]]:
    weights, steps, outputs = {}, [], []
    for number, value in _fields(graph):
        if number == 1:
            steps.append(_read_step(value))
        elif number == 5:
            name, tensor = _read_tensor(value)
            if tensor is not None:
                weights[name] = tensor
        elif number == 12:
            outputs += [_text(v) for n, v in _fields(value) if n == 1]
    strange = sorted({s.kind for s in steps} - _KNOWN - _SHAPE_WORK)
    if strange:
        raise ValueError(f"it has steps {', '.join(strange)}")
    work = [s for s in steps if s.kind in _KNOWN]
    missing = set(outputs) - {s.output for s in work}
    if missing or not work:
        raise ValueError(f"nothing makes its output {', '.join(sorted(missing)[:1])}")
    return weights, work, tuple(outputs)


def _read_step(data: memoryview) -> Step:
    inputs, outputs, kind, numbers = [], [], "", {}
    for number, value in _fields(data):
        if number == 1:
            inputs.append(_text(value))
        elif number == 2:
            outputs.append(_text(value))
        elif number == 4:
            kind = _text(value)
        elif number == 5:
            parts = list(_fields(value))
            name = next((_text(v) for n, v in parts if n == 1), "")
            numbers[name] = tuple(_whole_numbers(v for n, v in parts if n in (3, 8)))
    if not outputs or (not inputs and kind not in _SHAPE_WORK):
        raise ValueError(f"a step {kind} leads nowhere")
    return Step(kind, tuple(inputs), outputs[0], numbers)


def _read_tensor(data: memoryview) -> tuple[str, Tensor | None]:
    """Name and values of a float tensor; None for others, which are shapes."""
    shape, kind, name, raw = [], 0, "", memoryview(b"")
    for number, value in _fields(data):
        if number == 1:
            shape += _whole_numbers([value])
        elif number == 2:
            kind = value
        elif number == 8:
            name = _text(value)
        elif number in (4, 9):
            raw = value
    if kind != _FLOAT:
        return name, None
    if min(shape, default=1) < 0 or len(raw) != 4 * math.prod(shape):
        raise ValueError(f"the tensor {name} of shape {shape} has {len(raw)} bytes")
    values = torch.frombuffer(bytearray(raw), dtype=torch.float32) if len(raw) else torch.empty(0)
    return name, values.reshape(shape)


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """Field numbers of a message with their values: a number, or bytes."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        wire = tag & 7
        if wire == _VARINT:
            value, place = _varint(data, place)
            yield tag >> 3, value
            continue
        size = {_EIGHT: 8, _FOUR: 4}.get(wire)
        if wire == _BYTES:
            size, place = _varint(data, place)
        if size is None or place + size > len(data):
            raise ValueError(f"it is cut short or damaged at byte {place} of a message")
        yield tag >> 3, data[place : place + size]
        place += size


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            break
        byte, place = data[place], place + 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("a number in it has no end")


def _whole_numbers(values: Any) -> Iterator[int]:
    """Repeated numbers, packed into bytes or one by one."""
    for value in values:
        if isinstance(value, int):
            yield value
            continue
        place = 0
        while place < len(value):
            number, place = _varint(value, place)
            yield number


def _text(value: Any) -> str:
    return bytes(value).decode("utf-8")
