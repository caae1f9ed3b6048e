"""The second half, inside the environment: `python -m demo --comfyui DIR [quickstart's options]`.

`quickstart.py` starts it with the Python that runs ComfyUI; what it prints last is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import torch

from .command import ROOT, parser
from .console import exit_code, say, step
from .folders import place_photo, prepare_base
from .models import find_real, write_model_paths, write_tiny
from .processes import listen_for_end
from .progress import run_prompt
from .results import collect, show
from .server import Server
from .workflow import adapt

WORKFLOW = "workflows/api/photo_to_video.json"


def run(options: argparse.Namespace) -> int:
    """From the photo to the video."""
    host, tiny, cuda = ROOT / ".host", options.models is None, torch.cuda.is_available()
    base = prepare_base(host / "base")
    server_options = [] if cuda else ["--cpu"]
    if tiny:
        names = write_tiny(base / "models")
        say("Weights: tiny and random, so the video will be noise, not a likeness "
            "(--models DIR takes the real ones).")  # fmt: skip
    else:
        names = find_real(options.models)
        server_options += write_model_paths(options.models, host / "extra_model_paths.yaml")
        if not cuda:
            say("No CUDA device is seen: with the real weights this takes days on a CPU.")
    image = place_photo(base, options.photo)
    workflow = json.loads((ROOT / WORKFLOW).read_text(encoding="utf-8"))
    graph = adapt(workflow, names, image, options.prompt, options.seed, tiny)
    start, log = time.monotonic(), host / "server.log"
    say("Starting ComfyUI ...")
    with Server(options.comfyui, base, *server_options, port=options.port, log=log) as server:
        say(f"  the server answers at {server.host.url} after "
            f"{time.monotonic() - start:.1f} s, log in {log}")  # fmt: skip
        say(f"Running {WORKFLOW}, {len(graph)} nodes:")
        start = time.monotonic()
        result = run_prompt(server, graph)
        seconds = round(time.monotonic() - start, 1)
        say(f"  done in {seconds} s")
    with step("Server stopped. Collecting the results"):
        found = collect(result, base, options.output, tiny)
    show(found)
    say(f"All in {time.time() - options.began:.1f} s.")
    found |= {"seconds": seconds, "weights": "tiny" if tiny else "real"}
    order = ("video", "frames", "size", "seconds", "weights", "contact_sheet", "mesh")
    say(json.dumps({key: found[key] for key in order}))
    return 0


if __name__ == "__main__":
    listen_for_end()
    given = parser().parse_args()
    sys.exit(exit_code(lambda: run(given), given.verbose))
