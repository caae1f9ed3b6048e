"""Pictures of what `presets.py` found; needs matplotlib.

    python benchmarks/preset_pictures.py --results results/results.json --picture front.png
    python benchmarks/preset_pictures.py --results dials/results.json --picture dials.png \\
        --dials strength looks

The first shows likeness and motion over the calls of the transformer, with 95 % intervals; the
second likeness and motion over each dial.
"""

from __future__ import annotations

import argparse
import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image

MEASURES = (("RS", "likeness (RS)"), ("motion", "motion as prompted"), ("FM", "motion (FM)"))
# The dials of a picture, and where the released value lies.
DIALS = {
    "strength": 1.0, "looks": 1.0, "shape": 1.0, "start": 0.0, "end": 1.0,
    "identity guidance": 0.0, "cfg": 2.5,
}  # fmt: skip


def _bars(axes: Any, x: list[float], rows: list[dict[str, Any]], name: str, **how: Any) -> None:
    means = [row[name][0] for row in rows]
    spread = [
        [row[name][0] - row[name][1] for row in rows],
        [row[name][2] - row[name][0] for row in rows],
    ]
    axes.errorbar(x, means, yerr=spread, capsize=2, linewidth=1, markersize=4, **how)


def draw_front(pyplot: Any, results: list[dict[str, Any]]) -> Any:
    """Likeness and motion over calls; the band is the interval of the exact run."""
    figure, panels = pyplot.subplots(1, 2, figsize=(9.6, 4.0))
    for axes, (name, words) in zip(panels, MEASURES[:2], strict=True):
        axes.axhspan(*results[0][name][1:], color="0.92")
        for number, row in enumerate(results):
            _bars(
                axes, [row["calls"]], [row], name, fmt="o", label=f"{number + 1} {row['setting']}"
            )
            axes.annotate(
                str(number + 1),
                (row["calls"], row[name][0]),
                (4, 4),
                textcoords="offset points",
                fontsize=8,
            )
        axes.set(xlabel="calls of the transformer / exact", ylabel=words, xlim=(0, 1.08))
    panels[1].legend(fontsize=6, loc="lower right")
    return figure


def draw_dials(pyplot: Any, results: list[dict[str, Any]], names: list[str]) -> Any:
    """A column per dial; the released setting is part of every curve."""
    figure, grid = pyplot.subplots(
        2, len(names), figsize=(0.9 + 1.1 * len(names), 3.2), sharey="row", squeeze=False
    )
    for column, dial in enumerate(names):
        points = [(DIALS[dial], results[0])]
        for row in results[1:]:
            found = re.fullmatch(rf"{dial} ([\d.]+)", row["setting"])
            if found:
                points.append((float(found[1]), row))
        points.sort(key=lambda point: point[0])
        x, rows = [p[0] for p in points], [p[1] for p in points]
        for axes, (name, words) in zip(grid[:, column], (MEASURES[0], MEASURES[2]), strict=True):
            _bars(axes, x, rows, name, fmt="o-")
            axes.axvline(DIALS[dial], color="0.8", linewidth=1)
            axes.set(ylabel="" if column else words)
            axes.tick_params(labelsize=7)
        grid[1, column].set_xlabel(dial)
    return figure


def main() -> None:
    """Write the picture."""
    pyplot: Any = import_module("matplotlib.pyplot")
    pyplot.switch_backend("Agg")
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--dials", nargs="+", choices=DIALS, help="these dials, not the front")
    options = parser.parse_args()
    known = json.loads(options.results.read_text())
    results = [{"setting": name, **row} for name, row in known.items()]
    if options.dials:
        figure = draw_dials(pyplot, results, options.dials)
    else:
        figure = draw_front(pyplot, results)
    figure.tight_layout()
    figure.savefig(options.picture, dpi=100)
    with Image.open(options.picture) as drawn:  # a quarter of the bytes: the registry counts them
        drawn.convert("RGB").quantize(32).save(options.picture, optimize=True)


if __name__ == "__main__":
    main()
