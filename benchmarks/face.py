"""How fast the face stages are, as ratios within one run, on tiny models and this machine's CPU.

    python benchmarks/face.py [--comfyui DIR] [--frames N]

Batches: crop, face tokens and vertices of 16 photos at once against one by one; more than 1 means
that the batch wins. Cache: whole prompts through the host's own executor; the first one with a new
photo, when all models are loaded, against the same with another node behind the identity. Head
pictures: the built-in rasteriser against PyTorch3D's, where that is installed. The clip is an MP4
of 720p in which a face turns, decoded, tracked and sorted by the node's own code with the lightest
detector.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from host import arguments, load_extension, start_host

BATCH = 16
ROUNDS = 4
VIEW_SIZE = 512
# Photo to identity; a node of the host's stands for whatever comes behind.
IDENTITY_GRAPH = {
    "photo": ("LoadImage", {"image": "first.png"}),
    "adapter": ("FantasyIDAdapterLoader",
                {"adapter": "tiny-fantasyid", "mesh_transforms": "tiny_transform.pkl"}),
    "encoder": ("FantasyIDFaceEncoderLoader",
                {"face_encoder": "tiny_EVA02_CLIP_L_336_psz14_s6B.pt"}),
    "deca": ("FantasyIDDecaLoader",
             {"deca": "tiny_deca_model.tar", "flame": "tiny_generic_model.pkl"}),
    "align": ("FantasyIDAlignFace", {"image": ["photo", 0], "detector": "cascade",
                                     "choose": "nearest centre", "index": 0, "no_face": "stop"}),
    "vertices": ("FantasyIDFaceVertices",
                 {"deca": ["deca", 0], "face": ["align", 0], "mode": "as released"}),
    "tokens": ("FantasyIDFaceTokens",
               {"face_encoder": ["encoder", 0], "adapter": ["adapter", 0], "face": ["align", 0]}),
    "fuse": ("FantasyIDFuse", {"adapter": ["adapter", 0], "face_tokens": ["tokens", 0],
                               "geometry": ["vertices", 0]}),
}  # fmt: skip


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

    from fantasyid.comfyui.collect import collect_views, read_frames
    from fantasyid.face.sources import FaceSources
    from fantasyid.views.collect import ViewRules

    make_clip(folder / "clip.mp4", frames)
    clip = InputImpl.VideoFromFile(str(folder / "clip.mp4"))
    given = FaceSources("", None, None, "cascade", ())
    count = frames // 2 * 2
    whole = seconds(lambda: collect_views(clip, "", given, ViewRules(), "stop"), runs=2)
    decoding = seconds(lambda: sum(1 for _ in read_frames(clip)), runs=2)
    print(f"collect views, 720p, cascade: {count / whole:.1f} frames/s (target: at least 10)")
    print(f"  of which decoding and shrinking takes {decoding / whole:.0%}")


def measure_batches(models: Path) -> None:
    """A batch against one by one, stage by stage."""
    import torch
    from skimage import data

    from fantasyid.comfyui import images, stages, weights
    from fantasyid.face.align import FaceChoice
    from fantasyid.face.sources import FaceSources
    from miniature.models import write_tiny_models

    tiny = write_tiny_models(models)
    encoder = weights.load_face_encoder(tiny.eva_clip)
    adapter = weights.load_adapter(tiny.model, tiny.transforms)
    deca = weights.load_deca(tiny.deca, tiny.flame)
    photo = torch.from_numpy(data.astronaut()[:256, 100:356]).float() / 255
    photos = photo.repeat(BATCH, 1, 1, 1)
    given, choice = FaceSources("", None, None, "cascade", ()), FaceChoice("largest")
    as_crops = images.as_face_crops
    crops = images.align_images(photos, given, choice, "stop")[1]
    crops = crops + 0.05 * torch.rand(crops.shape, generator=torch.Generator().manual_seed(0))
    mode, at_once = stages.AS_RELEASED, stages.CROPS_AT_ONCE
    work: tuple[tuple[str, torch.Tensor, Callable[[torch.Tensor], Any]], ...] = (
        ("crop", photos, lambda p: images.align_images(p, given, choice, "stop")),
        ("face tokens", crops, lambda c: stages.compute_face_tokens(encoder, adapter, as_crops(c))),
        ("vertices", crops, lambda c: stages.compute_vertices(deca, as_crops(c), mode)),
    )
    print(f"{BATCH} photos at once, {at_once} at a time in the networks (target: >= 1)")
    whole = singly = 0.0
    with torch.inference_mode():
        for name, inputs, stage in work:
            # In turns, so that other work on this machine slows both.
            singles = [one[None] for one in inputs]
            rounds = [
                (seconds(partial(stage, inputs), 1), seconds(partial(list, map(stage, singles)), 1))
                for _ in range(ROUNDS)
            ]
            batch, alone = (min(times) for times in zip(*rounds, strict=True))
            whole, singly = whole + batch, singly + alone
            print(f"  {name}: one by one takes {alone / batch:.2f} times the batch ({batch:.2f} s)")
    print(f"  together: {singly / whole:.2f} times")


def open_executor() -> Callable[[dict[str, Any]], float]:
    """The host's executor with our nodes; the result runs a prompt and returns its seconds."""
    loop = load_extension()
    import execution

    listener = SimpleNamespace(
        client_id="face", last_node_id=None, last_prompt_id=None, sockets_metadata={}
    )
    listener.send_sync = lambda *_message: None
    cache = {"lru": 0, "ram": 0.0, "ram_inactive": 0.0}
    kind: Any = execution.CacheType.CLASSIC  # the host says bool, and means its own enum
    executor = execution.PromptExecutor(listener, cache_type=kind, cache_args=cache)

    def run(prompt: dict[str, Any]) -> float:
        start = time.perf_counter()
        valid, error, outputs, problems = loop.run_until_complete(
            execution.validate_prompt("face", prompt, None)
        )
        if not valid:
            raise RuntimeError(f"ComfyUI refuses the prompt: {error} {problems}")
        executor.execute(prompt, "face", {"client_id": "face"}, outputs)
        if not executor.success:
            raise RuntimeError(f"the prompt failed: {executor.status_messages}")
        return time.perf_counter() - start

    return run


def identity_prompt(photo: str, behind: str) -> dict[str, Any]:
    """A prompt in API format that ends in a node named `behind`."""
    graph = IDENTITY_GRAPH | {behind: ("PreviewAny", {"source": ["fuse", 0]})}
    prompt = {
        k: {"class_type": kind, "inputs": dict(inputs)} for k, (kind, inputs) in graph.items()
    }
    prompt["photo"]["inputs"]["image"] = photo
    return prompt


def measure_cache(folder: Path) -> None:
    """The second use of an identity against the first, validation of the prompt included."""
    from PIL import Image, ImageOps
    from skimage import data

    photo = Image.fromarray(data.astronaut())
    photo.save(folder / "input" / "first.png")
    ImageOps.mirror(photo).save(folder / "input" / "second.png")
    run = open_executor()
    run(identity_prompt("first.png", "a"))  # loads the models
    first = run(identity_prompt("second.png", "a"))
    again = min(run(identity_prompt("second.png", behind)) for behind in ("b", "c", "d"))
    print(
        f"an identity: the first use takes {first / again:.0f} times the second "
        f"({first:.2f} s, {again * 1000:.1f} ms; target: >= 100)"
    )


def measure_rasterizer() -> None:
    """The pictures of a head by the built-in rasteriser and by PyTorch3D, on the CPU."""
    import torch

    from fantasyid.geometry.backends import choose_rasterizer
    from fantasyid.geometry.render import rasterize, render_views
    from miniature.head import build_head

    head = build_head()
    vertices, triangles = torch.from_numpy(head.vertices).float(), torch.from_numpy(head.triangles)
    ours = seconds(lambda: render_views(vertices, triangles, VIEW_SIZE, rasterize), runs=3)
    print(f"three views of a head at {VIEW_SIZE} px: {ours:.2f} s with the built-in rasteriser")
    try:
        other = choose_rasterizer("pytorch3d", "cpu")
    except ImportError as error:
        print(f"  not compared with PyTorch3D: {error}")
        return
    theirs = seconds(lambda: render_views(vertices, triangles, VIEW_SIZE, other), runs=1)
    print(f"  PyTorch3D takes {theirs / ours:.1f} times as long")


def main() -> None:
    """Print the numbers."""
    given = arguments(__doc__, frames=150)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        start_host(given.comfyui, base)
        import torch

        print(f"{torch.get_num_threads()} threads")
        measure_batches(base / "models")
        measure_cache(base)
        measure_rasterizer()
        measure_clip(given.frames, base)


if __name__ == "__main__":
    main()
