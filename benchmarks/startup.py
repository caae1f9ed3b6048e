"""What the extension adds to ComfyUI's start, and what its stages take: seconds.

    python benchmarks/startup.py [--comfyui DIR] [--runs N] [--before CHECKOUT]

Each run is a fresh interpreter: the host loads all its own nodes, then the extension by its own
loader, and that last part is timed; then single nodes on tiny models and a real picture. With
`--before` a checkout of another version takes turns with this one. Seconds are the processor's, but
for the start, which also waits for the disk.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
# Runs in a fresh interpreter.
PROBE = """
import importlib, json, pathlib, sys, time, warnings
warnings.simplefilter("ignore")
folder, comfyui, base, project = sys.argv[1:5]
sys.path.insert(0, folder)
import host
project = pathlib.Path(project)
host.start_host(pathlib.Path(comfyui), pathlib.Path(base) if base else None, project=project)
known, start = set(), []
before = lambda: (known.update(sys.modules), start.append(time.perf_counter()))
host.load_extension(before, project)
seconds = {"start": time.perf_counter() - start[0]}
new = [m for m in sys.modules if m not in known and "/" not in m]
torch_modules = [m for m in new if m.split(".")[0] in ("torch", "torchvision")]
packages = sorted({m.split(".")[0] for m in new})

if base:
    import stages
    with importlib.import_module("torch").inference_mode():
        seconds.update(stages.timed(importlib.import_module("nodes").NODE_CLASS_MAPPINGS))
print("\\nRESULT" + json.dumps({"seconds": seconds, "torch": torch_modules, "packages": packages}))
"""


def probe(comfyui: Path, base: Path | None = None, project: Path = FOLDER.parent) -> dict[str, Any]:
    """One fresh start of the host with the extension; with `base`, its stages on models there."""
    command = [
        sys.executable,
        "-c",
        PROBE,
        str(FOLDER),
        str(comfyui),
        str(base or ""),
        str(project),
    ]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(run.stdout.rsplit("RESULT", 1)[1])


def main() -> None:
    """Print tables."""
    from host import ROOT, arguments

    given = arguments(__doc__, runs=3, before=Path())
    sys.path.insert(0, str(ROOT))
    from miniature.models import write_tiny_models

    versions = [ROOT] if given.before == Path() else [ROOT, given.before.resolve()]
    found: dict[Path, list[dict[str, Any]]] = {project: [] for project in versions}
    with tempfile.TemporaryDirectory() as base:
        write_tiny_models(Path(base) / "models")
        for _ in range(given.runs):
            for project in versions:
                found[project].append(probe(given.comfyui, Path(base), project))
    print("| seconds | this version | " + ("before | ratio |" if len(versions) > 1 else ""))
    print("|---|---|" + "---|---|" * (len(versions) - 1))
    for name in found[ROOT][0]["seconds"]:
        columns = [[run["seconds"][name] for run in found[project]] for project in versions]
        cells = [
            f"{statistics.median(column):.3g} ({min(column):.3g} to {max(column):.3g})"
            for column in columns
        ]
        if len(columns) > 1:
            ratios = [now / then for now, then in zip(*columns, strict=True)]
            cells.append(
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            )
        print(f"| {name} | {' | '.join(cells)} |")
    last = found[ROOT][-1]
    print(f"torch submodules that the host had not: {last['torch'] or 'none'}")
    print(f"top-level packages that the host had not: {last['packages'] or 'none'}")


if __name__ == "__main__":
    main()
