"""Words and pictures on a node: what a stage did, where the user looks."""

from __future__ import annotations

import logging
from typing import Any

from comfy_api.latest import ui
from server import PromptServer
from torch import Tensor


def on_node(
    text: str, node_id: str | None = None, image: Tensor | None = None, node: Any = None
) -> dict[str, Any]:
    """The `ui` value of a node: a text, and a picture where there is one.

    The text also goes to the log, and to the node itself while the prompt runs.

    Args:
        text: One or two sentences.
        node_id: The node to write on.
        image: `(B, H, W, 3)` in [0, 1].
        node: The node class, for the picture's metadata.
    """
    logging.info("FantasyID: %s", text)
    if node_id is not None and getattr(PromptServer, "instance", None) is not None:
        PromptServer.instance.send_progress_text(text, node_id)
    shown: dict[str, Any] = {"text": (text,)}
    if image is not None:
        shown |= ui.PreviewImage(image, cls=node).as_dict()
    return shown
