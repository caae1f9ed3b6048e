"""What the doctor found: a level, a topic, a sentence, and the facts behind it for scripts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

# From good to bad. An error stops a run; a warning makes its result worse or slower.
OK, NOTE, WARNING, ERROR = "ok", "note", "warning", "error"
LEVELS = (OK, NOTE, WARNING, ERROR)
# Plain letters: a console of another alphabet cannot show signs.
MARKS = {OK: "ok", NOTE: "note", WARNING: "WARNING", ERROR: "ERROR"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: One of `LEVELS`.
        topic: What it is about: "file", "package", "host", "memory", "positions", ...
        sentence: For people, with what to do about it.
        facts: The same for scripts; values that JSON can hold.
    """

    level: str
    topic: str
    sentence: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(f'the level is "{self.level}", expected one of {", ".join(LEVELS)}')


def worst(findings: Sequence[Finding]) -> str:
    """The worst level; "ok" of nothing."""
    return max((f.level for f in findings), key=LEVELS.index, default=OK)


def exit_code(findings: Sequence[Finding]) -> int:
    """1 where something stops the main job, else 0."""
    return int(worst(findings) == ERROR)


def summary(findings: Sequence[Finding]) -> str:
    """How many findings of each bad level there are, in a sentence."""
    counts = {level: sum(f.level == level for f in findings) for level in (ERROR, WARNING)}
    if not any(counts.values()):
        return "Nothing is wrong."
    parts = [f"{n} {level}{'s' * (n > 1)}" for level, n in counts.items() if n]
    return f"Found {' and '.join(parts)}."


def as_text(findings: Sequence[Finding]) -> str:
    """The summary, then a line per finding, worst first."""
    ordered = sorted(findings, key=lambda f: -LEVELS.index(f.level))
    lines = [f"{MARKS[f.level]} ({f.topic}): {f.sentence}" for f in ordered]
    return "\n".join([summary(findings), *lines])


def as_json(findings: Sequence[Finding]) -> str:
    """Everything, as `{"level", "exit_code", "findings": [...]}`."""
    content = {
        "level": worst(findings),
        "exit_code": exit_code(findings),
        "findings": [asdict(f) for f in findings],
    }
    return json.dumps(content, indent=2)
