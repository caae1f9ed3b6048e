"""The folders of a ComfyUI that is not running, from its files alone."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..weights.download.present import Places, folders_below

EXTRA_PATHS = "extra_model_paths.yaml"
OLDER_NAMES = {"clip": "text_encoders", "unet": "diffusion_models"}


def places_of(models: Path, extra_paths: Path | None = None) -> Places:
    """Which folders are searched for which kind of file.

    Args:
        models: The host's folder `models`.
        extra_paths: Its extra_model_paths.yaml, where there is one.

    Raises:
        ValueError: The yaml file cannot be read.
    """
    found = folders_below(models)
    for name, folder in extra_folders(extra_paths) if extra_paths else ():
        target = OLDER_NAMES.get(name, name)
        if target in found and folder not in found[target]:
            found[target].append(folder)
    return found


def extra_folders(path: Path) -> list[tuple[str, Path]]:
    """Folder names and folders of an extra_model_paths.yaml, read as the host reads it.

    Raises:
        ValueError: It cannot be read; says why.
    """
    if find_spec("yaml") is None:
        raise ValueError(
            f"{path} was not read: the package pyyaml is missing; run the doctor with "
            "ComfyUI's own Python"
        )
    import yaml

    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} cannot be read: {first}") from error
    if content is None:
        return []
    if not isinstance(content, dict):
        raise ValueError(f"{path} cannot be read: it is no table of folders")
    found: list[tuple[str, Path]] = []
    for section in content.values():
        if isinstance(section, dict):
            found += _section(section, path.absolute().parent)
    return found


def _section(section: dict[Any, Any], beside: Path) -> list[tuple[str, Path]]:
    base = os.path.expandvars(os.path.expanduser(str(section.get("base_path", ""))))
    found = []
    for name, lines in section.items():
        if name in ("base_path", "is_default") or not isinstance(lines, str):
            continue
        for line in filter(None, lines.split("\n")):
            found.append((str(name), Path(os.path.normpath(beside / base / line))))
    return found
