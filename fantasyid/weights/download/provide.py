"""Fetches the model files that are missing, one after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .content import why_wrong
from .fetch import Remote, check_space, fetch, free_bytes
from .files import HubFile, ModelFile, in_words
from .hubs import choose_hub, list_files
from .part import Part
from .present import Places, explain, find, target_of, why_useless
from .transport import DownloadError, Patience, Report, ignore

TRANSFORMER_FOLDERS = ("transformer_ema", "transformer")  # the first wins, as in the loader


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a model file.

    Attributes:
        name: The file's name in the table.
        ok: Whether it can be used now.
        text: A sentence for people.
    """

    name: str
    ok: bool
    text: str


@dataclass(frozen=True, slots=True)
class Way:
    """How files are fetched.

    Attributes:
        mirror: One of `files.MIRRORS`.
        environment: HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE are read from it.
        report: Called often; an exception that it raises stops everything, which can be resumed.
        patience: Timeouts and retries.
        free: Free bytes in a folder.
    """

    mirror: str = "huggingface"
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    report: Report = ignore
    patience: Patience = field(default_factory=Patience)
    free: Callable[[Path], int] = free_bytes


def provide(
    items: Iterable[ModelFile], places: Places, way: Way, *, substitutes: bool = False
) -> list[Outcome]:
    """Fetch what is missing; a failure with one file does not stop the others.

    Files that are there are never touched. The licences are the caller's to show and to ask for.

    Args:
        items: What is wanted.
        places: Where it is looked for, and where it goes.
        way: How to fetch.
        substitutes: Whether a file that does the same work will do.
    """
    lists: dict[str, dict[str, Remote]] = {}
    outcomes = []
    for item in items:
        there = find(item, places, substitutes=substitutes)
        try:
            if there is not None:
                outcomes.append(_there(item, there))
            elif item.registration:
                outcomes.append(Outcome(item.name, False, explain(item, places)))
            else:
                outcomes.append(_fetch(item, places, way, lists))
        except (OSError, ValueError) as error:
            outcomes.append(Outcome(item.name, False, f"{item.name}: {error}"))
    return outcomes


def _there(item: ModelFile, path: Path) -> Outcome:
    problem = why_useless(path)
    if problem is None:
        return Outcome(item.name, True, f"{item.name}: there, {path}")
    return Outcome(
        item.name, False, f"{item.name}: {problem}. It was not touched: delete it and run again"
    )


def _fetch(
    item: ModelFile, places: Places, way: Way, lists: dict[str, dict[str, Remote]]
) -> Outcome:
    target = target_of(item, places)
    remotes = _remotes(item, target, way, lists)
    new = {path: remote for path, remote in remotes.items() if not path.exists()}
    sizes = [(remote.size or 0) - Part(path).length() for path, remote in new.items()]
    check_space(target, sum(sizes), way.free)
    for path, remote in new.items():
        fetch(
            remote,
            path,
            why_wrong=lambda part: why_wrong(part, item.kind),
            report=way.report,
            patience=way.patience,
            free=way.free,
        )
    if find(item, places) is None:
        raise DownloadError(
            f"{target} is still not complete: files that were there do not belong to this model; "
            "move them away and run again"
        )
    hashed = sum(bool(remote.sha256) for remote in new.values())
    checked = f"SHA-256 of {hashed} of {len(new)} files checked, size and format of all"
    size = in_words(sum(remote.size or 0 for remote in new.values()))
    return Outcome(item.name, True, f"{item.name}: {size} fetched into {target} ({checked})")


def _remotes(
    item: ModelFile, target: Path, way: Way, lists: dict[str, dict[str, Remote]]
) -> dict[Path, Remote]:
    """Final paths to what belongs there.

    Raises:
        DownloadError: The mirror has it not.
    """
    hub = choose_hub(way.mirror, way.environment)
    if item.link is not None:
        return {target: Remote(item.link.url, item.link.size, item.link.sha256)}
    source = item.modelscope if hub.is_modelscope else item.huggingface
    if source is None:
        raise DownloadError(f"it is not on {way.mirror} under a known name: choose another mirror")
    if source.repo not in lists:
        lists[source.repo] = list_files(hub, source.repo, report=way.report, patience=way.patience)
    return _pick(source, target, lists[source.repo])


def _pick(source: HubFile, target: Path, listed: Mapping[str, Remote]) -> dict[Path, Remote]:
    if source.path:
        if source.path not in listed:
            raise DownloadError(
                f"{source.repo} has no {source.path} any more: it was moved or renamed; fetch it "
                "with a browser"
            )
        return {target: listed[source.path]}
    for folder in TRANSFORMER_FOLDERS:
        inside = [p for p in listed if p.rpartition("/")[0] == folder]
        weights = next(
            (found for s in (".safetensors", ".bin") if (found := _ending(inside, s))), []
        )
        if weights:
            # Tables first: an index names the shards that are still missing.
            return {target / p: listed[p] for p in [*_ending(inside, ".json"), *weights]}
    raise DownloadError(
        f"{source.repo} has no folder transformer with weights: fetch the model with a browser"
    )


def _ending(paths: Iterable[str], suffix: str) -> list[str]:
    return sorted(path for path in paths if path.endswith(suffix))
