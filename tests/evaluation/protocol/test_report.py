"""Rows, means, differences and the page, from journals written by hand."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from fantasyid.evaluation.protocol.html import make_report
from fantasyid.evaluation.protocol.journal import Journal
from fantasyid.evaluation.protocol.plan import Job, Reference
from fantasyid.evaluation.protocol.table import as_csv, as_json, as_markdown, make_rows, summarize

FACTS = {"command": "python -m it --set 'a<b'", "missing": ["No FID: <so>."], "prompts": ["a <b>"]}
ATTRIBUTES = {"lang", "charset", "name", "content", "class", "alt", "src"}


def job(tmp_path, name, variant="full"):
    reference = Reference(f"{name}.png", tmp_path / f"{name}.png", f"hash of {name}")
    return Job(f"{name}-{variant}", reference, 1, FACTS["prompts"][0], 5, variant, {})


def values(**known):
    given = dict.fromkeys(("rs", "ifs", "fm", "fid")) | {"faces": 8, "frames": 9, "note": ""}
    return given | known


@pytest.fixture
def rows(tmp_path):
    """Two people with all values, one whose video failed, one that waits; an ablation of two."""
    journal = Journal(tmp_path / "journal.jsonl")
    jobs = [job(tmp_path, name) for name in ("ann", "bea", "<cid>", "dan")]
    jobs += [job(tmp_path, name, "no-face-tokens") for name in ("ann", "<cid>")]
    for item in (jobs[0], jobs[1], jobs[4], jobs[5]):
        journal.add("job", item.id, state="made", video="a1", latent="b2", size=1)
    journal.add("job", jobs[2].id, state="failed", reason="no face found & so on", final=True)
    measured = {0: values(rs=0.5, fm=1.0), 1: values(rs=0.7, fm=3.0), 4: values(rs=0.2, fm=2.0)}
    measured[5] = values(rs=0.9, note="no RS: why")
    for number, known in measured.items():
        journal.add("measured", f"{jobs[number].id} meter", **known)
    return make_rows(jobs, journal, "meter")


def test_means_are_of_what_was_measured_and_failures_are_counted(rows):
    full, other = summarize(rows)
    assert (full.videos, full.failed, full.faces, full.frames) == (2, 1, 16, 18)
    assert full.means["rs"].mean == pytest.approx(0.6)
    assert full.means["rs"].count == 2
    assert full.means["fid"].mean is None
    assert full.differences == {}
    # ann alone is in both; nobody knows the full model's value for <cid>.
    assert other.differences["rs"].mean == pytest.approx(-0.3)
    assert other.differences["rs"].count == other.differences["fm"].count == 1
    assert other.means["rs"].mean == pytest.approx(0.55)


def test_the_notes_say_what_became_of_each(rows):
    assert [row.note for row in rows] == [
        "",
        "",
        "no video: no face found & so on",
        "not made yet",
        "",
        "no RS: why",
    ]


def test_likeness_is_told_by_view_and_fid_over_all_videos(tmp_path):
    journal, jobs = Journal(tmp_path / "journal.jsonl"), [job(tmp_path, n) for n in ("ann", "bea")]
    for item, profile in zip(jobs, (0.2, None), strict=True):
        journal.add("job", item.id, state="made", video="a1", latent="b2", size=1)
        known = values(rs=0.5, rs_frontal=0.6, rs_half=0.4, rs_profile=profile)
        journal.add("measured", f"{item.id} meter", **known)
    lines = as_markdown(summarize(make_rows(jobs, journal, "meter"), {"full": 12.34})).splitlines()
    head = next(n for n, line in enumerate(lines) if "profile" in line)
    assert "RS frontal 0 to 15°" in lines[head]
    frontal, half, profile, pooled = [cell.strip() for cell in lines[head + 2].split("|")[2:-1]]
    assert (frontal[:5], half[:5], profile, pooled) == ("0.600", "0.400", "0.200", "12.3")


def test_the_table_has_the_papers_columns(rows):
    lines = as_markdown(summarize(rows)).splitlines()
    assert lines[0] == "|  | RS ↑ | IFS ↑ | FM ↑ | FID ↓ | faces found | videos |"
    assert lines[2] == (
        "| FantasyID | 0.600 [0.500, 0.700] | - | 2.000 [1.000, 3.000] | - | 16 of 18 | "
        "2 (1 failed) |"
    )
    assert lines[-1] == "| without face tokens | -0.300 | - | +1.000 | - |"


def test_files_for_programs_hold_every_row_and_no_made_up_zero(rows):
    table = list(csv.DictReader(io.StringIO(as_csv(rows))))
    assert [row["rs"] for row in table] == ["0.5", "0.7", "", "", "0.2", "0.9"]
    assert table[2]["reference"] == "<cid>.png"
    formula = [replace(rows[0], reference="=HYPERLINK(1).png", rs=-0.5)]
    (cells,) = csv.DictReader(io.StringIO(as_csv(formula)))
    assert (cells["reference"], cells["rs"]) == ("'=HYPERLINK(1).png", "-0.5")
    content = json.loads(as_json(rows, summarize(rows), {"seeds": [5]}))
    assert content["videos"][3]["fm"] is None
    assert content["variants"][0]["means"]["rs"]["high"] == pytest.approx(0.7)
    assert content["seeds"] == [5]


class Page(HTMLParser):
    """All tags, attributes and texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def test_the_page_stands_alone_and_says_everything(rows, tmp_path):
    sheet = tmp_path / "sheet.jpg"
    sheet.write_bytes(b"\xff\xd8 a picture")
    facts = {**FACTS, "seeds": [5], "references_sha256": {"ann's.png": "0123abcd"}}
    text = make_report(rows, summarize(rows), facts, {"ann-full": sheet}, "today <now>")
    page = Page(text)
    assert not {"script", "link", "iframe", "b>"} & set(page.tags)
    assert {name for name, _ in page.attributes} <= ATTRIBUTES
    (source,) = (value for name, value in page.attributes if name == "src")
    assert source is not None
    assert base64.b64decode(source.removeprefix("data:image/jpeg;base64,")) == sheet.read_bytes()
    assert not re.search(r"https?://|url\(", text)
    for words in (
        "4 of 6 videos measured, 1 failed.",
        "Written today <now>.",
        "No FID: <so>.",
        "0.600 [0.500, 0.700]",
        "a <b>",
        "no video: no face found & so on",
        '"ann\'s.png": "0123abcd"',
        "python -m it --set 'a<b'",
        "videos/ann-full.mp4: SHA-256 a1, latent b2",
        "interval of 95% by bootstrap over videos (10000 resamples, seed 0)",
    ):
        assert words in page.text
