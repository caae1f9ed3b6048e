"""Inputs that several nodes have: their choices and ranges in one place."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..fantasyid.comfyui import files
from ..fantasyid.face import recognizer as recognizers
from ..fantasyid.face import sources
from . import types


def share(
    name: str, default: float, tooltip: str, most: float = 1.0, step: float = 0.05, **more: Any
) -> io.Float.Input:
    """A number from 0 to `most`."""
    return io.Float.Input(
        name, default=default, min=0.0, max=most, step=step, tooltip=tooltip, **more
    )


def file(name: str, kind: files.FileKind, tooltip: str) -> io.Combo.Input:
    """A drop-down of the files that are there; where there is none, the name of the usual one."""
    found = files.model_choices() if kind is files.MODEL else files.file_choices(kind)
    usual: dict[str, Any] = {} if found else {"default": kind.example or kind.hint[0]}
    return io.Combo.Input(name, options=found, tooltip=tooltip, **usual)


def face(tooltip: str, name: str = "face", **more: Any) -> io.MultiType.Input:
    """A face: aligned, or an image."""
    return io.MultiType.Input(name, types=[types.Face, io.Image], tooltip=tooltip, **more)


def detector(tooltip: str) -> io.Combo.Input:
    """Who looks for faces."""
    return io.Combo.Input("detector", options=list(sources.DETECTORS), tooltip=tooltip)


def face_model(tooltip: str) -> io.Input:
    """The host's face detector, in place of `detector`."""
    kind = io.Custom("FACE_DETECTION_MODEL")
    return kind.Input("face_detection_model", optional=True, tooltip=tooltip)


def recognizer(tooltip: str) -> io.Combo.Input:
    """Who tells faces apart."""
    return io.Combo.Input("recogniser", options=list(recognizers.CHOICES), tooltip=tooltip)
