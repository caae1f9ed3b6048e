"""Reading the sizes of a module from the shapes of its weights: every `Config.from_shapes`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

Shapes = Mapping[str, Sequence[int]]


class ShapeReader:
    """Shapes by name, with complaints that name the module, the entry and what was expected.

    Args:
        shapes: Shape by name.
        owner: What the shapes belong to ("face abstractor"), for errors.
        prefix: Put before every name.
    """

    def __init__(self, shapes: Shapes, owner: str, prefix: str = "") -> None:
        self.shapes, self.owner, self.prefix = shapes, owner, prefix

    def axes(self, name: str, *expected: int | None) -> tuple[int, ...]:
        """The shape of one entry, checked.

        Args:
            expected: One number per axis; None where every size is allowed.

        Raises:
            ValueError: The entry is missing or has another shape.
        """
        words = "(" + ", ".join("any" if n is None else str(n) for n in expected) + ")"
        name = self.prefix + name
        if name not in self.shapes:
            raise self.error(f"{name} is missing: expected a tensor of shape {words}")
        found = tuple(self.shapes[name])
        if len(found) != len(expected) or any(
            e is not None and e != n for e, n in zip(expected, found, strict=True)
        ):
            raise self.error(f"{name} has shape {found}, expected {words}")
        return found

    def size(self, name: str, *expected: int | None) -> int:
        """The one free axis of an entry: the size that stands where `expected` has None."""
        return self.axes(name, *expected)[expected.index(None)]

    def count(self, pattern: str) -> int:
        """How many numbered entries there are; `pattern` has `{}` for the number, as prefix.

        Raises:
            ValueError: There is none, or the numbering 0, 1, 2, ... has a gap.
        """
        start, _, rest = (self.prefix + pattern).partition("{}")
        numbered = re.compile(rf"{re.escape(start)}(\d+){re.escape(rest)}")
        numbers = {int(m[1]) for name in self.shapes if (m := numbered.match(name))}
        if not numbers or numbers != set(range(len(numbers))):
            raise self.error(
                f"{self.prefix}{pattern} is not numbered 0, 1, 2, ... without a gap: "
                f"found {sorted(numbers)[:8]}"
            )
        return len(numbers)

    def below(self, prefix: str) -> ShapeReader:
        """A reader of the entries whose names begin with `prefix`."""
        return ShapeReader(self.shapes, self.owner, self.prefix + prefix)

    def multiple(self, what: str, size: int, of: int) -> int:
        """`size / of`.

        Raises:
            ValueError: It does not come out even.
        """
        if size % of or not size:
            raise self.error(f"{what} is {size} wide, expected a multiple of {of}")
        return size // of

    def error(self, words: str) -> ValueError:
        """A complaint about these shapes."""
        return ValueError(f"{self.owner}: {words}")
