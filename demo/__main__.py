"""The second half, inside the environment: `python -m demo --comfyui DIR [quickstart's options]`.

`quickstart.py` starts it with the Python that runs ComfyUI; what it prints last is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import torch

from . import mini, results
from .command import ROOT, parser
from .console import exit_code, say, step
from .folders import place_photo, prepare_base
from .models import find_real, write_model_paths
from .processes import listen_for_end
from .progress import run_prompt
from .server import Server
from .workflow import adapt

WORKFLOW = "workflows/api/photo_to_video.json"


def run(options: argparse.Namespace) -> int:
    """From the photo to the video."""
    host, cuda = ROOT / ".host", torch.cuda.is_available()
    base = prepare_base(host / "base")
    server_options = [] if cuda else ["--cpu"]
    mine = options.photo is not None or options.models is not None
    image = place_photo(base, options.photo) if mine else None
    if options.models is None:
        say(mini.EXPECT if image is None else mini.OWN_PHOTO)
        wanted = mini.takes(options.prompt, image is not None)
        graphs = [mini.graph_of(take, image, options.seed) for take in wanted]
    else:
        assert image is not None
        names = find_real(options.models)
        server_options += write_model_paths(options.models, host / "extra_model_paths.yaml")
        if not cuda:
            say("No CUDA device is seen: with the real weights this takes days on a CPU.")
        workflow = json.loads((ROOT / WORKFLOW).read_text(encoding="utf-8"))
        wanted, graphs = [], [adapt(workflow, names, image, options.prompt, options.seed)]
    start, log = time.monotonic(), host / "server.log"
    say("Starting ComfyUI ...")
    with Server(options.comfyui, base, *server_options, port=options.port, log=log) as server:
        say(f"  the server answers at {server.host.url} after "
            f"{time.monotonic() - start:.1f} s, log in {log}")  # fmt: skip
        start, made = time.monotonic(), []
        for number, graph in enumerate(graphs):
            what = f"{wanted[number].person}: {wanted[number].prompt}" if wanted else WORKFLOW
            say(f"Running {what} ({len(graph)} nodes):")
            made.append(run_prompt(server, graph))
        seconds = round(time.monotonic() - start, 1)
        say(f"  done in {seconds} s")
    found: dict[str, Any]
    with step("Server stopped. Collecting the results"):
        if wanted:
            pairs = list(zip(wanted, made, strict=True))
            found = mini.collect(pairs, base, options.output, options.photo)
        else:
            found = results.collect(made[0], base, options.output)
    (mini if wanted else results).show(found)
    say(f"All in {time.time() - options.began:.1f} s.")
    found |= {"seconds": seconds, "weights": "mini" if wanted else "real"}
    say(json.dumps(found))
    return 0


if __name__ == "__main__":
    listen_for_end()
    given = parser().parse_args()
    sys.exit(exit_code(lambda: run(given), given.verbose))
