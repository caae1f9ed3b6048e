"""Words and pictures on a node: what a stage did, where the user looks."""

from __future__ import annotations

import logging
from typing import Any

import comfy.model_management
import comfy.utils
from comfy_api.latest import ui
from torch import Tensor

from ..weights.progress import MB, Report, Step


def on_node(text: str, image: Tensor | None = None, node: Any = None) -> dict[str, Any]:
    """The `ui` value of a node: a text, which also goes to the log, and a picture if there is one.

    `web/fantasyid.js` writes the text on the node.

    Args:
        text: One or two sentences.
        image: `(B, H, W, 3)` in [0, 1].
        node: The node class, for the picture's metadata.
    """
    logging.info("FantasyID: %s", text)
    shown: dict[str, Any] = {"text": (text,)}
    if image is not None:
        shown |= ui.PreviewImage(image, cls=node).as_dict()
    return shown


def on_bar() -> Report:
    """Shows the steps of work on files on the host's progress bar; its stop button ends them."""
    shown = [("", 0)]
    bars: list[comfy.utils.ProgressBar] = []

    def report(step: Step) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        now = (step.words, step.done // MB)
        if not step.total or shown == [now]:  # reports come far more often than there is news
            return
        if shown[0][0] != step.words:
            bars[:] = [comfy.utils.ProgressBar(step.total // MB + 1)]
        shown[:] = [now]
        bars[0].update_absolute(now[1])

    return report
