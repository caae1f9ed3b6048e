"""Fetches the model files that are missing, one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..progress import Report, in_words
from ..read import TRANSFORMER_FOLDERS
from .fetch import check_space, fetch, part_of, size_of
from .files import ModelFile
from .hubs import Remote, endpoint_of, list_files
from .present import Places, defect_of, explain, find, target_of
from .retry import DownloadError, Retry
from .validate import validate_content


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a model file."""

    name: str  # the file's name in the table
    ok: bool  # whether it can be used now
    text: str  # a sentence for people


@dataclass(frozen=True, slots=True)
class Downloader:
    """Fetches from one mirror; the environment tells endpoint, token and proxies."""

    mirror: str = "huggingface"  # one of `files.MIRRORS`
    # Called often; an exception that it raises stops everything, which can be resumed.
    report: Report = lambda _: None
    retry: Retry = field(default_factory=Retry)  # timeouts and attempts

    def provide(
        self, items: Iterable[ModelFile], places: Places, *, substitutes: bool = False
    ) -> list[Outcome]:
        """Fetch what is missing; a failure with one file does not stop the others.

        Files that are there are never touched. The licenses are the caller's to show and ask for.

        Args:
            places: Where it is looked for, and where it goes.
            substitutes: Whether a file that does the same work will do.
        """
        lists: dict[str, dict[str, Remote]] = {}
        outcomes = []
        for item in items:
            there = find(item, places, substitutes=substitutes)
            try:
                if there is not None:
                    ok, text = defect_of(there) is None, f"there, {there}"
                    if not ok:
                        text = f"{defect_of(there)}. It was not touched: delete it and run again"
                elif item.registration:
                    ok, text = False, explain(item, places)
                else:
                    ok, text = True, self._fetch(item, places, lists)
            except (OSError, ValueError) as error:
                ok, text = False, str(error)
            outcomes.append(Outcome(item.name, ok, f"{item.name}: {text}"))
        return outcomes

    def _fetch(self, item: ModelFile, places: Places, lists: dict[str, dict[str, Remote]]) -> str:
        target = target_of(item, places)
        remotes = self._remotes(item, target, lists)
        new = {path: remote for path, remote in remotes.items() if not path.exists()}
        check_space(target, sum(r.size - size_of(part_of(p, r.sha256)) for p, r in new.items()))
        for path, remote in new.items():
            fetch(remote, path, lambda p: validate_content(p, item.kind), self.report, self.retry)
        if find(item, places) is None:
            raise DownloadError(
                f"{target} is still not complete: files that were there do not belong to this "
                "model; move them away and run again"
            )
        hashed = sum(bool(remote.sha256) for remote in new.values())
        checked = f"SHA-256 of {hashed} of {len(new)} files checked, size and format of all"
        size = in_words(sum(remote.size for remote in new.values()))
        return f"{size} fetched into {target} ({checked})"

    def _remotes(
        self, item: ModelFile, target: Path, lists: dict[str, dict[str, Remote]]
    ) -> dict[Path, Remote]:
        """Final paths to what belongs there.

        Raises:
            DownloadError: The mirror has it not.
        """
        endpoint_of(self.mirror)  # HF_HUB_OFFLINE counts for every address
        if item.url:
            return {target: Remote(item.url, item.size, item.sha256)}
        source = item.modelscope if self.mirror == "modelscope" else item.huggingface
        if not source:
            raise DownloadError(
                f"it is not on {self.mirror} under a known name: choose another mirror"
            )
        owner, name, *path = source.split("/")
        repo = f"{owner}/{name}"
        if repo not in lists:
            lists[repo] = list_files(self.mirror, repo, self.report, self.retry)
        return _pick(repo, "/".join(path), target, lists[repo])


def _pick(repo: str, path: str, target: Path, listed: Mapping[str, Remote]) -> dict[Path, Remote]:
    if path:
        if path not in listed:
            raise DownloadError(
                f"{repo} has no {path} any more: it was moved or renamed; fetch it with a browser"
            )
        return {target: listed[path]}
    for folder in TRANSFORMER_FOLDERS:
        inside = [p for p in listed if p.rpartition("/")[0] == folder]
        weights = next(
            (found for s in (".safetensors", ".bin") if (found := _ending(inside, s))), []
        )
        if weights:
            # Tables first: an index names the shards that are still missing.
            return {target / p: listed[p] for p in [*_ending(inside, ".json"), *weights]}
    raise DownloadError(
        f"{repo} has no folder transformer with weights: fetch the model with a browser"
    )


def _ending(paths: Iterable[str], suffix: str) -> list[str]:
    return sorted(path for path in paths if path.endswith(suffix))
