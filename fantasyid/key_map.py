"""Names of weights on disk and in our modules, translated both ways by one table."""

from __future__ import annotations

import re
from collections.abc import Iterable

_FIELD = re.compile(r"\{(\w)(\+1)?\}|\*")


class KeyMap:
    """Released names to ours and back.

    Args:
        rules: Pairs of a released and of our name with the same fields: `{i}` (any letter) is a
            number, `{i+1}` the same number counted from 1, `*` any rest. The first rule that fits
            counts, so that several released names may have one of ours: the first is written.
    """

    def __init__(self, rules: Iterable[tuple[str, str]]) -> None:
        pairs = list(rules)
        self._read = [(_regex(released), released, ours) for released, ours in pairs]
        self._write = [(_regex(ours), ours, released) for released, ours in pairs]

    def to_ours(self, released: str) -> str | None:
        """Our name of a released one; None for one that is not of this map."""
        return _translate(released, self._read)

    def to_released(self, ours: str) -> str | None:
        """The released name of one of ours; None for one that is not of this map."""
        return _translate(ours, self._write)


def _regex(template: str) -> re.Pattern[str]:
    pattern, end = "", 0
    for field in _FIELD.finditer(template):
        number = r"[1-9]\d*" if field[2] else r"0|[1-9]\d*"
        group = f"(?P<{field[1]}>{number})" if field[1] else "(?P<rest>.+)"
        pattern += re.escape(template[end : field.start()]) + group
        end = field.end()
    return re.compile(pattern + re.escape(template[end:]))


def _translate(name: str, rules: list[tuple[re.Pattern[str], str, str]]) -> str | None:
    for regex, source, target in rules:
        found = regex.fullmatch(name)
        if found is not None:
            return _FIELD.sub(lambda field: _written(field[1], found, source, target), target)  # noqa: B023
    return None


def _written(letter: str | None, found: re.Match[str], source: str, target: str) -> str:
    if letter is None:
        return found["rest"]
    from_one = f"{{{letter}+1}}"
    return str(int(found[letter]) + (from_one in target) - (from_one in source))
