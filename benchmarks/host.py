"""The one way of all benchmarks to the host's modules, and their command line."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def arguments(words: str | None, **options: Any) -> argparse.Namespace:
    """What the command line says.

    Args:
        words: The benchmark's docstring.
        options: Name -> default, beside `--comfyui`; False makes a switch.
    """
    parser = argparse.ArgumentParser(description=str(words).splitlines()[0])
    default = os.environ.get("COMFYUI_PATH", str(ROOT / ".host" / "ComfyUI"))
    parser.add_argument("--comfyui", type=Path, default=Path(default))
    for name, value in options.items():
        how: Any = {"action": "store_true"} if value is False else {"type": type(value)}
        parser.add_argument(f"--{name}", default=value, **how)
    return parser.parse_args()


def start_host(
    comfyui: Path, base: Path | None = None, cpu: bool = True, project: Path = ROOT
) -> None:
    """Put the host's modules within reach.

    Args:
        base: Where its models, inputs and outputs go; a new folder without.
        cpu: Compute there, also where there is a GPU.
        project: This one, or a checkout of another version.
    """
    sys.path[:0] = [str(comfyui), str(project), str(project / "tests")]
    sys.argv = sys.argv[:1]
    import comfy.cli_args

    base = base or Path(tempfile.mkdtemp())
    (base / "input").mkdir(exist_ok=True)
    comfy.cli_args.args.cpu = cpu
    comfy.cli_args.args.base_directory = str(base)


def load_extension(prepare: Any = None, project: Path = ROOT) -> asyncio.AbstractEventLoop:
    """Load all nodes of the host, then ours by its own loader; returns the server's loop.

    Args:
        prepare: Called after the host's nodes and before ours.
        project: This one, or a checkout of another version.

    Raises:
        RuntimeError: The extension did not load.
    """
    import server

    nodes: Any = import_module("nodes")  # the host's, not ours
    loop = asyncio.new_event_loop()

    async def load() -> None:
        server.PromptServer(loop)
        await nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False)
        if prepare is not None:
            prepare()
        if not await nodes.load_custom_node(str(project), module_parent="custom_nodes"):
            raise RuntimeError("ComfyUI cannot load this extension: see its log above")

    loop.run_until_complete(load())
    return loop
