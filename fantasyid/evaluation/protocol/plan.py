"""Which videos are to be made: references x prompts x seeds x variants."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...views.photos import list_files, read_photo
from ...weights.fingerprint import sha256_of_file
from .hashes import sha256_of_value
from .variants import edited
from .workflow import DIALS, FOLDER, Graph, for_video, set_input, with_names

ID_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Reference:
    """A photo of a person."""

    name: str  # of its file
    path: Path  # of its file
    sha256: str  # of its file

    @property
    def name_on_host(self) -> str:
        """Of the uploaded photo, which is always a PNG."""
        return f"{self.sha256[:ID_DIGITS]}.png"


@dataclass(frozen=True)
class Job:
    """One video."""

    id: str  # of the photo's content, the prompt, and every setting of the workflow
    reference: Reference  # the person
    prompt_number: int  # from 1
    prompt: str  # text
    seed: int  # of the noise
    variant: str  # a key of `variants.VARIANTS`
    graph: Graph  # what the host is sent


@dataclass(frozen=True)
class JobSettings:
    """What all videos share."""

    seeds: Sequence[int]  # one video for each
    variants: Sequence[str]  # keys of `variants.VARIANTS`
    share_layer: int  # see `variants.edited`
    dials: Mapping[str, Any]  # of `workflow.DIALS`; None leaves the workflow's value
    inputs: Mapping[tuple[str, str], Any]  # node class and input -> value, for everything else


def read_references(folder: Path) -> list[Reference]:
    """The photos of a folder; of several equal files the first.

    Raises:
        FileNotFoundError, ValueError: The folder or one of its files cannot be used.
    """
    found: dict[str, Reference] = {}
    for path in list_files(folder):
        try:
            read_photo(path)
        except ValueError as error:
            raise ValueError(f"the folder of references holds what is no photo: {error}") from error
        sha256 = sha256_of_file(path)
        found.setdefault(sha256, Reference(path.name, path, sha256))
    return list(found.values())


def read_prompts(path: Path) -> list[str]:
    """One prompt per line; empty lines and those that begin with # do not count.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It holds no prompt, or is not UTF-8.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of prompts {path}")
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: save it as UTF-8") from error
    prompts = list(dict.fromkeys(x for x in lines if x and not x.startswith("#")))
    if not prompts:
        raise ValueError(f"{path} holds no prompt: write one per line")
    return prompts


def with_settings(workflow: Graph, settings: JobSettings) -> Graph:
    """A copy of the workflow with the settings that all videos share.

    Raises:
        ValueError: A setting has no place in the workflow.
    """
    graph = copy.deepcopy(workflow)
    for name, value in settings.dials.items():
        if value is not None:
            set_input(graph, *DIALS[name], value)
    for (class_type, name), value in settings.inputs.items():
        set_input(graph, class_type, name, value)
    return graph


def make_plan(
    graph: Graph, references: Sequence[Reference], prompts: Sequence[str], settings: JobSettings
) -> list[Job]:
    """All videos; those that the host can make quickly one after the other are neighbours.

    Args:
        graph: From `with_settings`.
        references: Each meets every prompt.
        settings: Seeds and variants.

    Raises:
        ValueError: The workflow does not fit a variant.
    """
    graphs = {v: edited(graph, v, settings.share_layer) for v in dict.fromkeys(settings.variants)}
    jobs = []
    for reference in references:
        photo = f"{FOLDER}/{reference.name_on_host}"
        for number, prompt in enumerate(prompts, 1):
            for seed in dict.fromkeys(settings.seeds):
                for variant, base in graphs.items():
                    bare = for_video(base, photo, prompt, seed)
                    key = sha256_of_value(with_names(bare, ""))[:ID_DIGITS]
                    sent = with_names(bare, key)
                    jobs.append(Job(key, reference, number, prompt, seed, variant, sent))
    return jobs
