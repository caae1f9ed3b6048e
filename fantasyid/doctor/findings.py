"""What the doctor found: a level, a topic, a sentence, and the facts behind it for scripts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Level = Literal["ok", "note", "warning", "error"]
# From good to bad. An error stops a run; a warning makes its result worse or slower.
LEVELS: tuple[Level, ...] = ("ok", "note", "warning", "error")
OK, NOTE, WARNING, ERROR = LEVELS
# Plain letters: a console of another alphabet cannot show signs.
MARKS = {OK: "ok", NOTE: "note", WARNING: "WARNING", ERROR: "ERROR"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level  # one of `LEVELS`
    topic: str  # what it is about: "file", "package", "host", "memory", "positions", ...
    sentence: str  # for people, with what to do about it
    # The same for scripts; values that JSON can hold.
    facts: Mapping[str, Any] = field(default_factory=dict)


def worst(findings: Sequence[Finding]) -> Level:
    """The worst level; "ok" of nothing."""
    return LEVELS[max((LEVELS.index(f.level) for f in findings), default=0)]


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
