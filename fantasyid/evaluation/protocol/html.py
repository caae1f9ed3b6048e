"""The report: one HTML file with everything in it, which opens from the disk without a script."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from .measuring import COLUMNS
from .statistics import LEVEL, RESAMPLES, SEED
from .table import HEADS, Row, Summary, difference_table, main_table, shown_value, yaw_table
from .variants import VARIANTS

_PAGE = """
{%- macro table(heads, rows) -%}
<table><tr>{% for cell in heads %}<th>{{ cell }}{% endfor %}
{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}{% endfor %}
{% endfor %}</table>
{%- endmacro -%}
<!doctype html><html lang=en><meta charset=utf-8>
<meta name=viewport content="width=device-width"><title>FantasyID evaluation</title>
<style>
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
</style>
<h1>FantasyID evaluation</h1>
<p>{{ done }} of {{ rows|length }} videos measured, {{ failed }} failed.
<span class=muted>Written {{ made_at }}.</span></p>
{% for words in facts.missing %}<p class=note>{{ words }}</p>
{% endfor %}
<h2>Results</h2>
<p>Means over videos; in brackets the interval of {{ "%.0f"|format(100 * level) }}% by bootstrap \
over videos ({{ resamples }} resamples, seed {{ seed }}). RS: cosine of the face to the reference; \
IFS: to the frame before; FM: motion of the face in percent of its size per frame; FID: of the \
face crops of each video against photos of real faces. Frames without a face and videos that \
could not be made are left out and counted, never taken for zero.</p>
{{ table(*means) }}
<h2>Likeness by view</h2>
<p>RS over the frames whose face looks that far to a side, where the detector tells five points; \
and FID of the face crops of all videos together, which is lower than the mean over videos.</p>
{{ table(*by_yaw) }}
{% if differences[1] %}<h2>Ablations</h2>
<p>Difference to the full model, over pairs of videos with the same photo, prompt and seed. The \
paper trained a model for each row; here one trained model runs without a part, and only without \
vertex tokens is a row of its Table 3.</p>
{{ table(*differences) }}{% endif %}
<h2>Videos</h2>
{{ table(video_heads, videos) }}
<h2>Contact sheets</h2>
{% for row in rows %}
{%- set title = "%s, prompt %d, seed %d, %s"|format(
    row.reference, row.prompt, row.seed, variants[row.variant].title) %}
<div class=video><b>{{ title }}</b>
<div class=muted>{{ facts.prompts[row.prompt - 1] }}</div>
{% if row.frames %}<div>{% for name in columns %}{{ heads[loop.index0][:-2] }} \
{{ value(row, name) }}, {% endfor %}faces found in {{ row.faces }} of {{ row.frames }} frames</div>
{% endif %}
{%- if row.note %}<div class=note>{{ row.note }}</div>
{% endif %}
{%- if row.video_sha256 %}<code>videos/{{ row.job }}.mp4: SHA-256 {{ row.video_sha256 }}\
{% if row.latent_sha256 %}, latent {{ row.latent_sha256 }}{% endif %}</code>
{% endif %}
{%- if row.job in pictures %}<img alt="{{ title }}" \
src="data:image/jpeg;base64,{{ pictures[row.job] }}">{% endif %}</div>
{% endfor %}
<h2>To repeat it</h2>
<p>Compare the hashes of photos, model files and code below with yours, then run</p>
<pre>{{ facts.command }}</pre>
<h3>Prompts</h3><ol>{% for prompt in facts.prompts %}<li>{{ prompt }}{% endfor %}</ol>
<details><summary>Settings, files, versions and the workflow</summary>
<pre>{{ settings }}</pre></details>
</html>
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
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    hidden = ("command", "prompts", "missing")
    settings = {key: value for key, value in facts.items() if key not in hidden}
    videos = [
        [
            *(row.reference, row.prompt, row.seed, VARIANTS[row.variant].title),
            *(shown_value(row, name) for name in COLUMNS),
            f"{row.faces} of {row.frames}" if row.frames else "-",
            row.note,
        ]
        for row in rows
    ]
    return environment.from_string(_PAGE).render(
        rows=rows,
        facts=facts,
        made_at=made_at,
        done=sum(row.frames > 0 for row in rows),
        failed=sum(row.failed for row in rows),
        means=main_table(summaries),
        by_yaw=yaw_table(summaries),
        differences=difference_table(summaries),
        videos=videos,
        video_heads=("reference", "prompt", "seed", "variant", *HEADS, "faces found", "note"),
        pictures={
            job: base64.b64encode(path.read_bytes()).decode()
            for job, path in sheets.items()
            if path.is_file()
        },
        settings=json.dumps(settings, indent=1, ensure_ascii=False),
        value=shown_value,
        columns=COLUMNS,
        heads=HEADS,
        variants=VARIANTS,
        level=LEVEL,
        resamples=RESAMPLES,
        seed=SEED,
    )
