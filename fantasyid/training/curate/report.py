"""The funnel as a page that opens from the disk: how many clips each rule dropped, and which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import Curate, as_plain
from .store import put
from .verdict import Reason

if TYPE_CHECKING:
    from .run import Item

PAGE = "report.html"
PICTURES = 24

TEMPLATE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Curation</title>
<style>
body { font: 15px/1.5 system-ui; margin: 2em auto; max-width: 70em; padding: 0 1em; color: #222 }
table { border-collapse: collapse; width: 100% } td, th { padding: .2em .6em; text-align: left }
td.n { text-align: right } td.bar { width: 45% }
.left { background: #2a6; height: 1em } .out { background: #c64; height: 1em }
.row { display: flex }
figure { display: inline-block; margin: .3em; width: 10.5em; vertical-align: top }
figure img, figure .none { width: 100%; min-height: 4em; background: #eee; display: block }
figcaption { font-size: .8em; overflow-wrap: anywhere }
</style>
<h1>{{ kept }} of {{ total }} clips kept</h1>
<table><tr><th>Rule<th>Dropped<th>Left<th></tr>
{% for step in steps %}<tr><td>{% if step.dropped %}<a href="#{{ step.name }}">{{ step.words }}</a>
{%- else %}{{ step.words }}{% endif %}<td class="n">{{ step.dropped }}<td class="n">{{ step.left }}
<td class="bar"><div class="row">
<div class="left" style="width: {{ '%.2f'|format(100 * step.left / total) }}%"></div>
<div class="out" style="width: {{ '%.2f'|format(100 * step.dropped / total) }}%"></div></div></tr>
{% endfor %}</table>
{% for step in steps if step.dropped %}<h2 id="{{ step.name }}">{{ step.words }}:
{{ step.dropped }}</h2>
{% for item in step.shown %}<figure>
{% if item.thumb %}<img alt="" src="data:image/jpeg;base64,{{ item.thumb }}">
{%- else %}<div class="none"></div>{% endif %}
<figcaption>{{ item.path }} at {{ "%.2f"|format(item.start_s) }} s{% if item.detail %}:
{{ item.detail }}{% endif %}</figcaption></figure>
{% endfor %}{% if step.dropped > step.shown|length %}<p>and
{{ step.dropped - step.shown|length }} more: see clips.jsonl</p>{% endif %}
{% endfor %}
<h2>Rules</h2><table>{% for name, value in rules.items() %}<tr><td>{{ name }}<td>{{ value }}</tr>
{% endfor %}</table></html>
"""


def write_report(items: Sequence[Item], rules: Curate, target: Path) -> None:
    """Write the page.

    Args:
        items: Everything that was judged.
        rules: The thresholds.
        target: The HTML file.
    """
    import jinja2

    left, steps = len(items), []
    for reason in Reason:
        dropped = [item for item in items if item.reason is reason]
        left -= len(dropped)
        steps.append({
            "name": reason.name, "words": reason.value, "dropped": len(dropped), "left": left,
            "shown": dropped[:PICTURES],
        })  # fmt: skip
    page = jinja2.Environment(autoescape=True).from_string(TEMPLATE)
    text = page.render(kept=left, total=len(items), steps=steps, rules=as_plain(rules))
    put(target, lambda p: p.write_text(text, "utf-8"))
