"""How fast the face stages are, as ratios within one run, on tiny models and this machine's CPU.

    python benchmarks/face.py [--comfyui DIR] [--frames N]

The clip is an MP4 of 720p in which a face turns, decoded, tracked and sorted by the node's own code
with the lightest detector.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BATCH = 16


def start_host(comfyui: Path) -> None:
    """Put the host's modules within reach, on the CPU."""
    sys.path[:0] = [str(comfyui), str(ROOT), str(ROOT / "tests" / "face")]
    sys.argv = sys.argv[:1]
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    comfy.cli_args.args.base_directory = tempfile.mkdtemp()


def seconds(work: Callable[[], Any], runs: int = 5) -> float:
    """The fastest of some runs."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def make_clip(path: Path, frames: int) -> None:
    """An MP4 of 720p: the astronaut's face looks around."""
    import torch
    from comfy_api.latest import InputImpl, Types
    from skimage import data
    from turning_head import ASTRONAUT_POINTS, Portrait, turning

    photo = torch.from_numpy(data.astronaut()).float() / 255
    portrait = Portrait(photo, ASTRONAUT_POINTS)
    poses = list(turning(frames // 2))
    half = [portrait.render(p, 720, 1280, 2.0, (640, 320)) for p in poses]
    images = torch.stack([*half, *reversed(half)])
    parts = Types.VideoComponents(images=images, frame_rate=Fraction(25))
    InputImpl.VideoFromComponents(parts).save_to(str(path))


def measure_clip(frames: int, folder: Path) -> None:
    """Frames per second of the collecting stage, decoding included."""
    from comfy_api.latest import InputImpl

    from fantasyid.face.collection import ViewRules
    from fantasyid.face.sources import FaceSources
    from fantasyid.host.collect import collect_views, read_frames

    make_clip(folder / "clip.mp4", frames)
    clip = InputImpl.VideoFromFile(str(folder / "clip.mp4"))
    given = FaceSources("", None, None, "cascade", ())
    count = frames // 2 * 2
    whole = seconds(lambda: collect_views(clip, given, ViewRules(), "stop"), runs=2)
    decoding = seconds(lambda: sum(1 for _ in read_frames(clip)), runs=2)
    print(f"collect views, 720p, cascade: {count / whole:.1f} frames/s (target: at least 10)")
    print(f"  of which decoding and shrinking takes {decoding / whole:.0%}")


def measure_tokens(folder: Path) -> None:
    """A batch of crops against one by one, and the memory-bounding chunks against one chunk."""
    import torch

    from fantasyid.host import stages, weights
    from fantasyid.tiny.models import write_tiny_models

    tiny = write_tiny_models(folder / "models")
    encoder = weights.load_face_encoder(tiny.eva_clip)
    adapter = weights.load_adapter(tiny.model, tiny.transforms)
    crops = torch.rand(BATCH, 512, 512, 3, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        batch = seconds(lambda: stages.compute_face_tokens(encoder, adapter, crops))
        singly = seconds(
            lambda: [stages.compute_face_tokens(encoder, adapter, c[None]) for c in crops]
        )
    print(f"face tokens of {BATCH} crops: one by one takes {singly / batch:.2f} times the batch")


def main() -> None:
    """Print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("COMFYUI_PATH", str(ROOT / ".host" / "ComfyUI"))
    parser.add_argument("--comfyui", type=Path, default=Path(default))
    parser.add_argument("--frames", type=int, default=150)
    arguments = parser.parse_args()
    start_host(arguments.comfyui)
    import torch

    print(f"{torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder:
        measure_tokens(Path(folder))
        measure_clip(arguments.frames, Path(folder))


if __name__ == "__main__":
    main()
