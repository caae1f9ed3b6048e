"""The report: one HTML file with everything in it, which opens from the disk without a script."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .measuring import COLUMNS
from .statistics import LEVEL, RESAMPLES, SEED
from .table import SHOWN, Row, Summary, shown
from .variants import VARIANTS

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 84rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #8884; }
th:first-child, td:first-child { text-align: left; }
td { font-variant-numeric: tabular-nums; }
code, pre { font: 13px/1.45 ui-monospace, monospace; overflow-wrap: anywhere; }
pre { white-space: pre-wrap; }
img { max-width: 100%; display: block; margin: .3rem 0 1.2rem; }
.video { break-inside: avoid; } .note { color: #b35900; } .muted { opacity: .7; }
"""


def make_report(
    rows: Sequence[Row],
    summaries: Sequence[Summary],
    facts: dict[str, Any],
    sheets: dict[str, Path],
    made_at: str,
) -> str:
    """The page.

    Args:
        rows: One per video.
        summaries: One per variant.
        facts: Settings and hashes, as in the JSON.
        sheets: Id of a job -> its contact sheet.
        made_at: Date and time; the only thing in it that another run has different.
    """
    missing = "".join(f"<p class=note>{_text(words)}</p>" for words in facts["missing"])
    done = sum(row.frames > 0 for row in rows)
    failed = sum(row.note.startswith("no video") for row in rows)
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        '<meta name=viewport content="width=device-width"><title>FantasyID evaluation</title>',
        f"<style>{_STYLE}</style><h1>FantasyID evaluation</h1>",
        f"<p>{done} of {len(rows)} videos measured, {failed} failed. "
        f"<span class=muted>Written {_text(made_at)}.</span></p>",
        missing,
        _main_table(summaries),
        _difference_table(summaries),
        _video_table(rows),
        "<h2>Contact sheets</h2>",
        *(_video(row, facts["prompts"], sheets.get(row.job)) for row in rows),
        _repeat(facts),
        "</html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _main_table(summaries: Sequence[Summary]) -> str:
    rows = [
        [
            VARIANTS[s.variant].title,
            *(shown(s.means[name], name) for name in COLUMNS),
            f"{s.faces} of {s.frames}",
            str(s.videos),
            str(s.failed),
        ]
        for s in summaries
    ]
    heads = ["", *_column_heads(), "faces found", "videos", "failed"]
    words = (
        f"<p>Means over videos; in brackets the interval of {LEVEL:.0%} by bootstrap over videos "
        f"({RESAMPLES} resamples, seed {SEED}). RS: cosine of the face to the reference; IFS: to "
        "the frame before; FM: motion of the face in percent of its size per frame; FID: of the "
        "face crops of each video against photos of real faces. Frames without a face and videos "
        "that could not be made are left out and counted, never taken for zero.</p>"
    )
    return "<h2>Results</h2>" + words + _table(heads, rows)


def _difference_table(summaries: Sequence[Summary]) -> str:
    rows = [
        [VARIANTS[s.variant].title, *(shown(s.differences[n], n, "+") for n in COLUMNS)]
        for s in summaries
        if s.differences
    ]
    if not rows:
        return ""
    words = (
        "<p>Difference to the full model, over pairs of videos with the same photo, prompt and "
        "seed. The paper trained a model for each row; here one trained model runs without a "
        "part, and only without vertex tokens is a row of its Table 3.</p>"
    )
    return "<h2>Ablations</h2>" + words + _table(["", *_column_heads()], rows)


def _video_table(rows: Sequence[Row]) -> str:
    cells = [
        [
            row.reference,
            str(row.prompt),
            str(row.seed),
            VARIANTS[row.variant].title,
            *(_number(getattr(row, name), name) for name in COLUMNS),
            f"{row.faces} of {row.frames}" if row.frames else "-",
            row.note,
        ]
        for row in rows
    ]
    heads = ["reference", "prompt", "seed", "variant", *_column_heads(), "faces found", "note"]
    return "<h2>Videos</h2>" + _table(heads, cells)


def _video(row: Row, prompts: Sequence[str], sheet: Path | None) -> str:
    title = f"{row.reference}, prompt {row.prompt}, seed {row.seed}, {VARIANTS[row.variant].title}"
    parts = [f"<b>{_text(title)}</b>"]
    parts.append(f"<div class=muted>{_text(prompts[row.prompt - 1])}</div>")
    values = [f"{SHOWN[n][0]} {_number(getattr(row, n), n)}" for n in COLUMNS]
    if row.frames:
        values.append(f"faces found in {row.faces} of {row.frames} frames")
        parts.append(f"<div>{', '.join(values)}</div>")
    if row.note:
        parts.append(f"<div class=note>{_text(row.note)}</div>")
    if row.video_sha256:
        latent = f", latent {row.latent_sha256}" if row.latent_sha256 else ""
        parts.append(f"<code>videos/{row.job}.mp4: SHA-256 {row.video_sha256}{latent}</code>")
    if sheet is not None and sheet.is_file():
        data = base64.b64encode(sheet.read_bytes()).decode()
        parts.append(f'<img alt="{_text(title)}" src="data:image/jpeg;base64,{data}">')
    return f"<div class=video>{''.join(parts)}</div>"


def _repeat(facts: dict[str, Any]) -> str:
    """What a second person needs."""
    shown_facts = {k: v for k, v in facts.items() if k not in ("command", "prompts", "missing")}
    prompts = "".join(f"<li>{_text(prompt)}" for prompt in facts["prompts"])
    return (
        "<h2>To repeat it</h2><p>Compare the hashes of photos, model files and code below with "
        "yours, then run</p>"
        f"<pre>{_text(facts['command'])}</pre>"
        f"<h3>Prompts</h3><ol>{prompts}</ol>"
        "<details><summary>Settings, files, versions and the workflow</summary>"
        f"<pre>{_text(json.dumps(shown_facts, indent=1, ensure_ascii=False))}</pre></details>"
    )


def _column_heads() -> list[str]:
    return [f"{title} {arrow}" for title, arrow, _ in SHOWN.values()]


def _number(value: float | None, name: str) -> str:
    return "-" if value is None else f"{value:.{SHOWN[name][2]}f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{_text(cell)}" for cell in heads)
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}" for cell in row) for row in rows)
    return f"<table><tr>{head}{body}</table>"


def _text(words: str) -> str:
    return html.escape(words, quote=True)
