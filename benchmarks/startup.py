"""What the extension adds to ComfyUI's start: seconds, and torch submodules.

    python benchmarks/startup.py [--comfyui DIR] [--runs N]

Each run is a fresh interpreter: the host loads all its own nodes, then the extension by its own
loader, and that last part is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Runs in a fresh interpreter: loads the host, then the extension by the host's own loader.
PROBE = """
import asyncio, json, sys, time, tempfile, warnings
warnings.simplefilter("ignore")
comfyui, extension = sys.argv[1:3]
sys.argv = sys.argv[:1]
sys.path.insert(0, comfyui)
import comfy.cli_args
comfy.cli_args.args.cpu = True
comfy.cli_args.args.base_directory = tempfile.mkdtemp()
import nodes, server

async def main():
    server.PromptServer(asyncio.get_running_loop())
    await nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False)
    before, start = set(sys.modules), time.perf_counter()
    ok = await nodes.load_custom_node(extension, module_parent="custom_nodes")
    seconds = time.perf_counter() - start
    new = [m for m in sys.modules if m not in before and "/" not in m]
    torch = [m for m in new if m.split(".")[0] in ("torch", "torchvision")]
    packages = sorted({m.split(".")[0] for m in new})
    found = {"ok": ok, "seconds": seconds, "torch": torch, "packages": packages}
    print("\\nRESULT" + json.dumps(found))

asyncio.run(main())
"""


def probe(comfyui: Path) -> dict:
    """One fresh start of the host with the extension."""
    run = subprocess.run(
        [sys.executable, "-c", PROBE, str(comfyui), str(ROOT)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(run.stdout.rsplit("RESULT", 1)[1])


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("COMFYUI_PATH", str(ROOT / ".host" / "ComfyUI"))
    parser.add_argument("--comfyui", type=Path, default=Path(default))
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    results = [probe(arguments.comfyui) for _ in range(arguments.runs)]
    assert all(r["ok"] for r in results), "the extension did not load"
    seconds = [r["seconds"] for r in results]
    print(f"added to the start: median {statistics.median(seconds):.3f} s of {len(seconds)} runs")
    print(f"                    {min(seconds):.3f} to {max(seconds):.3f} s (target: at most 0.3 s)")
    print(f"torch submodules that the host had not: {results[-1]['torch'] or 'none'}")
    print(f"top-level packages that the host had not: {results[-1]['packages'] or 'none'}")


if __name__ == "__main__":
    main()
