"""docs/fidelity.md is whole and up to date, and says no more than the tests hold."""

from __future__ import annotations

import pytest


def test_the_document_has_every_stage_and_tolerance(report):
    """The errors come from a run; everything else must be what the code says now."""
    text = report.DOCUMENT.read_text("utf-8")
    for stage, described in report.STAGES.items():
        for tensor in described["tensors"]:
            start = f"| {stage} | {tensor} |"
            (row,) = [line for line in text.splitlines() if line.startswith(start)]
            cells = [cell.strip() for cell in row.split("|")[3:-1]]
            for kind, cell in zip(report.COLUMNS, cells, strict=True):
                if kind in described["dtypes"]:
                    assert float(cell) <= described["dtypes"][kind]["tolerance"], row
                else:
                    assert cell == "", row
    for row in (*report.tolerance_rows(), *report.paper_rows()):
        assert row in text, "run python tests/golden/report.py"


def test_the_document_has_every_released_behaviour(report):
    text = report.DOCUMENT.read_text("utf-8")
    rows = list(report.behaviour_rows())
    assert len(rows) > 10
    for row in rows:
        assert row in text, "run python tests/golden/report.py"
    assert text.count("| [") == len(rows), "run python tests/golden/report.py"


def test_every_released_behaviour_is_held_by_a_test(report):
    problems = [p for b in report.released_behaviours() for p in report.problems_of(b)]
    assert problems == []
    assert set(report.HOLDERS) == {b.sentence for b in report.released_behaviours()}


def test_an_error_beyond_its_tolerance_fails(report):
    measured = report.Measured()
    measured.check("mesh tables", "exact", {"choice of 314 vertices": 0.0})
    with pytest.raises(AssertionError, match="mesh tables in exact: beyond 0"):
        measured.check("mesh tables", "exact", {"choice of 314 vertices": 1e-9})
    with pytest.raises(AssertionError, match="injector in float32: beyond 1e-05"):
        measured.check("injector", "torch.float32", {"residual, batch 1": float("nan")})
    with pytest.raises(AssertionError, match="does not list"):
        measured.check("mesh tables", "exact", {"spirals": 0.0})


def test_sentences_are_cut_out_of_comments_and_docstrings(report):
    text = '''class A:
    def b(self):
        """Do.

        Released behavior: one
        sentence here. And more.
        """
        # Released behavior: a comment
        # of two lines
        return 1  # Released behavior: too
'''
    assert list(report._tagged(text)) == [
        ("A.b", "one sentence here."),
        ("A.b", "a comment of two lines"),
        ("A.b", "too"),
    ]
