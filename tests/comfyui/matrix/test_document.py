"""docs/compatibility.md says what the tests check, no more and no less."""

from __future__ import annotations

import compatibility
import pytest

pytestmark = pytest.mark.slow


def test_every_combination_has_a_test_and_every_test_a_combination():
    assert compatibility.problems() == []
    assert set(compatibility.noted_by_tests()) <= set(compatibility.COMBINATIONS)


def test_the_document_has_every_combination_and_nothing_else():
    """The results come from a run; everything else must be what is checked now."""
    text = compatibility.DOCUMENT.read_text("utf-8")
    first = text.split("\n## ", 1)[0]
    table = [line for line in first.splitlines() if line.startswith("| ")][1:]
    assert len(table) == len(compatibility.COMBINATIONS)
    for row, name in zip(table, compatibility.COMBINATIONS, strict=True):
        start, remark, tests = compatibility.fixed_cells(name)
        end = f" | {remark} | {tests} |"
        assert row.startswith(start), f"run python tests/compatibility.py: {name}"
        assert row.endswith(end), f"run python tests/compatibility.py: {name}"
        result = row.removeprefix(start).removesuffix(end).strip()
        assert result, name
        fixed = compatibility.COMBINATIONS[name].get("result")
        assert fixed is None or result == fixed
    for row in compatibility.window_rows():
        assert f"{row}\n" in text, "run python tests/compatibility.py"
    for items in compatibility.CONTENT["lists"].values():
        for item in items:
            assert f"- {item}\n" in text, "run python tests/compatibility.py"


def test_an_unknown_combination_is_not_kept():
    measured = compatibility.Measured()
    measured.note("EasyCache", "1 of 2")
    with pytest.raises(AssertionError, match=r"combinations\.json does not list SlowCache"):
        measured.note("SlowCache", "1 of 2")
    assert measured.results == {"EasyCache": {"": "1 of 2"}}
