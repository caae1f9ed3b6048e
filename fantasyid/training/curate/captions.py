"""What a clip shows, in words: from a file beside it, or from a captioner of the user's choice."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path

from ..config_file import ConfigError
from .store import Store, key_of


def read_sidecar(path: Path) -> tuple[str, str]:
    """Caption and person of a clip, from `clip.txt` or `clip.json` beside it; "" where unknown."""
    for suffix in (".json", ".txt"):
        beside = path.with_suffix(suffix)
        try:
            text = beside.read_text("utf-8")
            found = json.loads(text) if suffix == ".json" else {"caption": text}
            caption, person = (str(found.get(key) or "").strip() for key in ("caption", "person"))
        except (OSError, ValueError, AttributeError):
            continue
        if caption:
            return " ".join(caption.split()), person
    return "", ""


def open_captioner(name: str) -> Callable[[str], str] | None:
    """The user's function.

    Raises:
        ConfigError: It cannot be imported.
    """
    if not name:
        return None
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"curate.captioner is {name!r}, expected module:function ({error})"
        ) from error


def described(
    path: Path, content: str, name: str, captioner: Callable[[str], str], store: Store
) -> tuple[str, str]:
    """A captioner's words for a file, asked for once; or none, and why."""
    key = key_of(content, name)
    caption = store.read("caption", key)
    if caption is None:
        try:
            caption = " ".join(str(captioner(str(path)) or "").split())
        except Exception as error:  # noqa: BLE001 (the user's own code; the clip says why)
            return "", f"{name}: {type(error).__name__}: {error}"
        store.write("caption", key, caption)
    return caption, ""
