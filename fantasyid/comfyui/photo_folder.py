"""The folder of photos that a person types, and what stands in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths

from ..face.sources import FaceSources
from ..views.collection import ViewRules
from ..views.photos import list_files
from .collect import CollectedViews, collect_photos, collect_views


def find_folder(text: str) -> Path:
    """The folder that is meant: a whole path, or one below the host's input folder.

    Args:
        text: As typed or pasted; quotes around it are left out.

    Raises:
        FileNotFoundError: It is not there; names the place where it was looked for.
    """
    typed = text.strip().strip("\"'")
    root = Path(folder_paths.get_input_directory())
    path = root / Path(typed).expanduser()  # a whole path stays what it is
    if path.is_dir():
        return path
    what = "is a file, not a folder" if path.exists() else "is not there"
    raise FileNotFoundError(
        f'The folder of photos "{typed}" {what}. Looked at: {path}. Give a folder below {root}, '
        "or a whole path."
    )


def why_no_folder(text: str | None) -> str | None:
    """The sentence of `find_folder`'s error; None when it is there, empty, or from a link."""
    try:
        if text and text.strip():
            find_folder(text)
    except FileNotFoundError as error:
        return str(error)
    return None


def folder_fingerprint(text: str | None) -> str:
    """Changes with the photos in a folder, so that the host's cache notices."""
    if not text or not text.strip():
        return ""
    try:
        stats = [(p.name, p.stat()) for p in list_files(find_folder(text))]
    except (OSError, ValueError) as error:  # said when the node runs
        return str(error)
    return repr([(name, s.st_size, s.st_mtime_ns) for name, s in stats])


def collect_either(
    clip: Any, folder: str, sources: FaceSources, rules: ViewRules, policy: str
) -> CollectedViews:
    """Views from a clip or from a folder, whichever is given.

    Raises:
        ValueError: Neither or both are given; see also `collect_views` and `collect_photos`.
        FileNotFoundError: The folder is not there.
    """
    if folder.strip():
        if clip is not None:
            raise ValueError(
                f'both a clip and the folder "{folder.strip()}" are given: disconnect the clip or '
                "empty the folder"
            )
        return collect_photos(find_folder(folder), sources, rules, policy)
    if clip is None:
        raise ValueError("nothing to look at: connect a clip, or give a folder of photos")
    return collect_views(clip, sources, rules, policy)
