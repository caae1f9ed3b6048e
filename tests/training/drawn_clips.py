"""Video files whose verdict is known: portraits that turn, with cuts, subtitles, blur and worse."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from turning_head import ASTRONAUT_POINTS, Portrait

WIDTH, HEIGHT = 320, 240
SECONDS = 1.25  # 9 frames at 8 a second, and a little more
Picture = NDArray[np.uint8]
WORDS = ("I never said that.", "Where have you been?", "It was raining all night", "Come with me")


@cache
def portraits(faces: Path) -> list[Portrait]:
    """The astronaut and those of `points.json`, on coarse surfaces."""
    from skimage.data import astronaut

    photos = [(astronaut(), ASTRONAUT_POINTS)]
    for name, found in json.loads((faces / "points.json").read_text()).items():
        if "astronaut" not in name:
            pixels = np.array(Image.open(faces / name).convert("RGB"))
            photos += [(pixels, np.array(face["points"])) for face in found]
    return [Portrait(torch.from_numpy(p).float() / 255, points, 6.0) for p, points in photos]


class Artist:
    """Draws shots with one source of chance."""

    def __init__(self, faces: Path, seed: int) -> None:
        self.people = portraits(faces)
        self.draw = np.random.default_rng(seed)

    def ground(self, width: int = WIDTH, height: int = HEIGHT) -> Picture:
        """A soft pattern without anybody."""
        small = self.draw.integers(40, 215, (3, 4, 3)).astype(np.uint8)
        return np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))

    def shot(
        self,
        who: int | None = None,
        *,
        fps: int = 12,
        seconds: float = SECONDS,
        scale: float = 0.75,
        yaw: tuple[float, float] = (-20.0, 20.0),
        pitch: float = 8.0,
        at: float = 0.5,
        width: int = WIDTH,
        height: int = HEIGHT,
        ground: Picture | None = None,
    ) -> list[Picture]:
        """A head that turns from one yaw to the other, nodding."""
        person = self.people[int(self.draw.integers(len(self.people))) if who is None else who]
        behind = self.ground(width, height) if ground is None else ground
        plain = (0.75 + torch.linspace(-0.1, 0.1, width))[None, :, None]
        pictures, count = [], round(seconds * fps)
        for i in range(count):
            t = i / max(1, count - 1)
            pose = (yaw[0] + (yaw[1] - yaw[0]) * t, pitch * np.sin(6 * t), 0.0)
            center = (width * at, height * 0.4)
            drawn = person.render(pose, height, width, scale, center)
            bare = (drawn == plain).all(-1, keepdim=True).numpy()
            pictures.append(np.where(bare, behind, (drawn * 255).byte().numpy()))
        return pictures


def write_video(path: Path, pictures: list[Picture], fps: int, codec: str = "libx264") -> None:
    """Encode pictures `(H, W, 3)`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p" if codec == "libx264" else "bgr0"
        stream.options = {"crf": "16", "preset": "veryfast"} if codec == "libx264" else {}
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def write_sound(path: Path) -> None:
    """A file with an audio stream alone."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def each(pictures: list[Picture], change: Callable[[Image.Image], Image.Image]) -> list[Picture]:
    """Pictures changed one by one."""
    return [np.array(change(Image.fromarray(p))) for p in pictures]


def subtitled(pictures: list[Picture], words: str) -> list[Picture]:
    """White words with a black edge, low in the picture."""

    def burn(image: Image.Image) -> Image.Image:
        font = ImageFont.load_default(17)
        draw = ImageDraw.Draw(image)
        draw.text(
            (image.width / 2, image.height - 20), words, "white", font, "mm",
            stroke_width=2, stroke_fill="black",
        )  # fmt: skip
        return image

    return each(pictures, burn)


def beside(left: list[Picture], right: list[Picture]) -> list[Picture]:
    """Left halves beside right halves."""
    return [
        np.concatenate([a[:, : WIDTH // 2], b[:, WIDTH // 2 :]], 1)
        for a, b in zip(left, right, strict=True)
    ]


# What is drawn, the reasons of its clips in order (None: kept), and frames per second.
Verdict = tuple[str | None, ...]
Drawing = Callable[[Artist], tuple[list[Picture], int]]


def _good(a: Artist) -> tuple[list[Picture], int]:
    fps = int(a.draw.choice([12, 15, 24, 30]))
    side = float(a.draw.choice([-1, 1]))
    yaw = (side * -float(a.draw.uniform(14, 22)), side * float(a.draw.uniform(14, 22)))
    return a.shot(fps=fps, yaw=yaw, scale=float(a.draw.uniform(0.65, 0.8))), fps


def _many(a: Artist) -> tuple[list[Picture], int]:
    one, two = a.draw.choice(len(a.people), 2, replace=False)
    return beside(a.shot(int(one), at=0.25, scale=0.55), a.shot(int(two), at=0.75, scale=0.55)), 12


def _cut(a: Artist) -> tuple[list[Picture], int]:
    one, two = a.draw.choice(len(a.people), 2, replace=False)
    return a.shot(int(one)) + a.shot(int(two)), 12


def _blurred(a: Artist) -> tuple[list[Picture], int]:
    radius = float(a.draw.uniform(5, 7))
    return each(a.shot(), lambda p: p.filter(ImageFilter.GaussianBlur(radius))), 12


def _profile(a: Artist) -> tuple[list[Picture], int]:
    side = float(a.draw.choice([-1, 1]))
    # The third portrait looks aside itself.
    who = int(a.draw.choice([i for i in range(len(a.people)) if i != 2]))
    return a.shot(who, yaw=(side * 62, side * 72), pitch=3), 12


KINDS: dict[str, tuple[Verdict, Drawing]] = {
    "good": ((None,), _good),
    "cut": ((None, None), _cut),
    "cut_short": ((None, "TOO_SHORT"), lambda a: (a.shot(0) + a.shot(1, seconds=0.5), 12)),
    "subtitle": (
        ("TEXT",),
        lambda a: (subtitled(a.shot(), str(a.draw.choice(WORDS))), 12),
    ),
    "two_people": (("MANY_PEOPLE",), _many),
    "nobody": (("NO_FACE",), lambda a: ([a.ground()] * 15, 12)),
    "profile": (("PROFILE",), _profile),
    "blurred": (("BLURRED",), _blurred),
    "slow": (("LOW_RATE",), lambda a: (a.shot(fps=5, seconds=2), 5)),
    "short": (("TOO_SHORT",), lambda a: (a.shot(seconds=0.8), 12)),
    "far": (("SMALL_FACE",), lambda a: (a.shot(scale=float(a.draw.uniform(0.27, 0.32))), 12)),
    "tiny": (("SMALL_PICTURE",), lambda a: (a.shot(width=160, height=120, scale=0.4), 12)),
    "still": (("FEW_VIEWS",), lambda a: (a.shot(yaw=(0, 0), pitch=0), 12)),
    "no_caption": (("NO_CAPTION",), _good),
}
BROKEN = ("empty", "renamed", "sound", "truncated", "no_frames")


def draw_clips(folder: Path, faces: Path, count: int, seed: int = 0) -> dict[str, Verdict]:
    """Write files of every kind in turn, good ones more often.

    Returns:
        For each file, by name, the reasons of its clips.
    """
    folder.mkdir(parents=True)
    order = [*KINDS, *BROKEN, "twice", "odd", "good", "good", "good"]
    truth: dict[str, Verdict] = {}
    for number in range(count):
        kind = order[number % len(order)]
        path = folder / f"{number:03d}_{kind}.mp4"
        artist = Artist(faces, seed + zlib.crc32(path.name.encode()))
        if kind in KINDS:
            verdict, drawing = KINDS[kind]
            write_video(path, *drawing(artist))
        elif kind == "twice":
            shutil.copyfile(folder / f"{number - len(KINDS) - len(BROKEN):03d}_good.mp4", path)
            verdict = ("DUPLICATE",)
        elif kind == "odd":
            path = path.with_suffix(".mkv")
            write_video(path, artist.shot(width=333, height=251), 12, "ffv1")
            verdict = (None,)
        else:
            write_broken(path, kind, artist)
            verdict = ("UNREADABLE",)
        truth[path.name] = verdict
        if kind != "no_caption":
            path.with_suffix(".txt").write_text(f"A person turns their head, take {number}.")
    return truth


def write_broken(path: Path, kind: str, artist: Artist) -> None:
    """A file that no decoder takes."""
    if kind == "sound":
        write_sound(path)
    elif kind in ("truncated", "no_frames"):
        write_video(path, artist.shot(seconds=0.5), 12)
        data = path.read_bytes()
        # The index lies at the end; or only the head of the file is left.
        path.write_bytes(data[: len(data) * 2 // 3 if kind == "truncated" else 48])
    else:
        path.write_text("" if kind == "empty" else "This is no video.\n" * 20)


def reasons(lines: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """File and reason of every line of `clips.jsonl`."""
    for line in lines:
        found = json.loads(line)
        yield found["path"], found["reason"]
