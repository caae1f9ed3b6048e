"""The numbers of all videos: a row for each, and the paper's Table 2 for each variant."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..metrics.measurement import YAW_BINS
from .journal import Journal
from .making import FAILED, MADE
from .measuring import BY_YAW, COLUMNS
from .plan import Job
from .run import measured_key
from .statistics import Estimate, bootstrap_mean
from .variants import FULL, VARIANTS

# Name, direction that is better, and decimals of each column.
SHOWN = {"rs": ("RS", "↑", 3), "ifs": ("IFS", "↑", 3), "fm": ("FM", "↑", 3), "fid": ("FID", "↓", 1)}
YAW_HEADS = tuple(f"{title} {low:.0f} to {high:.0f}°" for title, (low, high) in YAW_BINS.items())
HEADS = tuple(f"{title} {arrow}" for title, arrow, _ in SHOWN.values())


@dataclass(frozen=True, slots=True)
class Row:
    """One video."""

    job: str  # its id
    reference: str  # file name of the photo
    prompt: int  # number of the prompt, from 1
    seed: int  # of the noise
    variant: str  # key of `VARIANTS`
    # Cosine to the reference; None where nobody measured it, as for the next three.
    rs: float | None
    ifs: float | None  # cosine to the frame before
    fm: float | None  # motion, percent of the face's size per frame
    fid: float | None  # of the face crops
    rs_frontal: float | None  # RS of frames by |yaw|, see `measurement.YAW_BINS`
    rs_half: float | None
    rs_profile: float | None
    faces: int  # frames with a face
    frames: int  # all frames; 0 where there is no video
    note: str  # why something is not there; "" for nothing
    video_sha256: str  # of the file; "" where there is no video
    latent_sha256: str  # of the file
    failed: bool  # whether the video cannot be made


@dataclass(frozen=True)
class Summary:
    """All videos of one variant."""

    variant: str  # key of `VARIANTS`
    videos: int  # how many there are
    failed: int  # how many could not be made; they are in no mean
    faces: int  # frames with a face, of all videos
    frames: int  # all frames
    means: dict[str, Estimate]  # per column
    # Per column, to the full model, over the pairs of videos with the same photo, prompt and seed;
    # none for the full model itself.
    differences: dict[str, Estimate]
    pooled_fid: float | None = None  # of the face crops of all videos together


def make_rows(jobs: Iterable[Job], journal: Journal, meter: str) -> list[Row]:
    """A row for each job, in order."""
    return [_row(job, journal, meter) for job in jobs]


def _row(job: Job, journal: Journal, meter: str) -> Row:
    state = journal.last("job", job.id) or {}
    values = journal.last("measured", measured_key(job, meter)) or {}
    if state.get("state") == FAILED:
        note, values = f"no video: {state['reason']}", {}
    elif not values:
        note = "not measured yet" if state.get("state") == MADE else "not made yet"
    else:
        note = values["note"]
    made = state if state.get("state") == MADE else {}
    return Row(
        job=job.id,
        reference=job.reference.name,
        prompt=job.prompt_number,
        seed=job.seed,
        variant=job.variant,
        rs=values.get("rs"),
        ifs=values.get("ifs"),
        fm=values.get("fm"),
        fid=values.get("fid"),
        **{name: values.get(name) for name in BY_YAW},
        faces=values.get("faces", 0),
        frames=values.get("frames", 0),
        note=note,
        video_sha256=made.get("video", ""),
        latent_sha256=made.get("latent", ""),
        failed=state.get("state") == FAILED,
    )


def summarize(
    rows: Sequence[Row], pooled: Mapping[str, float | None] | None = None
) -> list[Summary]:
    """One summary for each variant, in the order of `VARIANTS`.

    Args:
        rows: One per video.
        pooled: Variant -> its FID over all videos together.
    """
    full = {(r.reference, r.prompt, r.seed): r for r in rows if r.variant == FULL}
    found = []
    for variant in VARIANTS:
        own = [row for row in rows if row.variant == variant]
        if not own:
            continue
        pairs = [(r, full.get((r.reference, r.prompt, r.seed))) for r in own if variant != FULL]
        found.append(
            Summary(
                variant,
                sum(row.frames > 0 for row in own),
                sum(row.failed for row in own),
                sum(row.faces for row in own),
                sum(row.frames for row in own),
                {n: bootstrap_mean([getattr(r, n) for r in own]) for n in (*COLUMNS, *BY_YAW)},
                {name: bootstrap_mean(_differences(pairs, name)) for name in COLUMNS}
                if variant != FULL and full
                else {},
                (pooled or {}).get(variant),
            )
        )
    return found


def _differences(pairs: Iterable[tuple[Row, Row | None]], name: str) -> list[float | None]:
    values = []
    for row, other in pairs:
        ours, theirs = getattr(row, name), None if other is None else getattr(other, name)
        values.append(None if ours is None or theirs is None else ours - theirs)
    return values


def shown_value(row: Row, name: str) -> str:
    """A value of one video, as a table shows it."""
    value = getattr(row, name)
    return "-" if value is None else f"{value:.{SHOWN[name][2]}f}"


def shown(estimate: Estimate | None, name: str, sign: str = "") -> str:
    """A mean with its interval, as a table shows it."""
    if estimate is None or estimate.mean is None:
        return "-"
    decimals = SHOWN[name][2]
    text = f"{estimate.mean:{sign}.{decimals}f}"
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} [{estimate.low:{sign}.{decimals}f}, {estimate.high:{sign}.{decimals}f}]"


Table = tuple[Sequence[str], list[list[str]]]


def main_table(summaries: Sequence[Summary]) -> Table:
    """Heads and lines: Table 2's columns for each variant."""
    lines = [
        [
            VARIANTS[s.variant].title,
            *(shown(s.means[name], name) for name in COLUMNS),
            f"{s.faces} of {s.frames}",
            f"{s.videos}" + f" ({s.failed} failed)" * (s.failed > 0),
        ]
        for s in summaries
    ]
    return ("", *HEADS, "faces found", "videos"), lines


def yaw_table(summaries: Sequence[Summary]) -> Table:
    """Heads and lines: likeness by where the head looks, and FID pooled over all videos."""
    lines = [
        [
            VARIANTS[s.variant].title,
            *(shown(s.means[name], "rs") for name in BY_YAW),
            "-" if s.pooled_fid is None else f"{s.pooled_fid:.1f}",
        ]
        for s in summaries
    ]
    return ("", *(f"RS {head}" for head in YAW_HEADS), "FID, pooled"), lines


def difference_table(summaries: Sequence[Summary]) -> Table:
    """Heads and lines: the differences of the other variants to the full model."""
    lines = [
        [VARIANTS[s.variant].title, *(shown(s.differences[n], n, "+") for n in COLUMNS)]
        for s in summaries
        if s.differences
    ]
    return ("", *HEADS), lines


def as_markdown(summaries: Sequence[Summary]) -> str:
    """Both tables."""
    text, differences = _lines(main_table(summaries)), difference_table(summaries)
    text += f"\n{_lines(yaw_table(summaries))}"
    if differences[1]:
        text += "\nDifference to the full model, same photo, prompt and seed:\n\n"
        text += _lines(differences)
    return text


def _lines(table: Table) -> str:
    heads, rows = table
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def as_csv(rows: Sequence[Row]) -> str:
    """A line for each video; a cell is empty where there is nothing to measure.

    A file name that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Row.__dataclass_fields__)
    for row in rows:
        writer.writerow(_cell(value) for value in asdict(row).values())
    return text.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return "" if value is None else value


def as_json(rows: Sequence[Row], summaries: Sequence[Summary], facts: dict[str, Any]) -> str:
    """Everything in one, for programs."""
    content = {
        **facts,
        "variants": [asdict(summary) for summary in summaries],
        "videos": [asdict(row) for row in rows],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
