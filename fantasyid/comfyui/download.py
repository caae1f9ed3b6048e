"""The downloader under the host: its folders, its progress bar, its stop button."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ..weights.download import files, present
from . import messages

ASK = "Nothing was fetched. Read the licenses, then switch accept_licence on and run again."


def model_folders() -> dict[str, list[Path]]:
    """The host's folders that are searched for model files, by their names."""
    names = {item.folder for item in files.FILES}
    return {name: [Path(p) for p in folder_paths.get_folder_paths(name)] for name in names}


def download(name: str, mirror: str, accept_licence: bool) -> str:
    """Fetch the missing files behind a name; says what is there now.

    An interrupt stops it; the next run goes on from there. Without `accept_licence` nothing is
    fetched, and the text says what there would be to fetch and under which licenses.

    Raises:
        ValueError: There is no such name.
        OSError: Something could not be had; the message says of every file what became of it.
    """
    items, places = files.chosen(name), model_folders()
    substitutes = name == files.EVERYTHING
    missing = present.missing(items, places, substitutes=substitutes)
    if not accept_licence and any(not item.registration for item in missing):
        return f"{present.offer(missing, places)}\n{ASK}"
    # Here, not above: what reaches the network is imported when somebody has asked for it.
    from ..weights.download import provide

    downloader = provide.Downloader(mirror, messages.on_bar())
    outcomes = downloader.provide(items, places, substitutes=substitutes)
    text = "\n".join(outcome.text for outcome in outcomes)
    by_hand = {item.name for item in items if item.registration}
    if any(not outcome.ok and outcome.name not in by_hand for outcome in outcomes):
        raise OSError(text)
    return text


def fingerprint(name: str) -> str:
    """Changes with the files behind a name, so that one that was deleted is noticed."""
    places = model_folders()
    try:
        found = [(item.name, present.find(item, places)) for item in files.chosen(name)]
    except ValueError:
        return f"{name}: unknown"
    return repr([(item, path and (path, path.stat().st_mtime_ns)) for item, path in found])
