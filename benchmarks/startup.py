"""What the extension adds to ComfyUI's start: seconds, and torch submodules.

    python benchmarks/startup.py [--comfyui DIR] [--runs N]

Each run is a fresh interpreter: the host loads all its own nodes, then the extension by its own
loader, and that last part is timed.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

# Runs in a fresh interpreter.
PROBE = """
import json, pathlib, sys, time, warnings
warnings.simplefilter("ignore")
folder, comfyui = sys.argv[1:3]
sys.path.insert(0, folder)
import host
host.start_host(pathlib.Path(comfyui))
known, start = set(), []
host.load_extension(lambda: (known.update(sys.modules), start.append(time.perf_counter())))
seconds = time.perf_counter() - start[0]
new = [m for m in sys.modules if m not in known and "/" not in m]
torch = [m for m in new if m.split(".")[0] in ("torch", "torchvision")]
packages = sorted({m.split(".")[0] for m in new})
print("\\nRESULT" + json.dumps({"seconds": seconds, "torch": torch, "packages": packages}))
"""


def probe(comfyui: Path) -> dict[str, Any]:
    """One fresh start of the host with the extension."""
    folder = Path(__file__).resolve().parent
    command = [sys.executable, "-c", PROBE, str(folder), str(comfyui)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(run.stdout.rsplit("RESULT", 1)[1])


def main() -> None:
    """Print a table."""
    from host import arguments

    given = arguments(__doc__, runs=5)
    results = [probe(given.comfyui) for _ in range(given.runs)]
    seconds = [r["seconds"] for r in results]
    print(f"added to the start: median {statistics.median(seconds):.3f} s of {len(seconds)} runs")
    print(f"                    {min(seconds):.3f} to {max(seconds):.3f} s (target: at most 0.3 s)")
    print(f"torch submodules that the host had not: {results[-1]['torch'] or 'none'}")
    print(f"top-level packages that the host had not: {results[-1]['packages'] or 'none'}")


if __name__ == "__main__":
    main()
