"""Minutes of 1080p through the view collector: frames per second, and whether memory grows.

    python benchmarks/long_clip.py [--comfyui DIR] [--seconds 300] [--short 20] [--fps 25]

A face that looks around is rendered and encoded once, and its packets are repeated until the MP4
is long enough. The node's own code collects views from a short and from the long clip with the
lightest detector, each in a process of its own; the memory of both is compared.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from host import arguments, start_host

HEIGHT, WIDTH = 1080, 1920
STRETCH_SECONDS = 4
MB = 1e6


class Measured(NamedTuple):
    """One clip: how many frames and views, how long it took, memory before and most of it."""

    frames: int
    views: int
    seconds: float
    before: float
    peak: float

    @property
    def growth(self) -> float:
        """Bytes that the collecting took at most."""
        return self.peak - self.before


def write_clip(comfyui: Path, path: Path, seconds: float, fps: int) -> None:
    """An MP4 in which one rendered stretch of a turning face is repeated; in its own process."""
    start_host(comfyui)
    import av
    import torch
    from skimage import data
    from turning_head import ASTRONAUT_POINTS, Portrait, turning

    portrait = Portrait(torch.from_numpy(data.astronaut()).float() / 255, ASTRONAUT_POINTS)
    poses = list(turning(STRETCH_SECONDS * fps))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.bit_rate = 1_000_000
        stream.gop_size, stream.max_b_frames = len(poses), 0
        packets = []
        for pose in poses:
            picture = portrait.render(pose, HEIGHT, WIDTH, 2.4, (WIDTH / 2, HEIGHT * 0.42))
            pixels = (picture * 255).round().to(torch.uint8).numpy()
            packets += stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24"))
        packets += stream.encode()
        for number in range(max(1, round(seconds * fps))):
            first = packets[number % len(packets)]
            packet = av.Packet(bytes(first))
            packet.stream, packet.time_base = stream, Fraction(1, fps)
            packet.pts = packet.dts = number
            packet.duration = 1
            packet.is_keyframe = first.is_keyframe
            container.mux(packet)


def collect(comfyui: Path, path: Path) -> Measured:
    """Run the node's stage over a clip; in a process of its own."""
    start_host(comfyui)
    import psutil
    from comfy_api.latest import InputImpl

    from fantasyid.comfyui.collect import collect_views, count_frames
    from fantasyid.face.sources import FaceSources
    from fantasyid.views.collect import ViewRules

    process, done, sizes = psutil.Process(), threading.Event(), []

    def watch() -> None:
        while not done.wait(0.02):
            sizes.append(process.memory_info().rss)

    clip = InputImpl.VideoFromFile(str(path))
    before = process.memory_info().rss
    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    given = FaceSources("", None, None, "cascade", ())
    found = collect_views(clip, "", given, ViewRules(), "stop")
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    return Measured(count_frames(clip), found[1].shape[0], seconds, before, max(sizes))


def describe(name: str, measured: Measured) -> str:
    """One line of numbers."""
    return (
        f"{name}: {measured.frames} frames, {measured.views} views, "
        f"{measured.frames / measured.seconds:.1f} frames/s in {measured.seconds:.0f} s, memory "
        f"{measured.before / MB:.0f} MB before, at most {measured.growth / MB:.0f} MB more"
    )


def main() -> None:
    """Print the numbers."""
    given = arguments(__doc__, seconds=300.0, short=20.0, fps=25)
    spawn = multiprocessing.get_context("spawn")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        for name, seconds in (("short", given.short), ("long", given.seconds)):
            with spawn.Pool(1) as pool:
                pool.apply(write_clip, (given.comfyui, path, seconds, given.fps))
            with spawn.Pool(1) as pool:
                found[name] = pool.apply(collect, (given.comfyui, path))
            print(describe(f"{name}, {seconds:.0f} s of {WIDTH}x{HEIGHT}", found[name]), flush=True)
    whole = WIDTH * HEIGHT * 3 * 4 * found["long"].frames
    ratio = found["long"].growth / found["short"].growth
    print(f"memory of the long clip over the short one: {ratio:.2f}")
    print(f"the long clip as an IMAGE would take {whole / 1e9:.0f} GB")


if __name__ == "__main__":
    main()
